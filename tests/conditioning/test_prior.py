"""The prior of cells' states: its density is scipy's, its draws are its own, and no component is a cell."""

import jax
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from scrdit_jax.conditioning.prior import Mixture, draw_mixture, fit_mixture, log_prob, mixed_weights
from scrdit_jax.conditioning.prior import mixture as module
from scrdit_jax.conditioning.prior import rare as rare_module
from scrdit_jax.conditioning.prior.mixture import LEAST_CELLS, MEMBERS

MIXTURE = Mixture(
    np.log(np.array([[0.7, 0.3], [0.1, 0.9]], np.float32)),
    np.array([[0.0, 1.0, -2.0], [4.0, -3.0, 1.0]], np.float32),
    np.array(
        [[[1.0, 0, 0], [0.5, 0.8, 0], [-0.2, 0.1, 0.4]], [[0.3, 0, 0], [0.9, 0.5, 0], [0.0, 0.0, 1.5]]], np.float32
    ),
)


def drawn(mixture, combination, seed=0):
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(np.arange(len(combination)))
    return np.asarray(jax.jit(draw_mixture)(mixture, np.asarray(combination, np.int32), keys))


def toy(cells=1500, seed=0):
    """Three clouds in four columns; combination 0 has the first two, combination 1 the last two."""
    rng = np.random.default_rng(seed)
    code = rng.integers(0, 2, cells)
    centre = np.where(rng.random(cells) < 0.3, 1, 2 * code)
    centres = np.array([[-4.0, 0, 0, 1], [0, 4, 0, 0], [4, 0, 2, 0]])
    skewed = rng.normal(size=(cells, 4)) @ np.array([[1, 0.6, 0, 0], [0, 0.5, 0, 0], [0, 0.3, 0.7, 0], [0, 0, 0, 0.9]])
    return centres[centre] + skewed, code


@pytest.fixture(scope="module")
def fitted():
    states, code = toy()
    return fit_mixture(states, code, 2, seed=0)


def test_density_is_that_of_scipy():
    states, code = np.random.default_rng(0).normal(size=(20, 3)) * 3, np.arange(20) % 2
    expected = sum(
        np.exp(MIXTURE.log_weights[code, j].astype(float))
        * multivariate_normal(MIXTURE.means[j], MIXTURE.factors[j].astype(float) @ MIXTURE.factors[j].T).pdf(states)
        for j in range(2)
    )
    np.testing.assert_allclose(log_prob(MIXTURE, states, code), np.log(expected), rtol=1e-5)


@pytest.mark.parametrize("code", [0, 1])
def test_draws_have_the_moments_of_the_mixture(code):
    states = drawn(MIXTURE, np.full(40_000, code))
    weights, means = np.exp(MIXTURE.log_weights[code]), MIXTURE.means
    mean = weights @ means
    within = np.einsum("j,jab,jcb->ac", weights, MIXTURE.factors, MIXTURE.factors)
    covariance = within + np.einsum("j,ja,jb->ab", weights, means - mean, means - mean)
    np.testing.assert_allclose(states.mean(axis=0), mean, atol=0.06)
    np.testing.assert_allclose(np.cov(states.T), covariance, atol=0.12)


def test_a_state_is_that_of_its_key_in_any_batch():
    code = np.arange(30) % 2
    together = drawn(MIXTURE, code)
    assert together.dtype == np.float32
    np.testing.assert_array_equal(drawn(MIXTURE, code[:7]), together[:7])
    assert len(np.unique(together[:, 0])) == 30


def test_a_fit_finds_the_clouds_and_who_has_which(fitted):
    states, code = toy(1000, seed=1)
    assert 3 * MEMBERS <= len(fitted.means) <= 12 * MEMBERS
    # The entropy of what the cells were drawn from, by its own density.
    truth = log_prob(fit_mixture(*toy(20_000, seed=2), 2, seed=0, components=3), states, code).mean()
    assert abs(log_prob(fitted, states, code).mean() - truth) < 0.1
    of_first, of_second = drawn(fitted, [0] * 2000), drawn(fitted, [1] * 2000)
    assert (of_first[:, 0] > 2.5).mean() < 0.02
    np.testing.assert_allclose((of_second[:, 0] > 2).mean(), (states[code == 1][:, 0] > 2).mean(), atol=0.05)


def test_the_same_cells_and_seed_give_the_same_mixture(fitted):
    for one, other in zip(fitted, fit_mixture(*toy(), 2, seed=0), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_rare_combination_at_the_edge_of_another_has_states_of_its_own(monkeypatch):
    """30 cells beside one of eight clouds of 200: where chance begins no component, they are lost in it."""
    rng = np.random.default_rng(0)
    clouds = 6 * rng.normal(size=(8, 6))

    def rare(cells):
        return clouds[0] + np.array([1.4, 1.4, 0, 0, 0, 0]) + 0.4 * rng.normal(size=(cells, 6))

    states = np.vstack([*(cloud + 1.2 * rng.normal(size=(200, 6)) for cloud in clouds), rare(30)])
    code, unseen = np.repeat([0, 1], [1600, 30]), rare(500)
    density = {}
    for each in (rare_module.CELLS_A_DIMENSION, 6):
        monkeypatch.setattr(rare_module, "CELLS_A_DIMENSION", each)
        fit = fit_mixture(states, code, 2, seed=0)
        density[each] = log_prob(fit, unseen, np.ones(500, int)).mean(), log_prob(fit, states, code).mean()
    assert density[2][0] > density[6][0] + 0.5
    assert density[2][1] == pytest.approx(density[6][1], abs=0.1)


def test_a_combination_of_few_cells_has_a_component_with_its_nearest_neighbours():
    rng = np.random.default_rng(0)
    centre = np.array([6.0, -5, 4, 0])
    states = np.vstack([rng.normal(size=(900, 4)), centre + 0.5 * rng.normal(size=(9, 4)), rng.normal(size=(5, 4))])
    code = np.repeat([0, 1, 2], [900, 9, 5])
    fit = fit_mixture(states, code, 3, seed=0)
    np.testing.assert_allclose(np.exp(fit.log_weights).sum(axis=1), 1, rtol=1e-5)
    # Of the nine and the three nearest of the others; five cells have none.
    others, scale = states[code != 1], states.std(axis=0)
    nearest = others[np.argsort(np.linalg.norm((others - states[900:909].mean(axis=0)) / scale, axis=1))[:3]]
    np.testing.assert_allclose(fit.means[-1], np.vstack([states[900:909], nearest]).mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(np.exp(fit.log_weights[:, -1]), [0, rare_module.RARE_SHARE, 0], rtol=1e-5)
    found = drawn(fit, np.ones(2000, int))
    assert (np.linalg.norm(found - centre, axis=1) < np.linalg.norm(found, axis=1)).mean() > 0.6


def test_which_combinations_are_rare(monkeypatch):
    sizes = np.array([5, 6, 11, 12, 15, 16, 400])
    assert rare_module.rare_combinations(sizes, 8).tolist() == [1, 2, 3, 4]
    assert rare_module.rare_combinations(sizes, 2).tolist() == [1, 2]
    assert rare_module.rare_combinations(np.array([9]), 2).tolist() == []
    monkeypatch.setattr(rare_module, "MOST_RARE", 2)
    assert rare_module.rare_combinations(sizes, 8).tolist() == [3, 4]


def test_no_array_has_an_entry_for_each_cell(fitted):
    k, d = fitted.means.shape
    assert [array.shape for array in fitted] == [(2, k), (k, d), (k, d, d)]
    assert {array.dtype for array in fitted} == {np.dtype(np.float32)}
    assert {size for array in fitted for size in array.shape} == {2, k, d}


def test_a_cell_far_from_all_others_has_no_component():
    states, code = toy()
    states[0] = 60.0
    means = fit_mixture(states, code, 2, seed=0, components=16).means
    assert np.linalg.norm(means - 60.0, axis=1).min() > 60
    # A cloud of its own that is large enough has one.
    states[: 2 * LEAST_CELLS] += 60.0
    means = fit_mixture(states[1:], code[1:], 2, seed=0, components=16).means
    assert np.linalg.norm(means - 60.0, axis=1).min() < 10


@pytest.mark.parametrize(("cells", "d"), [(2, 14), (2, 1), (9, 14), (60, 14), (300, 1)])
def test_few_cells_and_few_columns(cells, d):
    states = np.random.default_rng(0).normal(size=(cells, d)) + 5
    mixture = fit_mixture(states, np.arange(cells) % 2, 3, seed=0)
    made = drawn(mixture, np.arange(500) % 3)
    assert made.shape == (500, d)
    assert np.isfinite(made).all()
    assert np.isfinite(log_prob(mixture, states, np.arange(cells) % 2)).all()
    np.testing.assert_allclose(made.mean(axis=0), states.mean(axis=0), atol=1)


@pytest.mark.parametrize("columns", [slice(0, 1), slice(None)])
def test_columns_that_do_not_vary_stay_as_they_are(columns):
    states, code = toy(200)
    states[:, columns] = 3.0
    made = drawn(fit_mixture(states, code, 2, seed=0), code)
    np.testing.assert_allclose(made[:, columns], 3.0, atol=1e-4)


def test_weights_of_many_combinations_are_of_more_cells_than_components_are_fitted_to(monkeypatch):
    """Of 200 combinations of 20 cells each, each from one of two clouds, 400 cells see two each: too few to tell."""
    rng = np.random.default_rng(0)
    code = np.repeat(np.arange(200), 20)
    states = rng.normal(size=(4000, 2)) + 8.0 * (code % 2)[:, None]
    monkeypatch.setattr(module, "MOST_CELLS", 400)
    found = fit_mixture(states, code, 200, seed=0, components=2)
    made = drawn(found, np.repeat(np.arange(200), 5))
    assert ((made[:, 0] > 4) == (np.repeat(np.arange(200), 5) % 2 == 1)).mean() > 0.98
    monkeypatch.setattr(module, "CELLS_OF_A_COMBINATION", 0)
    few = drawn(fit_mixture(states, code, 200, seed=0, components=2), np.repeat(np.arange(200), 5))
    assert ((few[:, 0] > 4) == (np.repeat(np.arange(200), 5) % 2 == 1)).mean() < 0.95


def test_responsibilities_are_summed_by_combination():
    rng = np.random.default_rng(0)
    responsibility, code = rng.random((300, 4)), rng.integers(0, 6, 300)
    cells = module._Cells.of(rng.normal(size=(300, 2)), code, 7)
    expected = [responsibility[code == k].sum(axis=0) for k in range(7)]
    np.testing.assert_array_equal(module._totals(cells, responsibility), expected)


def test_a_combination_of_two_cells_is_drawn_near_them_and_one_of_none_like_all():
    states, code = toy()
    rare = np.flatnonzero(states[:, 0] < -4)[:2]
    code[rare] = 2
    mixture = fit_mixture(states, code, 4, seed=0)
    assert (drawn(mixture, [2] * 1000)[:, 0] < -2).mean() > 0.4
    everywhere = np.bincount(code, minlength=4)
    np.testing.assert_allclose(mixed_weights(mixture, everywhere), mixture.log_weights[3], atol=0.05)
    np.testing.assert_allclose(mixed_weights(mixture, [0, 1, 0, 0]), mixture.log_weights[1], atol=1e-6)
