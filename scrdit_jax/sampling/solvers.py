"""Solvers as tables of coefficients: x' = a x + b m0 + c m1 + s z, computed on the host in float64.

m0 is the clean cell predicted at x, m1 the one predicted a step before, z fresh standard noise. Row i leads from
tau_i to tau_{i+1}; the last row lands on t = 0, where abar = 1 and nothing is left but m0. Notation of the paper
inside the functions: abar = alpha-bar at the row's timestep, next = alpha-bar where the row leads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..diffusion.schedule import NoiseSchedule
from ..errors import BadConfig

VARIANCES = ("beta", "posterior")


class NoiseLevels(NamedTuple):
    """A sub-sequence tau with its alpha-bars: `timesteps` (K,), `alpha_bars` (K,), `next_alpha_bars` (K,)."""

    timesteps: np.ndarray
    alpha_bars: np.ndarray
    next_alpha_bars: np.ndarray


class Coefficients(NamedTuple):
    """One row per evaluation, each column (K,): the solver's a, b, c, s and the level it is evaluated at."""

    timestep: np.ndarray
    alpha_bar: np.ndarray
    a: np.ndarray
    b: np.ndarray
    c: np.ndarray
    s: np.ndarray


def noise_levels(schedule: NoiseSchedule, timesteps: np.ndarray) -> NoiseLevels:
    """Levels of a descending sub-sequence (see diffusion.timesteps); the last leads to t = 0."""
    following = np.append(timesteps[1:], 0)
    return NoiseLevels(timesteps, schedule.alpha_bars[timesteps], schedule.alpha_bars[following])


def _table(levels: NoiseLevels, a, b, c, s) -> Coefficients:
    columns = (np.asarray(column, dtype=np.float64) for column in (a, b, c, s))
    return Coefficients(levels.timesteps, levels.alpha_bars, *columns)


def ddim(levels: NoiseLevels, eta: float = 0.0) -> Coefficients:
    """Eq. 13 and 14, with eps eliminated by eps = (x - sqrt(abar) m0) / sqrt(1 - abar).

    eta in [0, 1]: 0 is deterministic; 1 over all timesteps is DDPM with the posterior variance.
    """
    if not 0 <= eta <= 1:
        raise BadConfig(f"eta is {eta:g}; it must be within 0..1 (0 deterministic, 1 as random as DDPM)")
    _, abar, following = levels
    s = eta * np.sqrt((1 - following) / (1 - abar)) * np.sqrt(1 - abar / following)
    a = np.sqrt(1 - following - s**2) / np.sqrt(1 - abar)
    return _table(levels, a, np.sqrt(following) - a * np.sqrt(abar), np.zeros_like(a), s)


def ddpm(levels: NoiseLevels, variance: str = "beta") -> Coefficients:
    """Ancestral sampling (eq. 6 to 8) along tau, with alpha = abar / next and beta = 1 - alpha.

    The mean is the posterior's: sqrt(next) beta / (1 - abar) m0 + sqrt(alpha) (1 - next) / (1 - abar) x. The variance
    is beta (the paper's choice) or the posterior's beta (1 - next) / (1 - abar). The last step adds no noise.
    """
    if variance not in VARIANCES:
        raise BadConfig(f"variance is {variance!r}; it must be one of {', '.join(VARIANCES)}")
    _, abar, following = levels
    alpha = abar / following
    beta = 1 - alpha
    s2 = beta if variance == "beta" else beta * (1 - following) / (1 - abar)
    a = np.sqrt(alpha) * (1 - following) / (1 - abar)
    b = np.sqrt(following) * beta / (1 - abar)
    return _table(levels, a, b, np.zeros_like(a), np.sqrt(np.where(following < 1, s2, 0)))


def dpm_solver_2m(levels: NoiseLevels) -> Coefficients:
    """DPM-Solver++(2M) (Lu et al. 2022b, algorithm 2), data prediction, lambda = log(sqrt(abar) / sqrt(1 - abar)).

    x' = (sigma' / sigma) x - alpha' (exp(-h) - 1) [(1 + 1/2r) m0 - (1/2r) m1], h = lambda' - lambda, r = h_before / h.
    The first step has no history and the last ends at lambda = infinity: both are of first order.
    """
    _, abar, following = levels
    alpha, sigma = np.sqrt(following), np.sqrt(1 - following)
    with np.errstate(divide="ignore"):
        h = 0.5 * (np.log(following) - np.log1p(-following)) - 0.5 * (np.log(abar) - np.log1p(-abar))
    weight = np.zeros_like(h)
    weight[1:-1] = 0.5 * h[1:-1] / h[:-2]
    growth = -alpha * np.expm1(-h)
    return _table(levels, sigma / np.sqrt(1 - abar), growth * (1 + weight), -growth * weight, np.zeros_like(h))


class Solver(NamedTuple):
    """A table maker and the options it takes beside the levels."""

    table: Callable[..., Coefficients]
    options: tuple[str, ...]


SOLVERS = {
    "ddpm": Solver(ddpm, ("variance",)),
    "ddim": Solver(ddim, ("eta",)),
    "dpmpp-2m": Solver(dpm_solver_2m, ()),
}


def make_coefficients(name: str, levels: NoiseLevels, **options) -> Coefficients:
    """The table of the solver called `name` (see SOLVERS); options that are None are left to the solver."""
    if name not in SOLVERS:
        raise BadConfig(f"no solver {name!r}; there are {', '.join(SOLVERS)}")
    solver = SOLVERS[name]
    given = {option: value for option, value in options.items() if value is not None}
    for option, value in given.items():
        if option not in solver.options:
            takers = ", ".join(other for other, known in SOLVERS.items() if option in known.options)
            remedy = f"leave it out, or use {takers}" if takers else "leave it out"
            raise BadConfig(f"solver {name} takes no {option} (it was {value!r}); {remedy}")
    return solver.table(levels, **given)
