import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from scrdit_jax.config import DiffusionConfig
from scrdit_jax.data.scaling import Scaling
from scrdit_jax.diffusion.forward import add_noise
from scrdit_jax.diffusion.predictions import (
    PREDICTIONS,
    Epsilon,
    Velocity,
    ZeroInflated,
    is_distribution,
    make_prediction,
)
from scrdit_jax.diffusion.schedule import linear_schedule

ALPHA_BARS = linear_schedule(DiffusionConfig()).alpha_bars
SCALING = Scaling(-10.0, -8.0, 4.0, quantiles=((0.5, 1.0, 1.5, 2.5, 5.0),) * 7)


def cells_and_noise(cells: int = 6, genes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    return 3 * random.standard_normal((cells, genes)) - 2, random.standard_normal((cells, genes))


def velocity(clean, noise, alpha_bar):
    return np.sqrt(alpha_bar) * noise - np.sqrt(1 - alpha_bar) * clean


@pytest.mark.parametrize("t", [1, 2, 50, 500, 999, 1000])
def test_a_perfect_prediction_has_no_error_and_gives_the_clean_cells_back(t):
    clean, noise = cells_and_noise()
    alpha_bar = ALPHA_BARS[t].reshape(1, 1)
    noisy = add_noise(clean, noise, alpha_bar)
    for prediction, target in ((Epsilon(), noise), (Velocity(), velocity(clean, noise, alpha_bar))):
        np.testing.assert_allclose(prediction.clean(noisy, target, alpha_bar), clean, atol=1e-6)
        assert np.abs(prediction.error(clean, noise, noisy, target, alpha_bar)).max() < 1e-12
        np.testing.assert_allclose(prediction.error(clean, noise, noisy, target + 0.5, alpha_bar), 0.5, rtol=1e-9)


@pytest.mark.parametrize(("prediction", "t", "tolerance"), [("v", 1, 1e-5), ("v", 1000, 1e-5), ("epsilon", 500, 1e-4)])
def test_clean_cells_come_back_in_float32_under_jax(prediction, t, tolerance):
    clean, noise = (jnp.asarray(x, jnp.float32) for x in cells_and_noise())
    alpha_bar = jnp.full((1, 1), ALPHA_BARS[t], jnp.float32)
    noisy = add_noise(clean, noise, alpha_bar)
    target = noise if prediction == "epsilon" else jnp.asarray(velocity(clean, noise, alpha_bar))
    back = make_prediction(prediction, SCALING).clean(noisy, target, alpha_bar)
    assert back.dtype == jnp.float32
    np.testing.assert_allclose(back, clean, atol=tolerance)


def test_v_and_the_noisy_cells_are_a_rotation_of_noise_and_clean_cells():
    clean, noise = cells_and_noise()
    alpha_bar = np.full((1, 1), 0.37)
    noisy, v = add_noise(clean, noise, alpha_bar), velocity(clean, noise, alpha_bar)
    np.testing.assert_allclose(noisy**2 + v**2, clean**2 + noise**2, rtol=1e-12)
    assert np.abs(Velocity().error(clean, noise, noisy, v, alpha_bar)).max() < 1e-12


def posterior_mean_by_quadrature(noisy, alpha_bar, odds, mean, deviation, zero):
    """E[x_0 | x_t] of (1 - p) at `zero` and p N(mean, deviation^2), by summing over a fine grid: no closed form."""
    grid = np.linspace(mean - 12 * deviation, mean + 12 * deviation, 200_001)
    prior = odds / (1 + odds) * np.exp(-0.5 * ((grid - mean) / deviation) ** 2)
    prior *= odds / (1 + odds) / prior.sum()

    def likelihood(x):
        return np.exp(-0.5 * (noisy - np.sqrt(alpha_bar) * x) ** 2 / (1 - alpha_bar))

    weights, at_zero = prior * likelihood(grid), likelihood(zero) / (1 + odds)
    return (np.sum(weights * grid) + at_zero * zero) / (weights.sum() + at_zero)


@pytest.mark.parametrize("t", [150, 300, 600, 1000])
@pytest.mark.parametrize("noisy", [-1.5, 0.3, 2.0])
def test_zero_inflated_cells_are_the_posterior_mean(t, noisy):
    odds, mean, log_deviation = 0.3, 1.8, -0.4  # of a gene, on the log-expression scale
    prediction = make_prediction("zero-inflated", SCALING)
    predicted = jnp.asarray([[[np.log(odds), mean, log_deviation]]], jnp.float32)
    ours = prediction.clean(jnp.full((1, 1), noisy), predicted, jnp.full((1, 1), ALPHA_BARS[t], jnp.float32))
    slow = posterior_mean_by_quadrature(
        noisy, ALPHA_BARS[t], odds, SCALING.scale(np.array([mean]))[0], np.exp(log_deviation) / SCALING.std,
        SCALING.scale(np.zeros(1))[0],
    )  # fmt: skip
    assert float(ours[0, 0]) == pytest.approx(slow, rel=1e-4, abs=1e-4)


def test_the_error_of_zero_inflated_is_that_of_v():
    prediction = ZeroInflated(-0.5, -8.0, 4.0)
    clean, noise = cells_and_noise()
    alpha_bar = ALPHA_BARS[[1, 10, 100, 500, 900, 1000]][:, None]
    noisy = add_noise(clean, noise, alpha_bar)
    predicted = np.random.default_rng(0).standard_normal((*clean.shape, 3))
    guess = np.asarray(prediction.clean(noisy, predicted, alpha_bar), np.float64)
    as_velocity = (np.sqrt(alpha_bar) * noisy - guess) / np.sqrt(1 - alpha_bar)
    ours = prediction.error(clean, noise, noisy, predicted, alpha_bar)
    np.testing.assert_allclose(ours, as_velocity - velocity(clean, noise, alpha_bar), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("t", [1, 500, 1000])
def test_zero_inflated_is_finite_with_finite_gradients_whatever_comes(t):
    prediction = make_prediction("zero-inflated", SCALING)
    alpha_bar = jnp.full((1, 1), ALPHA_BARS[t], jnp.float32)
    noisy = jnp.asarray([[-40.0, 0.0, 40.0]])

    def total(predicted):
        return jnp.sum(prediction.clean(noisy, predicted, alpha_bar))

    for extreme in (-60.0, 0.0, 60.0):
        value, gradient = jax.value_and_grad(total)(jnp.full((1, 3, 3), extreme))
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()


def test_every_prediction_of_the_settings_can_be_made():
    assert {name: make_prediction(name, SCALING).outputs for name in PREDICTIONS} == {
        "epsilon": 1, "mixture": 10, "negative-binomial": 3, "quantised": 5, "v": 1, "zero-inflated": 3,
    }  # fmt: skip


# A zero-inflated prediction as a distribution.

PREDICTED = ZeroInflated(-0.5, -8.0, 4.0)
# Where nothing but noise is seen, the posterior is what the network says.
BLIND = jnp.full((1, 1), 1e-12)


def said(log_odds: float, mean: float, log_spread: float, genes: int = 1) -> jax.Array:
    """(1, genes, 3), on the log scale."""
    return jnp.broadcast_to(jnp.asarray([log_odds, mean, log_spread], jnp.float32), (1, genes, 3))


def drawn(predicted, *, key: int = 0, noise: float = 0.0) -> np.ndarray:
    keys = jax.random.split(jax.random.key(key), 1)
    return np.asarray(PREDICTED.draw(jnp.zeros(predicted.shape[:2]), predicted, BLIND, keys, noise=noise))[0]


@pytest.mark.parametrize("share", [1e-4, 0.03, 0.5, 0.999])
def test_a_million_draws_of_presence_have_the_right_frequency(share):
    cells = drawn(said(np.log(share / (1 - share)), 2.0, -1.0, genes=1_000_000))
    found = np.mean(cells != np.float32(PREDICTED.zero))
    assert abs(found - share) < 5 * np.sqrt(share * (1 - share) / 1e6)


@pytest.mark.parametrize("share", [0.002, 0.9])
def test_drawn_values_are_gaussian_however_rare_they_are(share):
    cells = drawn(said(np.log(share / (1 - share)), 2.0, np.log(0.3), genes=1_000_000))
    values = cells[cells != np.float32(PREDICTED.zero)].astype(np.float64) * 4.0 - 8.0
    assert stats.kstest((values - 2.0) / 0.3, "norm").pvalue > 0.01
    assert len(np.unique(values)) > 0.99 * len(values) or share > 0.5


def test_noise_widens_zeros_and_values_alike():
    log_odds, noise = np.log(0.5 / 0.5), 0.05
    cells = drawn(said(log_odds, 2.0, np.log(0.3), genes=200_000), noise=noise)
    zeros = cells < 1.0  # on the network's scale values lie around 2.5, ten deviations away
    assert abs(zeros.mean() - 0.5) < 0.006
    assert stats.kstest((cells[zeros] - PREDICTED.zero) / noise, "norm").pvalue > 0.01
    expected = np.sqrt((0.3 / 4.0) ** 2 + noise**2)
    assert stats.kstest((cells[~zeros] - 2.5) / expected, "norm").pvalue > 0.01


@pytest.mark.parametrize("log_odds", [-200.0, -90.0, 90.0, 200.0])
def test_what_is_certain_is_drawn_so_and_stays_finite(log_odds):
    cells = drawn(said(log_odds, 2.0, -1.0, genes=300_000), noise=0.1)
    assert np.isfinite(cells).all()
    assert np.all((cells > 1.0) == (log_odds > 0))


def test_a_drawn_cell_depends_on_its_key_alone():
    predicted = jnp.asarray(np.random.default_rng(0).normal(size=(3, 50, 3)), jnp.float32)
    noisy, keys = jnp.zeros((3, 50)), jax.random.split(jax.random.key(1), 3)
    whole = PREDICTED.draw(noisy, predicted, BLIND, keys)
    np.testing.assert_array_equal(PREDICTED.draw(noisy[1:2], predicted[1:2], BLIND, keys[1:2]), whole[1:2])
    assert not np.array_equal(PREDICTED.draw(noisy, predicted, BLIND, keys[::-1]), whole)


def test_the_mean_of_many_draws_is_the_clean_cell():
    predicted = jnp.asarray(np.random.default_rng(2).normal(size=(1, 8, 3)), jnp.float32)
    noisy, alpha_bar = jnp.full((1, 8), 0.4), jnp.full((1, 1), 0.2)
    keys = jax.random.split(jax.random.key(3), 40_000)
    spread = lambda x: jnp.broadcast_to(x, (40_000, *x.shape[1:]))  # noqa: E731
    cells = np.asarray(PREDICTED.draw(spread(noisy), spread(predicted), alpha_bar, keys), np.float64)
    error = cells.std(axis=0) / 200
    assert np.all(
        np.abs(cells.mean(axis=0) - np.asarray(PREDICTED.clean(noisy, predicted, alpha_bar))[0]) < 4.5 * error
    )


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_draws_at_a_level_that_tells_something_are_from_the_posterior(noise):
    """Oracle: prior times p(x_t | x_0) on a fine grid of x_0, and its point at zero; with `noise`, both convolved."""
    alpha_bar, noisy, share, mean, spread = 0.6, 0.9, 0.3, 2.5, 0.35
    grid = np.linspace(mean - 9 * spread, mean + 9 * spread, 20_001)
    seen = lambda x: stats.norm.pdf(noisy, np.sqrt(alpha_bar) * x, np.sqrt(1 - alpha_bar))  # noqa: E731
    of_values = share * stats.norm.pdf(grid, mean, spread) * seen(grid) * (grid[1] - grid[0])
    of_zero = (1 - share) * seen(PREDICTED.zero)
    present = of_values.sum() / (of_zero + of_values.sum())
    of_values /= of_values.sum()
    centre = np.sum(of_values * grid)
    deviation = np.sqrt(np.sum(of_values * (grid - centre) ** 2) + noise**2)

    predicted = said(np.log(share / (1 - share)), 4 * mean - 8, np.log(4 * spread), genes=400_000)
    keys = jax.random.split(jax.random.key(7), 1)
    cells = PREDICTED.draw(jnp.full((1, 400_000), noisy), predicted, jnp.full((1, 1), alpha_bar), keys, noise=noise)
    cells = np.sort(np.asarray(cells, np.float64)[0])
    if noise:
        cdf = (1 - present) * stats.norm.cdf(cells, PREDICTED.zero, noise)
        cdf += present * stats.norm.cdf(cells, centre, deviation)
        assert stats.kstest(cells, lambda x: cdf).pvalue > 0.01
        return
    values = cells[cells != PREDICTED.zero]
    error = np.sqrt(present * (1 - present) / len(cells))
    assert 0.1 < present < 0.9
    assert abs(len(values) / len(cells) - present) < 5 * error
    assert stats.kstest((values - centre) / deviation, "norm").pvalue > 0.01


def test_the_likelihood_is_that_of_bayes_rule():
    """Oracle: prior times p(x_t | x_0), normalised by summing over a fine grid of x_0."""
    alpha_bar, noisy, predicted = 0.3, 0.7, np.array([0.4, 1.5, np.log(0.8)])
    share, mean, spread = 1 / (1 + np.exp(-0.4)), (1.5 + 8.0) / 4.0, 0.8 / 4.0
    grid = np.linspace(mean - 10 * spread, mean + 10 * spread, 100_001)
    seen = lambda x: stats.norm.pdf(noisy, np.sqrt(alpha_bar) * x, np.sqrt(1 - alpha_bar))  # noqa: E731
    of_values = share * stats.norm.pdf(grid, mean, spread) * seen(grid)
    of_zero = (1 - share) * seen(PREDICTED.zero)
    whole = of_zero + of_values.sum() * (grid[1] - grid[0])

    def found(clean):
        arrays = (jnp.full((1, 1), x, jnp.float32) for x in (clean, noisy))
        return float(
            PREDICTED.log_likelihood(*arrays, jnp.asarray(predicted, jnp.float32)[None, None], alpha_bar)[0, 0]
        )

    assert found(PREDICTED.zero) == pytest.approx(np.log(of_zero / whole), abs=1e-4)
    for i in (48_000, 50_000, 55_000):
        assert found(grid[i]) == pytest.approx(np.log(of_values[i] / whole), abs=1e-3)


def test_guidance_moves_log_odds_and_means_and_leaves_spreads():
    one, none = said(1.0, 2.0, -1.0), said(0.5, 1.0, -2.0)
    np.testing.assert_allclose(PREDICTED.guide(one, [none], [1.0]), one)
    np.testing.assert_allclose(PREDICTED.guide(one, [none], [0.0])[0, 0], [0.5, 1.0, -1.0])
    np.testing.assert_allclose(PREDICTED.guide(one, [none], [3.0])[0, 0], [2.0, 4.0, -1.0])


def test_only_a_distribution_can_be_drawn_from():
    assert {name: is_distribution(name) for name in PREDICTIONS} == {
        "epsilon": False, "mixture": True, "negative-binomial": True, "quantised": True,
        "v": False, "zero-inflated": True,
    }  # fmt: skip


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_an_expressed_value_is_never_drawn_further_than_four_deviations_from_the_predicted_mean(side):
    """Bayes' rule up to there: x_0 | x_t has mean m + sqrt(abar) v (x_t - sqrt(abar) m) / (abar v + 1 - abar)."""
    prediction, spread, abar = ZeroInflated(-0.5, -8.0, 4.0), 0.2, 0.5
    mean = (2.0 + 8.0) / 4.0
    predicted = jnp.array([[[9.0, 2.0, np.log(spread * 4.0)]]])
    shift = np.sqrt(abar) * spread**2 / (abar * spread**2 + 1 - abar)
    for deviations, kept in ((1.0, 1.0), (3.9, 3.9), (4.2, 4.0), (400.0, 4.0)):
        noisy = np.sqrt(abar) * mean + side * deviations * spread / shift
        found = prediction.posterior(jnp.full((1, 1), noisy), predicted, abar)
        assert float(found.mean[0, 0]) == pytest.approx(mean + side * kept * spread, rel=1e-4)
        assert float(found.variance[0, 0]) == pytest.approx(
            spread**2 * (1 - abar) / (abar * spread**2 + 1 - abar), rel=1e-4
        )
