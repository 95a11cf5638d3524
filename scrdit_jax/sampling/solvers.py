"""Solvers as tables of coefficients: x' = a x + b m0 + c m1 + d m2 + s z, computed on the host in float64.

m0 is the clean cell predicted at x (for solvers that draw, one drawn from its predicted distribution), m1 and m2 those
predicted one and two steps before, z fresh noise. Row i leads from tau_i to tau_{i+1}; the last row lands on t = 0,
where abar = 1 and nothing is left but m0. Notation of the paper inside the functions: abar = alpha-bar at the row's
timestep, next = alpha-bar where the row leads.
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
    """One row per evaluation, each column (K,): the solver's a, b, c, d, s and the level it is evaluated at."""

    timestep: np.ndarray
    alpha_bar: np.ndarray
    a: np.ndarray
    b: np.ndarray
    c: np.ndarray
    d: np.ndarray
    s: np.ndarray


def noise_levels(schedule: NoiseSchedule, timesteps: np.ndarray) -> NoiseLevels:
    """Levels of a descending sub-sequence (see diffusion.timesteps); the last leads to t = 0."""
    following = np.append(timesteps[1:], 0)
    return NoiseLevels(timesteps, schedule.alpha_bars[timesteps], schedule.alpha_bars[following])


def _table(levels: NoiseLevels, a, b, c=0.0, d=0.0, s=0.0) -> Coefficients:
    columns = (np.broadcast_to(np.asarray(column, np.float64), levels.alpha_bars.shape) for column in (a, b, c, d, s))
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
    return _table(levels, a, np.sqrt(following) - a * np.sqrt(abar), s=s)


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
    return _table(levels, a, b, s=np.sqrt(np.where(following < 1, s2, 0)))


def distributional(levels: NoiseLevels) -> Coefficients:
    """Ancestral sampling with a sampled x_0: m0 is no mean but a draw from p(x_0 | x_t), and the step is the exact
    bridge q(x_s | x_t, x_0) (Ho et al. 2020, eq. 6 and 7): x_s ~ sum over x_0 of q(x_s | x_t, x_0) p(x_0 | x_t).

    Exact at any number of steps where genes are independent given what the network sees; in general a step misses the
    correlations of genes that x_t and the conditions leave open, and more steps miss less. The table is that of `ddpm`
    with the posterior's variance. De Bortoli et al. 2025 (distributional diffusion models); Xiao et al. 2022.
    """
    return ddpm(levels, "posterior")


class _LogLevels(NamedTuple):
    """What exponential integrators count in: lambda = log(sqrt(abar) / sqrt(1 - abar)), half the log-SNR.

    `alpha`, `sigma` where the row leads, `ratio` = sigma' / sigma, `h` = lambda' - lambda (infinite in a row that lands
    on t = 0), and `before`, `earlier`: the sizes of the two steps before (NaN where there were none).
    """

    alpha: np.ndarray
    sigma: np.ndarray
    ratio: np.ndarray
    h: np.ndarray
    before: np.ndarray
    earlier: np.ndarray


def _log_levels(levels: NoiseLevels) -> _LogLevels:
    _, abar, following = levels
    with np.errstate(divide="ignore"):
        h = 0.5 * (np.log(following) - np.log1p(-following)) - 0.5 * (np.log(abar) - np.log1p(-abar))
    padded = np.concatenate([[np.nan, np.nan], h])
    sigma = np.sqrt(1 - following)
    return _LogLevels(np.sqrt(following), sigma, sigma / np.sqrt(1 - abar), h, padded[1:-1], padded[:-2])


def _slope(log: _LogLevels) -> np.ndarray:
    """h / h_before, which turns m0 - m1 into h times the slope of m in lambda; 0 in rows without history or end."""
    known = np.isfinite(log.before) & np.isfinite(log.h)
    return np.divide(log.h, log.before, where=known, out=np.zeros_like(log.h))


def dpm_solver_2m(levels: NoiseLevels) -> Coefficients:
    """DPM-Solver++(2M) (Lu et al. 2022b, algorithm 2), data prediction.

    x' = (sigma' / sigma) x - alpha' (exp(-h) - 1) [(1 + 1/2r) m0 - (1/2r) m1], h = lambda' - lambda, r = h_before / h.
    The first step has no history and the last ends at lambda = infinity: both are of first order.
    """
    log = _log_levels(levels)
    weight = 0.5 * _slope(log)
    growth = -log.alpha * np.expm1(-log.h)
    return _table(levels, log.ratio, growth * (1 + weight), -growth * weight)


def dpm_solver_2m_sde(levels: NoiseLevels) -> Coefficients:
    """SDE-DPM-Solver++(2M) (Lu et al. 2022b, eq. 18): the reverse diffusion instead of the flow, so that errors decay.

    x' = (sigma' / sigma) exp(-h) x + alpha' (1 - exp(-2h)) [(1 + 1/2r) m0 - (1/2r) m1] + sigma' sqrt(1 - exp(-2h)) z.
    """
    log = _log_levels(levels)
    weight = 0.5 * _slope(log)
    decay = -np.expm1(-2 * log.h)
    growth = log.alpha * decay
    return _table(
        levels, log.ratio * np.exp(-log.h), growth * (1 + weight), -growth * weight, s=log.sigma * np.sqrt(decay)
    )


def dpm_solver_3m(levels: NoiseLevels) -> Coefficients:
    """DPM-Solver++(3M): Lu et al. 2022b, with the third-order exponential integrator of Lu et al. 2022a, appendix B.

    D1 and D2 are the first two derivatives of m in lambda by its divided differences, times h and h^2:
    x' = (sigma' / sigma) x - alpha' (exp(-h) - 1) m0 + alpha' ((exp(-h) - 1) / h + 1) D1
         - alpha' ((exp(-h) - 1 + h) / h^2 - 1/2) D2.
    Rows with less history are of lower order, the last of first. Common implementations halve D2, which leaves a method
    of second order.
    """
    second = dpm_solver_2m(levels)
    log = _log_levels(levels)
    a, b, c, d = second.a, second.b.copy(), second.c.copy(), np.zeros_like(second.c)
    for i in np.flatnonzero(np.isfinite(log.earlier) & np.isfinite(log.h)):
        h, r0, r1 = log.h[i], log.before[i] / log.h[i], log.earlier[i] / log.h[i]
        late, early = np.array([1, -1, 0]) / r0, np.array([0, 1, -1]) / r1  # in terms of m0, m1, m2
        d1, d2 = late + r0 / (r0 + r1) * (late - early), 2 * (late - early) / (r0 + r1)
        fall = np.expm1(-h)
        weights = -fall * np.array([1, 0, 0]) + (fall / h + 1) * d1 - ((fall + h) / h**2 - 0.5) * d2
        b[i], c[i], d[i] = log.alpha[i] * weights
    return _table(levels, a, b, c, d)


def unipc(levels: NoiseLevels) -> Coefficients:
    """UniPC of second order with B(h) = exp(-h) - 1 (Zhao et al. 2023, "bh2"), data prediction; third-order accurate.

    Each step predicts as 2M does; the clean cell seen there then corrects the step, at no further evaluation:
    x_c = (sigma' / sigma) x - alpha' B [m0 + rho_1 (m1 - m0) / r1 + rho_2 (m' - m0)], r1 = -h_before / h, with rho from
    the order conditions. The network is evaluated at predicted cells, so those are what is carried: a correction is
    the predicted cell plus multiples of m', m0 and m1, and what the next row does to it is part of that row.
    """
    predictor, log = dpm_solver_2m(levels), _log_levels(levels)
    b, c, d = predictor.b.copy(), predictor.c.copy(), np.zeros_like(predictor.c)
    # The step to t = 0 is not corrected: nothing is evaluated there.
    corrected = log.alpha[:-1] * unipc_weights(log.h[:-1], log.before[:-1])
    changes = corrected - np.stack([np.zeros(len(log.h) - 1), predictor.b[:-1], predictor.c[:-1]])
    b[1:], c[1:], d[1:] = np.stack([b[1:], c[1:], d[1:]]) + predictor.a[1:] * changes
    return _table(levels, predictor.a, b, c, d)


def unipc_weights(h: np.ndarray, before: np.ndarray) -> np.ndarray:
    """What a corrected step of UniPC weighs m', m0 and m1 with, over alpha': (3, ...) for steps `h` after `before`.

    A step `before` that is not finite is none: then the correction is of lower order.
    """
    first, second = 1 / -h - 1 / np.expm1(-h), 2 * ((np.expm1(-h) / -h - 1) / -h - 0.5) / np.expm1(-h)
    # phi_k of -h, as they stand in the order conditions over B(h): rho_1 + rho_2 = first, r1 rho_1 + rho_2 = second.
    known = np.isfinite(before)
    r1 = np.where(known, -before / h, -1.0)
    rho_1 = np.where(known, (second - first) / (r1 - 1), 0.0)
    rho_2 = np.where(known, first - rho_1, 0.5)
    return -np.expm1(-h) * np.stack([rho_2, 1 - rho_1 / r1 - rho_2, rho_1 / r1])


class Solver(NamedTuple):
    """A table maker, the options it takes beside the levels, and the sub-sequence and evaluations it does best with.

    One that `draws` is given clean cells drawn from the predicted distribution, instead of their mean.
    """

    table: Callable[..., Coefficients]
    options: tuple[str, ...] = ()
    schedule: str = "logsnr"
    steps: int | None = 25
    draws: bool = False

    @property
    def least_steps(self) -> int:
        """From pure noise, one step by the mean can give nothing but the mean cell."""
        return 1 if self.draws else 2


SOLVERS = {
    "distributional": Solver(distributional, schedule="interior", steps=4, draws=True),
    "ddpm": Solver(ddpm, ("variance",), "uniform", steps=None),
    "ddim": Solver(ddim, ("eta",), "uniform"),
    "dpmpp-2m": Solver(dpm_solver_2m),
    "dpmpp-2m-sde": Solver(dpm_solver_2m_sde),
    "dpmpp-3m": Solver(dpm_solver_3m),
    "unipc": Solver(unipc),
}


def default_solver(*, is_distribution: bool) -> str:
    """The solver for a model whose prediction is a distribution, or is not."""
    return "distributional" if is_distribution else "dpmpp-2m"


def find_solver(name: str) -> Solver:
    """The solver called `name`; BadConfig names those there are."""
    if name not in SOLVERS:
        raise BadConfig(f"no solver {name!r}; there are {', '.join(SOLVERS)}")
    return SOLVERS[name]


def make_coefficients(name: str, levels: NoiseLevels, **options) -> Coefficients:
    """The table of the solver called `name` (see SOLVERS); options that are None are left to the solver."""
    solver = find_solver(name)
    given = {option: value for option, value in options.items() if value is not None}
    for option, value in given.items():
        if option not in solver.options:
            takers = ", ".join(other for other, known in SOLVERS.items() if option in known.options)
            remedy = f"leave it out, or use {takers}" if takers else "leave it out"
            raise BadConfig(f"solver {name} takes no {option} (it was {value!r}); {remedy}")
    return solver.table(levels, **given)
