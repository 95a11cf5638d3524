import jax.numpy as jnp
import numpy as np
import pytest

from scrdit_jax.config import DiffusionConfig
from scrdit_jax.diffusion.forward import add_noise, clean_from_prediction, training_target
from scrdit_jax.diffusion.schedule import linear_schedule

ALPHA_BARS = linear_schedule(DiffusionConfig()).alpha_bars


def cells_and_noise(cells: int = 6, genes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    return 3 * random.standard_normal((cells, genes)) - 2, random.standard_normal((cells, genes))


def test_noisy_cells_are_those_of_equation_9_entry_by_entry():
    clean, noise = cells_and_noise()
    alpha_bar = ALPHA_BARS[[1, 10, 100, 500, 900, 1000]][:, None]
    slow = np.empty_like(clean)
    for i in range(len(clean)):
        for j in range(clean.shape[1]):
            slow[i, j] = np.sqrt(alpha_bar[i, 0]) * clean[i, j] + np.sqrt(1 - alpha_bar[i, 0]) * noise[i, j]
    np.testing.assert_allclose(add_noise(clean, noise, alpha_bar), slow, rtol=1e-12)


def test_noising_one_step_at_a_time_gives_the_same_distribution_as_equation_9():
    # Eq. 2 applied t times scales x_0 by prod sqrt(1 - beta) and adds variance up to 1 - abar.
    scale, variance = 1.0, 0.0
    for t in range(1, 301):
        alpha = ALPHA_BARS[t] / ALPHA_BARS[t - 1]
        scale, variance = np.sqrt(alpha) * scale, alpha * variance + 1 - alpha
    one, none = np.ones((1, 1)), np.zeros((1, 1))
    np.testing.assert_allclose(add_noise(one, none, ALPHA_BARS[300]), scale, rtol=1e-12)
    np.testing.assert_allclose(add_noise(none, one, ALPHA_BARS[300]) ** 2, variance, rtol=1e-12)


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
@pytest.mark.parametrize("t", [1, 2, 50, 500, 999, 1000])
def test_a_perfect_prediction_gives_the_clean_cells_back(prediction, t):
    clean, noise = cells_and_noise()
    alpha_bar = ALPHA_BARS[t].reshape(1, 1)
    noisy, target = add_noise(clean, noise, alpha_bar), training_target(prediction, clean, noise, alpha_bar)
    np.testing.assert_allclose(clean_from_prediction(prediction, noisy, target, alpha_bar), clean, atol=1e-6)


@pytest.mark.parametrize(("prediction", "t", "tolerance"), [("v", 1, 1e-5), ("v", 1000, 1e-5), ("epsilon", 500, 1e-4)])
def test_clean_cells_come_back_in_float32_under_jax(prediction, t, tolerance):
    clean, noise = (jnp.asarray(x, jnp.float32) for x in cells_and_noise())
    alpha_bar = jnp.full((1, 1), ALPHA_BARS[t], jnp.float32)
    noisy, target = add_noise(clean, noise, alpha_bar), training_target(prediction, clean, noise, alpha_bar)
    back = clean_from_prediction(prediction, noisy, target, alpha_bar)
    assert back.dtype == jnp.float32
    np.testing.assert_allclose(back, clean, atol=tolerance)


def test_the_target_of_epsilon_is_the_noise_itself():
    clean, noise = cells_and_noise()
    assert training_target("epsilon", clean, noise, np.full((1, 1), 0.3)) is noise


def test_v_and_the_noisy_cells_are_a_rotation_of_noise_and_clean_cells():
    clean, noise = cells_and_noise()
    alpha_bar = np.full((1, 1), 0.37)
    noisy, v = add_noise(clean, noise, alpha_bar), training_target("v", clean, noise, alpha_bar)
    np.testing.assert_allclose(noisy**2 + v**2, clean**2 + noise**2, rtol=1e-12)
    np.testing.assert_allclose(np.sqrt(1 - alpha_bar) * noisy + np.sqrt(alpha_bar) * v, noise, rtol=1e-12)


def test_v_is_the_noise_where_nothing_is_noisy_and_minus_the_cells_where_all_is():
    clean, noise = cells_and_noise()
    np.testing.assert_array_equal(training_target("v", clean, noise, np.ones((1, 1))), noise)
    np.testing.assert_array_equal(training_target("v", clean, noise, np.zeros((1, 1))), -clean)
