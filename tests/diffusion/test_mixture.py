"""A zero-inflated mixture of Gaussians, against Bayes' rule on a grid."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bayes_by_sums import OnGrid
from scipy import stats

from scrdit_jax.config import DiffusionConfig
from scrdit_jax.data.scaling import Scaling
from scrdit_jax.diffusion.predictions import ZeroInflated, make_prediction
from scrdit_jax.diffusion.predictions.mixture import Mixture
from scrdit_jax.diffusion.schedule import linear_schedule

SCALING = Scaling(-10.0, -8.0, 4.0)
MIXTURE = make_prediction("mixture", SCALING)
SHARE, WEIGHTS = 0.3, np.array([0.5, 0.2, 0.3])
MEANS, DEVIATIONS = np.array([0.8, 1.5, 3.0]), np.array([0.2, 0.1, 0.5])  # on the log scale
SAID = np.concatenate([[np.log(SHARE / (1 - SHARE))], np.log(WEIGHTS) + 1.7, MEANS, np.log(DEVIATIONS)])
CLEAN, DRAW, LIKELIHOOD = jax.jit(MIXTURE.clean), jax.jit(MIXTURE.draw), jax.jit(MIXTURE.log_likelihood)
LEVELS = [(0.9999, 2.3), (0.99, 2.5), (0.6, 1.6), (0.6, -0.4), (0.05, 0.7)]


class Two(Mixture):
    components = 2


def prior() -> OnGrid:
    grid = np.linspace(-1.5, 6.5, 80_002)  # zero is no point of it
    wide = np.maximum(DEVIATIONS, np.exp(-1.5))
    masses = sum(w * stats.norm.pdf(grid, m, d) for w, m, d in zip(WEIGHTS, MEANS, wide, strict=True))
    return OnGrid(SCALING.zero, 1 - SHARE, SCALING.scale(grid), SHARE * masses / masses.sum())


def said(genes: int = 1):
    return jnp.broadcast_to(jnp.asarray(SAID, jnp.float32), (1, genes, 10))


def at(alpha_bar, noisy, genes: int = 1):
    return jnp.full((1, genes), noisy, jnp.float32), jnp.full((1, 1), alpha_bar, jnp.float32)


@pytest.mark.parametrize(("alpha_bar", "noisy"), LEVELS)
def test_clean_cells_are_the_posterior_mean_and_likelihoods_its_log(alpha_bar, noisy):
    expected = prior().given(noisy, alpha_bar)
    x, level = at(alpha_bar, noisy)
    assert float(CLEAN(x, said(), level)[0, 0]) == pytest.approx(expected.mean, abs=2e-4)
    likely = np.flatnonzero(expected.masses > 1e-3 * expected.masses.max())[::500]
    clean = np.array([SCALING.zero, *expected.grid[likely]])
    found = LIKELIHOOD(
        jnp.asarray(clean[None], jnp.float32), *(np.broadcast_to(x, (1, len(clean))), said(len(clean)), level)
    )
    np.testing.assert_allclose(found[0, 1:], [expected.log_density(i) for i in likely], atol=3e-3)
    if expected.at_zero > 1e-30:
        assert float(found[0, 0]) == pytest.approx(np.log(expected.at_zero), abs=3e-3)


@pytest.mark.parametrize("noise", [0.0, 0.25])
@pytest.mark.parametrize(("alpha_bar", "noisy"), [(0.6, 1.6), (0.05, 0.7)])
def test_draws_are_from_the_posterior(alpha_bar, noisy, noise):
    """With `noise`, oracle draws are widened by NumPy's numbers and the two samples are compared."""
    genes, expected = 200_000, prior().given(noisy, alpha_bar)
    x, level = at(alpha_bar, noisy, genes)
    drawn = DRAW(x, said(genes), level, jax.random.split(jax.random.key(5), 1), noise=noise)
    drawn = np.asarray(drawn, np.float64)[0]
    if noise:
        random = np.random.default_rng(0)
        places = np.append(expected.grid, expected.zero)
        other = random.choice(places, 100_000, p=np.append(expected.masses, expected.at_zero))
        assert stats.ks_2samp(drawn, other + noise * random.standard_normal(len(other))).pvalue > 0.01
        return
    is_zero = drawn == np.float32(SCALING.zero)
    error = np.sqrt(expected.at_zero * (1 - expected.at_zero) / genes)
    assert abs(is_zero.mean() - expected.at_zero) < 5 * error + 1e-6
    assert stats.kstest(drawn[~is_zero], expected.value_cdf).pvalue > 0.01


def test_rare_genes_are_drawn_with_all_components():
    genes, share = 1_000_000, 0.002
    predicted = said(genes).at[..., 0].set(np.log(share / (1 - share)))
    drawn = DRAW(*at(1e-12, 0.0, genes)[:1], predicted, jnp.full((1, 1), 1e-12), jax.random.key(1)[None])
    values = np.asarray(drawn, np.float64)[0]
    values = values[values != np.float32(SCALING.zero)]
    assert abs(len(values) - share * genes) < 5 * np.sqrt(share * genes)
    assert stats.kstest(values, prior().value_cdf).pvalue > 0.01


def test_equal_components_are_the_zero_inflated_gaussian():
    one = ZeroInflated.for_scale(SCALING)
    random = np.random.default_rng(1)
    single = jnp.asarray(random.normal(size=(4, 9, 3)), jnp.float32)
    logits = jnp.asarray(random.normal(size=(4, 9, 3)), jnp.float32)
    three = jnp.concatenate([single[..., :1], logits, *(jnp.repeat(single[..., i : i + 1], 3, -1) for i in (1, 2))], -1)
    single = single.at[..., 2].set(jnp.maximum(single[..., 2], -1.5))
    noisy, level = jnp.asarray(random.normal(size=(4, 9)), jnp.float32), jnp.full((4, 1), 0.4)
    clean = jnp.where(jnp.arange(9)[None] < 4, SCALING.zero, noisy + 2)
    np.testing.assert_allclose(CLEAN(noisy, three, level), jax.jit(one.clean)(noisy, single, level), atol=1e-5)
    of_one = jax.jit(one.log_likelihood)(clean, noisy, single, level)
    np.testing.assert_allclose(LIKELIHOOD(clean, noisy, three, level), of_one, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("t", [1, 500, 1000])
@pytest.mark.parametrize("kind", [Two, Mixture])
def test_values_and_gradients_are_finite_whatever_comes(kind, t):
    mixture = kind.for_scale(SCALING)
    level = jnp.full((1, 1), linear_schedule(DiffusionConfig()).alpha_bars[t], jnp.float32)
    noisy, clean = jnp.asarray([[-40.0, 0.0, 40.0]]), jnp.asarray([[SCALING.zero, 2.3, 3.0]], jnp.float32)

    @jax.jit
    @jax.value_and_grad
    def total(predicted):
        return jnp.sum(mixture.clean(noisy, predicted, level)) + jnp.sum(
            mixture.log_likelihood(clean, noisy, predicted, level)
        )

    draw = jax.jit(mixture.draw)
    for extreme in (-60.0, 0.0, 60.0):
        predicted = jnp.full((1, 3, mixture.outputs), extreme).at[..., 1].set(-extreme)
        value, gradient = total(predicted)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
        assert np.isfinite(draw(noisy, predicted, level, jax.random.key(0)[None], noise=0.1)).all()


def test_a_drawn_cell_depends_on_its_key_alone():
    predicted = jnp.asarray(np.random.default_rng(0).normal(size=(3, 50, 10)), jnp.float32)
    noisy, keys, level = jnp.zeros((3, 50)), jax.random.split(jax.random.key(1), 3), jnp.full((1, 1), 0.1)
    whole = DRAW(noisy, predicted, level, keys)
    np.testing.assert_array_equal(DRAW(noisy[1:2], predicted[1:2], level, keys[1:2]), whole[1:2])


def test_guidance_moves_all_but_the_deviations():
    one, none = said(), jnp.zeros_like(said())
    np.testing.assert_array_equal(MIXTURE.guide(one, [none], [1.0]), one)
    np.testing.assert_array_equal(MIXTURE.guide(one, [none], [0.0])[0, 0], [*[0] * 7, *np.float32(SAID[7:])])
    np.testing.assert_allclose(MIXTURE.guide(one, [none], [2.0])[0, 0, :7], 2 * SAID[:7], rtol=1e-6)


@pytest.mark.parametrize("kind", [Two, Mixture])
def test_it_begins_at_the_marginals(kind):
    marginals = np.array([[-1.0, 2.0, -0.7], [3.0, 0.5, 0.2]], np.float32)
    bias, k = kind.for_scale(SCALING).initial_bias(marginals), kind.components
    assert bias.dtype == np.float32
    np.testing.assert_array_equal(bias[:, 0], marginals[:, 0])
    assert np.all(bias[:, 1 : 1 + k] == 0)
    means, deviations = bias[:, 1 + k : 1 + 2 * k], np.exp(bias[:, 1 + 2 * k :])
    np.testing.assert_allclose(means.mean(axis=1), marginals[:, 1], rtol=1e-6)
    variance = means.var(axis=1) + (deviations**2).mean(axis=1)
    np.testing.assert_allclose(variance, np.exp(2 * marginals[:, 2]), rtol=1e-5)
    assert np.all(np.diff(means, axis=1) > 0)
