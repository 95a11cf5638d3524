import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scrdit_jax.config import PREDICTIONS, DiffusionConfig
from scrdit_jax.data.scaling import Scaling
from scrdit_jax.diffusion.forward import add_noise
from scrdit_jax.diffusion.predictions import Epsilon, Velocity, ZeroInflated, make_prediction
from scrdit_jax.diffusion.schedule import linear_schedule

ALPHA_BARS = linear_schedule(DiffusionConfig()).alpha_bars
SCALING = Scaling(-10.0, -8.0, 4.0)


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
        assert np.isfinite(value) and np.isfinite(gradient).all()


def test_every_prediction_of_the_settings_can_be_made():
    assert {name: make_prediction(name, SCALING).outputs for name in PREDICTIONS} == {
        "epsilon": 1, "v": 1, "zero-inflated": 3,
    }  # fmt: skip
