"""Counts of multiplied rates: gamma-Poisson counts must become those of the multiplied rate, zeros among them."""

import itertools

import numpy as np
import pytest
from scipy import sparse, stats

from scrdit_jax.simulation import planting
from scrdit_jax.simulation.effects import Effects

CELLS = 40_000


def gamma_poisson(mean, shape, seed=0):
    """Counts (CELLS, 1) and the moments of their distribution, known exactly."""
    random = np.random.default_rng(seed)
    counts = random.poisson(random.gamma(shape, mean / shape, (CELLS, 1)))
    square = mean + mean**2 / shape + mean**2
    return counts, (np.full((CELLS, 1), mean), np.full((CELLS, 1), square))


@pytest.mark.parametrize(("mean", "shape"), [(0.05, 2.0), (0.6, 1.0), (3.0, 5.0), (40.0, 8.0)])
@pytest.mark.parametrize("factor", [0.1, 0.7, 1.3, 4.0, 16.0])
def test_counts_are_distributed_as_those_of_the_multiplied_rate(mean, shape, factor):
    counts, moments = gamma_poisson(mean, shape)
    uniform = np.random.default_rng(1).random((CELLS, 1))
    found = planting.multiplied(counts, np.full((CELLS, 1), factor), moments, uniform).ravel()
    wanted = stats.nbinom(shape, shape / (shape + factor * mean))
    assert abs(found.mean() - factor * mean) < 5 * wanted.std() / CELLS**0.5
    assert abs(np.mean(found == 0) - wanted.pmf(0)) < 5 * (0.25 / CELLS) ** 0.5
    assert abs(found.var() / wanted.var() - 1) < 0.2
    edges = np.unique(wanted.ppf(np.linspace(0, 1, 11)[1:-1]))
    seen = np.array([np.mean(found <= edge) for edge in edges])
    np.testing.assert_allclose(seen, wanted.cdf(edges), atol=0.012)


def test_a_count_moves_with_its_factor_and_stays_without():
    counts, moments = gamma_poisson(2.0, 3.0)
    uniform = np.random.default_rng(1).random((CELLS, 1))
    factors = (0.2, 0.9, 1.0, 1.1, 5.0)
    found = [planting.multiplied(counts, np.full((CELLS, 1), f), moments, uniform) for f in factors]
    np.testing.assert_array_equal(found[2], counts)
    for lower, higher in itertools.pairwise(found):
        assert np.all(lower <= higher)
        assert np.any(lower < higher)


def test_rates_are_those_of_the_moments_but_for_what_these_cannot_tell():
    mean, shape = planting.rates(np.array([2.0, 2.0, 0.01, 0.0]), np.array([8.0, 6.0, 0.012, 0.0]))
    np.testing.assert_allclose(mean[:3], [2.0, 2.0, 0.01])
    # Var = 4 = 2 + 4 / theta; then Poisson counts, and a rare gene of theta 0.05, which is no overdispersion.
    np.testing.assert_allclose(shape[:3], [2.0, planting.GREATEST_SHAPE, planting.LEAST_SHAPE])
    assert mean[3] > 0


def test_nothing_is_raised_without_knowing_rates():
    with pytest.raises(ValueError, match="nothing is known"):
        planting.multiplied(np.ones((2, 2), np.int32), np.full((2, 2), 2.0), None, np.zeros((2, 2)))


def test_uniform_numbers_are_those_of_the_cell():
    one = planting.uniforms(7, planting.EFFECTS, np.arange(10, 20), 30)
    np.testing.assert_array_equal(one[3:5], planting.uniforms(7, planting.EFFECTS, np.array([13, 14]), 30))
    assert not np.any(one == planting.uniforms(7, planting.SOUP, np.arange(10, 20), 30))
    assert stats.kstest(one.ravel(), "uniform").pvalue > 1e-3


def test_ambient_counts_keep_the_depth_and_have_the_batchs_profile():
    random = np.random.default_rng(2)
    counts = sparse.csr_matrix(random.poisson(2.0, (2000, 20)) * (np.arange(20) < 10))
    profiles = np.stack([np.repeat([0.0, 0.1], 10), np.full(20, 0.05)])
    batch = np.resize([0, 1], 2000)
    found, ambient = planting.contaminated(counts, 0.25, profiles, batch, 3, 100)
    total = counts.sum()
    assert abs(found.sum() / total - 1) < 0.02
    assert abs(ambient.sum() / total - 0.25) < 0.02
    # In the first batch all that is ambient lies in genes that no cell has by itself.
    foreign = np.asarray(found[:, 10:].sum(axis=1)).ravel()
    np.testing.assert_array_equal(foreign[batch == 0], ambient[batch == 0])
    assert abs(foreign[batch == 1].sum() / ambient[batch == 1].sum() - 0.5) < 0.03


def test_effects_are_as_many_and_as_strong_as_asked():
    from scrdit_jax.config import SimulationConfig

    config = SimulationConfig(groups=3, de_share=0.1, up_share=0.3, log2_fold_change=(0.5, 2), batches=4,
                              batch_strength=0.7, batch_share=0.5, batch_depth=0.2)  # fmt: skip
    effects = Effects.draw(config, ("group_1", "group_2", "group_3"), 1000, 5)
    changes = effects.fold_changes
    assert not changes[0].any()
    for row in changes[1:]:
        assert (np.sum(row > 0), np.sum(row < 0)) == (30, 70)
        strength = np.abs(row[row != 0])
        assert strength.min() >= 0.5
        assert strength.max() <= 2
        assert stats.kstest(strength, stats.uniform(0.5, 1.5).cdf).pvalue > 1e-3
    assert not np.array_equal(changes[1] != 0, changes[2] != 0)
    assert np.sum(np.any(effects.batches != 0, axis=0)) == 500
    assert abs(effects.batches[effects.batches != 0].std() - 0.7) < 0.05
    np.testing.assert_allclose(effects.factors(1, 2), 2 ** (changes[1] + effects.batches[2]))
    np.testing.assert_allclose(effects.factors(-1, 2), 2 ** effects.batches[2])
    without = SimulationConfig(groups=3, de_share=0.1, up_share=0.3, log2_fold_change=(0.5, 2))
    np.testing.assert_array_equal(Effects.draw(without, effects.categories, 1000, 5).fold_changes, changes)
