"""The cost against real steps of the solver, the path against trying every one, the fit against even spacing."""

from itertools import combinations

import numpy as np
import pytest

from scrdit_jax.config import DiffusionConfig
from scrdit_jax.diffusion.schedule import linear_schedule
from scrdit_jax.diffusion.timesteps import make_timesteps
from scrdit_jax.sampling.fitting import cheapest_path, step_errors, trace
from scrdit_jax.sampling.solvers import make_coefficients, noise_levels
from scrdit_jax.sampling.solvers.dpmpp_2m import dpm_solver_2m
from scrdit_jax.sampling.solvers.unipc import unipc

SCHEDULE = linear_schedule(DiffusionConfig())
MODES, VARIANCE, WEIGHTS = np.array([-0.4, 2.8]), 0.25, np.array([0.8, 0.2])


def two_modes(x, alpha_bar):
    """E[x_0 | x_t] where a gene is near one of two values: bends sharply, and only at some levels."""
    spread = alpha_bar * VARIANCE + 1 - alpha_bar
    distance = x[..., None] - np.sqrt(alpha_bar) * MODES
    evidence = np.log(WEIGHTS) - 0.5 * distance**2 / spread
    weights = np.exp(evidence - evidence.max(-1, keepdims=True))
    return (weights * (MODES + np.sqrt(alpha_bar) * VARIANCE / spread * distance)).sum(-1) / weights.sum(-1)


def trajectory_of(levels, cells=40):
    start = np.random.default_rng(0).standard_normal((cells, 5))
    return trace(lambda x, i: two_modes(x, levels.alpha_bars[i]), start, levels, np.arange(5))


def test_costs_are_the_errors_of_the_solvers_own_steps():
    """Along the fine run, UniPC's table with its correction taken back out of the row it is folded into."""
    levels = noise_levels(SCHEDULE, make_timesteps("logsnr", SCHEDULE, 9))
    trajectory = trajectory_of(levels)
    x, m = trajectory.noisy, trajectory.clean
    costs = step_errors(trajectory)
    levels_and_end = np.append(levels.timesteps, 0)
    for path in ((0, 2, 5, 6), (0, 1, 8), (0, 4, 7), (0, 8)):
        chosen = noise_levels(SCHEDULE, levels_and_end[list(path)])
        plain, whole = dpm_solver_2m(chosen), unipc(chosen)
        for i, (t, s) in enumerate(zip(path, [*path[1:], 9], strict=True)):
            before = path[i - 1] if i else -1
            history = plain.c[i] * m[before] if i else 0.0
            step = plain.a[i] * x[t] + plain.b[i] * m[t] + history
            if s < 9 and plain.a[i + 1]:
                # Row i + 1 does to the correction what it does to x.
                late = (whole.b[i + 1] - plain.b[i + 1]) * m[s]
                now = (whole.c[i + 1] - plain.c[i + 1]) * m[t]
                step = step + (late + now + (whole.d[i + 1] * m[before] if i else 0.0)) / plain.a[i + 1]
            elif s < 9:
                continue  # the last row forgets x, so that correction does not show in the table
            wanted = np.mean((step - x[s]) ** 2) / SCHEDULE.alpha_bars[levels_and_end[s]]
            assert costs[before + 1, t, s] == pytest.approx(wanted, rel=1e-6, abs=1e-13)
    assert np.isinf(costs[0, 3, 5])
    assert np.isinf(costs[4, 3, 5])
    assert np.isinf(costs[2, 5, 5])


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 7])
def test_the_path_is_the_cheapest_of_all(steps):
    random = np.random.default_rng(steps)
    count = 7
    costs = random.random((count + 1, count, count + 1))

    def price(path):
        stops = [-1, *path, count]
        return sum(costs[stops[i] + 1, stops[i + 1], stops[i + 2]] for i in range(len(path)))

    every = [(0, *rest) for rest in combinations(range(1, count), steps - 1)]
    allowed = np.full_like(costs, np.inf)
    for r in range(-1, count):
        for t in range(r + 1, count):
            allowed[r + 1, t, t + 1 :] = costs[r + 1, t, t + 1 :] if (r >= 0 or t == 0) else np.inf
    found = cheapest_path(allowed, steps)
    assert len(found) == steps
    assert price(found) == pytest.approx(min(map(price, every)))


@pytest.mark.parametrize("steps", [6, 10])
def test_fitted_steps_come_nearer_to_the_fine_run_than_even_ones(steps, walk):
    levels = noise_levels(SCHEDULE, make_timesteps("logsnr", SCHEDULE, 48))
    fitted = levels.timesteps[cheapest_path(step_errors(trajectory_of(levels)), steps)]
    start = np.random.default_rng(1).standard_normal((400, 5))  # not those of the fit
    exact = walk(
        make_coefficients("dpmpp-2m", noise_levels(SCHEDULE, make_timesteps("logsnr", SCHEDULE, 400))), start, two_modes
    )[-1]

    def error(taus):
        end = walk(unipc(noise_levels(SCHEDULE, taus)), start, two_modes)[-1]
        return np.mean((end - exact) ** 2)

    assert fitted[0] == 1000
    assert len(fitted) == steps
    assert error(fitted) < min(error(make_timesteps(name, SCHEDULE, steps)) for name in ("logsnr", "uniform"))
