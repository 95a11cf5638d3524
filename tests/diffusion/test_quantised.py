"""Bins of each gene's quantiles, against Bayes' rule on a grid."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bayes_by_sums import OnGrid
from scipy import stats

from scrdit_jax.config import DiffusionConfig, RunConfig
from scrdit_jax.data.scaling import Scaling
from scrdit_jax.diffusion.predictions import make_prediction
from scrdit_jax.diffusion.predictions._truncated import Truncated
from scrdit_jax.diffusion.schedule import linear_schedule
from scrdit_jax.errors import BadConfig

EDGES = np.array([0.7, 1.0, 1.01, 2.0, 4.0])  # one of them as narrow as they come
WEIGHTS, SHARE = np.array([0.2, 0.4, 0.1, 0.3]), 0.3
SCALING = Scaling(-10.0, -8.0, 4.0, quantiles=(tuple(EDGES),))
QUANTISED = make_prediction("quantised", SCALING)
CLEAN, DRAW, LIKELIHOOD = jax.jit(QUANTISED.clean), jax.jit(QUANTISED.draw), jax.jit(QUANTISED.log_likelihood)
SAID = jnp.asarray([[[np.log(SHARE / (1 - SHARE)), *(np.log(WEIGHTS) - 2)]]], jnp.float32)
# From little noise to much; a noisy value between, and far from all there is.
LEVELS = [(0.9999, 2.26), (0.99, 2.25), (0.6, 1.8), (0.6, 6.0), (0.6, -0.4), (0.05, 0.7), (1e-6, -1.0)]


def prior() -> OnGrid:
    grid = np.linspace(EDGES[0], EDGES[-1], 330_001)[:-1] + 5e-6
    masses = (WEIGHTS / np.diff(EDGES))[np.searchsorted(EDGES, grid) - 1]
    return OnGrid(SCALING.zero, 1 - SHARE, SCALING.scale(grid), SHARE * masses / masses.sum())


def at(alpha_bar, noisy):
    return jnp.full((1, 1), noisy, jnp.float32), SAID, jnp.full((1, 1), alpha_bar, jnp.float32)


@pytest.mark.parametrize(("alpha_bar", "noisy"), LEVELS)
def test_clean_cells_are_the_posterior_mean_and_likelihoods_its_log(alpha_bar, noisy):
    expected = prior().given(noisy, alpha_bar)
    assert float(CLEAN(*at(alpha_bar, noisy))[0, 0]) == pytest.approx(expected.mean, abs=2e-4)
    likely = np.flatnonzero(expected.masses > 1e-3 * expected.masses.max())
    for i in likely[:: max(len(likely) // 7, 1)]:
        found = LIKELIHOOD(jnp.full((1, 1), expected.grid[i], jnp.float32), *at(alpha_bar, noisy))
        assert float(found[0, 0]) == pytest.approx(expected.log_density(i), abs=1e-2)
    if expected.at_zero > 1e-30:
        found = LIKELIHOOD(jnp.full((1, 1), SCALING.zero, jnp.float32), *at(alpha_bar, noisy))
        assert float(found[0, 0]) == pytest.approx(np.log(expected.at_zero), abs=1e-2)


@pytest.mark.parametrize(("alpha_bar", "noisy"), LEVELS)
def test_draws_are_from_the_posterior(alpha_bar, noisy):
    cells, expected = 20_000, prior().given(noisy, alpha_bar)
    x, said, level = at(alpha_bar, noisy)
    keys = jax.random.split(jax.random.key(1), cells)
    drawn = DRAW(jnp.broadcast_to(x, (cells, 1)), jnp.broadcast_to(said, (cells, 1, 5)), level, keys)
    drawn = np.asarray(drawn, np.float64)[:, 0]
    is_zero = drawn == np.float32(SCALING.zero)
    error = np.sqrt(expected.at_zero * (1 - expected.at_zero) / cells)
    assert abs(is_zero.mean() - expected.at_zero) < 4 * error + 1e-4
    if (~is_zero).sum() > 100:
        assert stats.kstest(drawn[~is_zero], expected.value_cdf).pvalue > 0.01


def test_noise_widens_what_is_drawn():
    keys, (x, said, level) = jax.random.split(jax.random.key(1), 500), at(0.6, 1.8)
    args = jnp.broadcast_to(x, (500, 1)), jnp.broadcast_to(said, (500, 1, 5)), level, keys
    still, once, twice = (np.asarray(DRAW(*args, noise=noise)) for noise in (0.0, 0.1, 0.2))
    np.testing.assert_allclose(twice - still, 2 * (once - still), atol=1e-6)
    assert stats.kstest((once - still)[:, 0] / 0.1, "norm").pvalue > 0.01


@pytest.mark.parametrize("t", [1, 500, 1000])
def test_values_and_gradients_are_finite_whatever_comes(t):
    level = jnp.full((5, 1), linear_schedule(DiffusionConfig()).alpha_bars[t], jnp.float32)
    noisy = jnp.asarray([-40.0, 0.0, 2.3, 3.0, 40.0])[:, None]
    # A zero, values within and beyond the edges.
    clean = jnp.asarray([SCALING.zero, 2.0, 2.25, 3.0, 5.0], jnp.float32)[:, None]

    @jax.jit
    @jax.value_and_grad
    def total(predicted):
        mean, likelihood = CLEAN(noisy, predicted, level), LIKELIHOOD(clean, noisy, predicted, level)
        return jnp.sum(mean) + jnp.sum(likelihood)

    for extreme in (-60.0, 0.0, 60.0):
        predicted = jnp.full((5, 1, 5), extreme).at[..., 1].set(-extreme)
        value, gradient = total(predicted)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
        drawn = np.asarray(DRAW(noisy, predicted, level, jax.random.split(jax.random.key(0), 5)))
        low, high = SCALING.scale(EDGES[[0, -1]])
        assert np.all((drawn == np.float32(SCALING.zero)) | ((drawn >= low - 1e-6) & (drawn <= high + 1e-6)))


def test_guidance_moves_all():
    none = jnp.zeros_like(SAID)
    np.testing.assert_array_equal(QUANTISED.guide(SAID, [none], [1.0]), SAID)
    np.testing.assert_array_equal(QUANTISED.guide(SAID, [none], [0.0]), none)


def test_it_begins_with_equal_bins_of_the_marginal_probability():
    bias = QUANTISED.initial_bias(np.array([[-1.2, 3.0, 0.5]], np.float32))
    np.testing.assert_array_equal(bias, np.float32([[-1.2, 0, 0, 0, 0]]))


def test_quantiles_are_asked_for_where_there_are_none():
    with pytest.raises(BadConfig, match="prepared without; set quantiles"):
        make_prediction("quantised", Scaling(-10.0, -8.0, 4.0))
    assert RunConfig.from_dict({"diffusion": {"prediction": "quantised"}}).data.quantiles == 12
    config = {"diffusion": {"prediction": "quantised"}, "data": {"quantiles": 5}}
    assert RunConfig.from_dict(config).data.quantiles == 5
    assert RunConfig.from_dict({"diffusion": {"prediction": "mixture"}}).data.quantiles == 0


UNIFORM = np.float32([0.001, 0.2, 0.5, 0.9, 0.999])


@jax.jit
def between(low, high):
    within = Truncated.between(low, high)
    return within.log_mean_density(), within.mean_place(), within.place(UNIFORM)


@pytest.mark.parametrize("length", [1e-5, 0.05, 0.2, 3.0, 40.0])
@pytest.mark.parametrize("low", [-60.0, -9.5, -1.0, -0.02, 0.3, 8.0, 30.0])
def test_a_normal_between_two_bounds_is_that_of_scipy(low, length):
    """Oracle: 400-point Gauss-Legendre quadrature where the mass is."""
    low, high = np.float32(low), np.float32(low + length)
    end = float(np.clip(0, low, high))  # where the density is greatest
    reach = 40 / max(abs(end), 4)
    a, b = max(float(low), end - reach), min(float(high), end + reach)
    nodes, weights = np.polynomial.legendre.leggauss(400)
    z, weights = a + (b - a) * (nodes + 1) / 2, weights * (b - a) / 2
    weights = weights * np.exp(0.5 * (end**2 - z**2))
    log_mean, mean, places = (np.asarray(x, np.float64) for x in between(*(np.full(5, x) for x in (low, high))))
    whole, size = weights.sum(), float(high) - float(low)
    assert log_mean[0] == pytest.approx(np.log(whole / size) - 0.5 * end**2, abs=4e-3, rel=1e-6)
    scale = min(size, 1.0, 1 / max(abs(end), 1))
    assert abs(mean[0] * size - (np.sum(weights * z) / whole - low)) < 0.012 * scale + 1e-6 * abs(low)
    reached = np.interp(low + places * size, z, np.cumsum(weights) / whole)
    # From the end where it is denser, which is the upper one below 0.
    expected = UNIFORM if low + high > 0 else 1 - UNIFORM
    np.testing.assert_allclose(reached, expected, atol=2e-2)
