import numpy as np

from scrdit_jax.config import DiffusionConfig
from scrdit_jax.diffusion.forward import add_noise
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
