"""Zero-inflated negative binomial counts, against SciPy's and Bayes' rule over every count."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from scrdit_jax.config import DiffusionConfig
from scrdit_jax.data.scaling import Scaling
from scrdit_jax.diffusion.predictions import make_prediction
from scrdit_jax.diffusion.predictions._counts import INTERVALS, CountPrior
from scrdit_jax.diffusion.schedule import linear_schedule
from scrdit_jax.errors import BadConfig

SCALING = Scaling(-10.0, -8.0, 4.0)
HEAD = make_prediction("negative-binomial", SCALING)
FACTOR = 0.3  # library size over target sum
COUNTS = np.arange(5000)
PLACES = np.where(COUNTS == 0, SCALING.zero, SCALING.scale(np.log1p(COUNTS / FACTOR)))
PRIOR = jax.jit(CountPrior.of)


@jax.jit
def clean_of(noisy, predicted, level, size):
    return HEAD.for_cells(size).clean(noisy, predicted, level)


@jax.jit
def draw_of(noisy, predicted, level, keys, size, noise=0.0):
    return HEAD.for_cells(size).draw(noisy, predicted, level, keys, noise=noise)


@jax.jit
def likelihood_of(clean, noisy, predicted, level, size):
    return HEAD.for_cells(size).log_likelihood(clean, noisy, predicted, level)


def sizes(cells: int):
    return jnp.full(cells, np.log(FACTOR), jnp.float32)


def said(mean: float, dispersion: float, kept: float = 0.8):
    """(1, 1, 3) of a gene of this mean count in a cell of FACTOR, which `kept` of its cells do not switch off."""
    return jnp.asarray([[[np.log(kept / (1 - kept)), np.log(mean / FACTOR), np.log(dispersion)]]], jnp.float32)


def posterior(mean, dispersion, noisy, alpha_bar, kept=0.8) -> np.ndarray:
    """Of each of COUNTS."""
    log_prior = np.log(kept) + stats.nbinom.logpmf(COUNTS, dispersion, dispersion / (dispersion + mean))
    log_prior[0] = np.logaddexp(log_prior[0], np.log(1 - kept))
    log_weights = log_prior - 0.5 * (noisy - np.sqrt(alpha_bar) * PLACES) ** 2 / (1 - alpha_bar)
    weights = np.exp(log_weights - log_weights.max())
    return weights / weights.sum()


@pytest.mark.parametrize("dispersion", [0.02, 0.3, 1.0, 5.0, 54.0])
@pytest.mark.parametrize(
    ("mean", "error"), [(1e-4, 3e-4), (0.1, 3e-4), (8, 3e-4), (40, 3e-4), (300, 0.01), (3000, 0.05)]
)
def test_the_weights_are_those_of_scipy(mean, error, dispersion):
    """Those of zero and of every count exactly, those of intervals as well as is said in `_counts`."""
    found = PRIOR(*(jnp.full((1, 1), x, jnp.float32) for x in (1.5, np.log(mean), np.log(dispersion))))
    known = stats.nbinom(dispersion, dispersion / (dispersion + mean))
    masses = np.diff(known.cdf(np.array([*range(1, 16), *INTERVALS]) - 1))
    assert 0.5 * np.abs(np.exp(found.log_weights)[:, 0, 0] - masses / masses.sum()).sum() < error
    present = (1 - known.pmf(0)) / (1 + np.exp(-1.5))
    assert float(found.log_odds[0, 0]) == pytest.approx(np.log(present / (1 - present)), abs=1e-4)
    counts = np.array([1, 2, 15, 16, 30, 1000])
    for_each = CountPrior(*(np.repeat(x, 6, axis=-1) for x in found))
    expected = known.logpmf(counts) - np.log(known.sf(0))
    np.testing.assert_allclose(
        for_each.log_weight(jnp.asarray(counts[None], jnp.float32))[0], expected, atol=1e-3, rtol=1e-5
    )


LEVELS = [
    (2.0, 0.5, 0.999, 2.3),
    (2.0, 0.5, 0.6, 1.6),
    (2.0, 0.5, 0.6, -0.5),
    (2.0, 0.5, 1e-6, 0.3),
    (60.0, 3.0, 0.7, 2.7),
]


@pytest.mark.parametrize(("mean", "dispersion", "alpha_bar", "noisy"), LEVELS)
def test_clean_cells_are_the_posterior_mean(mean, dispersion, alpha_bar, noisy):
    expected = np.sum(posterior(mean, dispersion, noisy, alpha_bar) * PLACES)
    found = clean_of(jnp.full((1, 1), noisy), said(mean, dispersion), jnp.full((1, 1), alpha_bar), sizes(1))
    assert float(found[0, 0]) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize(("mean", "dispersion", "alpha_bar", "noisy"), LEVELS)
def test_likelihoods_are_those_of_bayes_rule_and_sum_to_one(mean, dispersion, alpha_bar, noisy):
    weights, cells = posterior(mean, dispersion, noisy, alpha_bar), len(COUNTS)
    found = likelihood_of(
        jnp.asarray(PLACES[:, None], jnp.float32),
        jnp.full((cells, 1), noisy),
        jnp.broadcast_to(said(mean, dispersion), (cells, 1, 3)),
        jnp.full((1, 1), alpha_bar),
        sizes(cells),
    )[:, 0]
    assert np.exp(np.asarray(found, np.float64)).sum() == pytest.approx(1, abs=0.01)
    likely = weights > 1e-6
    np.testing.assert_allclose(found[likely], np.log(weights[likely]), atol=0.03)


@pytest.mark.parametrize(("mean", "dispersion", "alpha_bar", "noisy"), LEVELS)
def test_draws_are_whole_counts_from_the_posterior(mean, dispersion, alpha_bar, noisy):
    cells, weights = 20_000, posterior(mean, dispersion, noisy, alpha_bar)
    args = jnp.full((cells, 1), noisy), jnp.broadcast_to(said(mean, dispersion), (cells, 1, 3))
    keys = jax.random.split(jax.random.key(1), cells)
    drawn = np.asarray(draw_of(*args, jnp.full((1, 1), alpha_bar), keys, sizes(cells)), np.float64)[:, 0]
    counts = np.where(drawn == np.float32(SCALING.zero), 0, np.expm1(drawn * 4.0 - 8.0) * FACTOR)
    np.testing.assert_allclose(counts, np.round(counts), rtol=1e-4, atol=1e-4)
    # Single counts, then in intervals (which are coarse: that of every count is only about right).
    bounds = np.unique([*range(17), *INTERVALS, 1 << 16]) - 0.5
    expected, found = np.histogram(COUNTS, bounds, weights=weights)[0], np.histogram(counts, bounds)[0]
    # The bound of Kolmogorov and Smirnov at 1 %, which for steps is a cautious one.
    assert np.abs(np.cumsum(found / cells - expected)).max() < 1.63 / np.sqrt(cells)


def test_within_an_interval_counts_are_drawn_alike():
    cells, level = 20_000, jnp.full((1, 1), 1e-10)
    args = jnp.zeros((cells, 1)), jnp.broadcast_to(said(4000.0, 0.1, kept=0.9999), (cells, 1, 3)), level
    drawn = draw_of(*args, jax.random.split(jax.random.key(2), cells), sizes(cells))
    counts = np.round(np.expm1(np.asarray(drawn, np.float64)[:, 0] * 4.0 - 8.0) * FACTOR)
    within = counts[(counts >= 32) & (counts < 40)]
    shares = np.log((np.arange(32, 40) + 0.5 + FACTOR) / (np.arange(32, 40) - 0.5 + FACTOR))
    found = np.bincount(within.astype(int) - 32, minlength=8)
    assert stats.chisquare(found, shares / shares.sum() * len(within)).pvalue > 0.01


def test_noise_widens_what_is_drawn():
    keys, level = jax.random.split(jax.random.key(5), 500), jnp.full((1, 1), 0.6)
    args = jnp.full((500, 1), 1.6), jnp.broadcast_to(said(2.0, 0.5), (500, 1, 3)), level, keys, sizes(500)
    still, once = (np.asarray(draw_of(*args, noise=noise)) for noise in (0.0, 0.1))
    assert stats.kstest((once - still)[:, 0] / 0.1, "norm").pvalue > 0.01


@jax.jit
@jax.value_and_grad
def clean_and_likelihood(predicted, clean, noisy, level, size):
    bound = HEAD.for_cells(size)
    likelihood = bound.log_likelihood(clean, noisy, predicted, level)
    return jnp.sum(bound.clean(noisy, predicted, level)) + jnp.sum(likelihood)


def test_values_and_gradients_are_finite_whatever_comes():
    noisy = jnp.asarray([-40.0, 0.0, 2.3, 3.0, 40.0])[:, None]
    clean = jnp.asarray([SCALING.zero, 2.4, 2.8, 3.5, 5.0], jnp.float32)[:, None]
    size = jnp.asarray([-8.0, -2.0, -1.0, 0.0, 4.0])
    for t in (1, 500, 1000):
        level = jnp.full((5, 1), linear_schedule(DiffusionConfig()).alpha_bars[t], jnp.float32)
        for extreme in (-60.0, 0.0, 60.0):
            predicted = jnp.full((5, 1, 3), extreme).at[..., 1].set(-extreme)
            value, gradient = clean_and_likelihood(predicted, clean, noisy, level, size)
            assert np.isfinite(value)
            assert np.isfinite(gradient).all()
            drawn = draw_of(noisy, predicted, level, jax.random.split(jax.random.key(0), 5), size, noise=0.1)
            assert np.isfinite(drawn).all()


def test_log_spacing_is_the_derivative_of_values_by_counts():
    bound = HEAD.for_cells(sizes(1))
    for count in (1.0, 20.0, 500.0):
        ends = (SCALING.scale(np.log1p((count + step) / FACTOR)) for step in (-1e-3, 1e-3))
        slope = -np.subtract(*ends) / 2e-3
        place = jnp.full((1, 1), SCALING.scale(np.log1p(count / FACTOR)))
        assert float(bound.log_spacing(place)[0, 0]) == pytest.approx(np.log(slope), abs=1e-4)


def test_guidance_moves_all_but_the_dispersion():
    one, none = said(2.0, 0.5), jnp.zeros((1, 1, 3))
    np.testing.assert_array_equal(HEAD.guide(one, [none], [1.0]), one)
    np.testing.assert_array_equal(HEAD.guide(one, [none], [0.0]), none.at[..., 2].set(one[..., 2]))


def test_it_begins_with_the_mean_expression_of_the_marginals():
    share, mean, deviation = 0.2, 1.4, 0.5
    marginals = np.array([[np.log(share / (1 - share)), mean, np.log(deviation)]], np.float32)
    log_odds, log_rate, log_dispersion = HEAD.initial_bias(marginals)[0]
    random = np.random.default_rng(0)
    simulated = share * np.expm1(random.normal(mean, deviation, 1_000_000)).mean()
    assert np.exp(log_rate) / (1 + np.exp(-log_odds)) == pytest.approx(simulated, rel=0.01)
    assert log_dispersion == 0


def test_library_sizes_are_asked_for_and_a_bound_one_is_not_static():
    with pytest.raises(BadConfig, match="needs each cell's library size"):
        HEAD.for_cells(None)
    with pytest.raises(BadConfig, match="needs each cell's library size"):
        HEAD.clean(jnp.zeros((1, 1)), said(1.0, 1.0), jnp.full((1, 1), 0.5))
    bound = HEAD.for_cells(sizes(1))
    with pytest.raises(TypeError, match="unhashable"):
        hash(bound)
    assert bound.for_cells(sizes(2)).log_size.shape == (2,)
