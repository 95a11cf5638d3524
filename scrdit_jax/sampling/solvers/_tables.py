"""What every solver is made of: noise levels, tables of coefficients, and what a solver says of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from ...diffusion.schedule import NoiseSchedule


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


def make_table(levels: NoiseLevels, a, b, c=0.0, d=0.0, s=0.0) -> Coefficients:
    """A row for each level; columns that are numbers are the same in every row."""
    columns = (np.broadcast_to(np.asarray(column, np.float64), levels.alpha_bars.shape) for column in (a, b, c, d, s))
    return Coefficients(levels.timesteps, levels.alpha_bars, *columns)


class LogLevels(NamedTuple):
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


def log_levels(levels: NoiseLevels) -> LogLevels:
    """The levels as exponential integrators count them."""
    _, abar, following = levels
    with np.errstate(divide="ignore"):
        h = 0.5 * (np.log(following) - np.log1p(-following)) - 0.5 * (np.log(abar) - np.log1p(-abar))
    padded = np.concatenate([[np.nan, np.nan], h])
    sigma = np.sqrt(1 - following)
    return LogLevels(np.sqrt(following), sigma, sigma / np.sqrt(1 - abar), h, padded[1:-1], padded[:-2])


def slope(log: LogLevels) -> np.ndarray:
    """h / h_before, which turns m0 - m1 into h times the slope of m in lambda; 0 in rows without history or end."""
    known = np.isfinite(log.before) & np.isfinite(log.h)
    return np.divide(log.h, log.before, where=known, out=np.zeros_like(log.h))


@dataclass(frozen=True)
class Option:
    """A number or a name that a solver takes beside the levels: its `default`, and its `choices` where it is a name."""

    default: float | str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Solver:
    """A table maker, and what is known of it.

    `order` is that of its global error in the size of a step. `options` are keywords of `table`. `schedule` and `steps`
    are the timesteps and the number of evaluations it does best with; None, every timestep. One that `draws` is given
    clean cells drawn from the predicted distribution, instead of their mean. `benchmark_steps` are numbers of
    evaluations that a benchmark tries it at; with `benchmark_accelerations`, those of the paper's table 3 as well.
    """

    table: Callable[..., Coefficients]
    order: int = 1
    options: Mapping[str, Option] = field(default_factory=lambda: MappingProxyType({}))
    schedule: str = "logsnr"
    steps: int | None = 25
    draws: bool = False
    benchmark_steps: tuple[int, ...] = ()
    benchmark_accelerations: bool = True

    @property
    def least_steps(self) -> int:
        """From pure noise, one step by the mean can give nothing but the mean cell."""
        return 1 if self.draws else 2
