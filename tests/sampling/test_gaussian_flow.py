"""Cells that are N(mean, variance) have a denoiser and a flow in closed form: what a solver converges to, and how fast.

E[x_0 | x_t] = m + sqrt(abar) v / (abar v + 1 - abar) (x_t - sqrt(abar) m), and the probability-flow ODE carries x_t to
x_s = sqrt(abar_s) m + (x_t - sqrt(abar_t) m) sqrt((abar_s v + 1 - abar_s) / (abar_t v + 1 - abar_t)).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scrdit_jax.config import DiffusionConfig
from scrdit_jax.diffusion.schedule import linear_schedule
from scrdit_jax.diffusion.timesteps import make_timesteps
from scrdit_jax.sampling.sampler import cell_keys, integrate
from scrdit_jax.sampling.solvers import SOLVERS, Coefficients, NoiseLevels, make_coefficients, noise_levels

MEAN, VARIANCE = np.array([[0.5, -2.0, 1.0, 0.0]]), np.array([[0.25, 0.04, 1.0, 3.0]])  # (1, gene)
SCHEDULE = linear_schedule(DiffusionConfig())


def expected_clean(x, alpha_bar):
    """E[x_0 | x_t]; NumPy or JAX."""
    gain = alpha_bar**0.5 * VARIANCE / (alpha_bar * VARIANCE + 1 - alpha_bar)
    return MEAN + gain * (x - alpha_bar**0.5 * MEAN)


def flow(x: np.ndarray, alpha_bar: float, following: float) -> np.ndarray:
    """Where the probability-flow ODE carries x from one level to another."""
    spread = [np.sqrt(abar * VARIANCE + 1 - abar) for abar in (alpha_bar, following)]
    return np.sqrt(following) * MEAN + (x - np.sqrt(alpha_bar) * MEAN) * spread[1] / spread[0]


def log_snr_levels(steps: int, first: float = -8.0, last: float = 4.0) -> NoiseLevels:
    """Real-valued levels at equal distances in log-SNR, ending before t = 0 so that every step has a size.

    Two tiny steps come first: a solver of third order begins with one of first order, whose error would show.
    """
    even = np.linspace(first, last, steps + 1)
    tiny = (even[1] - even[0]) ** 2 / 16
    alpha_bars = 1 / (1 + np.exp(-np.concatenate([[first, first + tiny, first + 2 * tiny], even[1:]])))
    return NoiseLevels(np.arange(steps + 2, 0, -1), alpha_bars[:-1], alpha_bars[1:])


DETERMINISTIC = [name for name in SOLVERS if not make_coefficients(name, log_snr_levels(20)).s.any()]


@pytest.mark.parametrize("solver", DETERMINISTIC)
def test_the_global_error_falls_with_the_order_that_the_solver_says_it_has(solver, walk):
    start = np.random.default_rng(0).standard_normal((32, MEAN.shape[1]))
    steps = np.array([20, 40, 80, 160, 320])
    errors = []
    for n in steps:
        levels = log_snr_levels(n)
        end = walk(make_coefficients(solver, levels), start, expected_clean)[-1]
        exact = flow(start, levels.alpha_bars[0], levels.next_alpha_bars[-1])
        errors.append(np.sqrt(np.mean((end - exact) ** 2)))
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    order = SOLVERS[solver].order
    assert slope == pytest.approx(order, abs=0.1 + 0.07 * order)


def test_there_are_solvers_of_every_order_up_to_three():
    assert {SOLVERS[solver].order for solver in DETERMINISTIC} == {1, 2, 3}


@pytest.mark.parametrize(
    ("solver", "steps", "tolerance"),
    [("ddim", 1000, 0.01), ("dpmpp-2m", 50, 0.01), ("dpmpp-3m", 40, 0.01), ("unipc", 40, 0.01)],
)
def test_whole_timesteps_down_to_zero_follow_the_flow_to_its_end(solver, steps, tolerance, walk):
    start = np.random.default_rng(1).standard_normal((32, MEAN.shape[1]))
    levels = noise_levels(SCHEDULE, make_timesteps("logsnr", SCHEDULE, steps))
    end = walk(make_coefficients(solver, levels), start, expected_clean)[-1]
    assert np.abs(end - flow(start, SCHEDULE.alpha_bars[-1], 1.0)).max() < 0.01


def test_twenty_steps_of_second_order_beat_twenty_of_first(walk):
    start = np.random.default_rng(2).standard_normal((32, MEAN.shape[1]))
    levels = noise_levels(SCHEDULE, make_timesteps("logsnr", SCHEDULE, 20))
    exact = flow(start, SCHEDULE.alpha_bars[-1], 1.0)
    first, second = (
        np.abs(walk(make_coefficients(solver, levels), start, expected_clean)[-1] - exact).max()
        for solver in ("ddim", "dpmpp-2m")
    )
    assert second < first / 3


def moments(table: Coefficients) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of what a solver without history makes of N(0, I): exact, for the denoiser is linear."""
    mean, variance = np.zeros_like(MEAN), np.ones_like(VARIANCE)
    for abar, a, b, s in zip(table.alpha_bar, table.a, table.b, table.s, strict=True):
        offset = expected_clean(np.zeros_like(MEAN), abar)
        slope = expected_clean(np.ones_like(MEAN), abar) - offset
        mean, variance = a * mean + b * (offset + slope * mean), (a + b * slope) ** 2 * variance + s**2
    return mean, variance


RANDOM_SOLVERS = [("ddpm", {"variance": "posterior"}), ("ddpm", {"variance": "beta"}), ("ddim", {"eta": 1.0})]


@pytest.mark.parametrize(("solver", "options"), RANDOM_SOLVERS)
def test_a_thousand_random_steps_turn_noise_into_the_mean_and_variance_of_the_cells(solver, options):
    table = make_coefficients(solver, noise_levels(SCHEDULE, np.arange(1000, 0, -1)), **options)
    mean, variance = moments(table)
    np.testing.assert_allclose(mean, MEAN, atol=0.02)
    np.testing.assert_allclose(variance, VARIANCE, rtol=0.04)


@jax.jit
def sampled(keys: jax.Array, table: Coefficients) -> jax.Array:
    return integrate(lambda x, alpha_bar, _: expected_clean(x, alpha_bar), keys, table, None, genes=MEAN.shape[1]).cells


@pytest.mark.parametrize(("solver", "options"), RANDOM_SOLVERS)
def test_sampled_cells_have_that_mean_and_variance_within_sampling_error(solver, options):
    table = make_coefficients(solver, noise_levels(SCHEDULE, make_timesteps("uniform", SCHEDULE, 200)), **options)
    cells = np.asarray(sampled(cell_keys(jax.random.key(0), jnp.arange(4096)), table), dtype=np.float64)
    mean, variance = moments(table)
    # Four standard errors of each of 24 numbers: one seed in a thousand would fail, and the seed is fixed.
    assert np.all(np.abs(cells.mean(0) - mean) < 4 * np.sqrt(variance / 4096))
    assert np.all(np.abs(cells.var(0) - variance) < 4 * variance * np.sqrt(2 / 4096))


def test_the_stochastic_second_order_solver_keeps_mean_and_variance_in_fewer_steps():
    table = make_coefficients("dpmpp-2m-sde", noise_levels(SCHEDULE, make_timesteps("logsnr", SCHEDULE, 60)))
    cells = np.asarray(sampled(cell_keys(jax.random.key(1), jnp.arange(4096)), table), dtype=np.float64)
    assert np.all(np.abs(cells.mean(0) - MEAN) < 0.01 + 4 * np.sqrt(VARIANCE / 4096))
    assert np.all(np.abs(cells.var(0) / VARIANCE - 1) < 0.03 + 4 * np.sqrt(2 / 4096))
