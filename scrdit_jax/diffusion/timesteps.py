"""Sub-sequences tau of {T, ..., 1} (scRDiT section 2.5): uniform and non-equidistant.

Every function returns strictly descending whole numbers. All but `interior` end at 1, and all but `paper` and
`interior` begin at T: starting lower is to begin a sample at a noise level it does not have. The step from the last
timestep to t = 0 is the sampler's, so len(tau) is the exact number of network evaluations.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .. import strict_json
from ..errors import BadTimesteps
from ..paths import readable_path
from .schedule import NoiseSchedule

KARRAS_RHO = 7.0
LEAST_STEPS = 2
# Log-SNR of the first and last evaluation of `interior`: above, noise is all there is; below, a cell is decided.
INTERIOR = (-6.0, 1.0)
FORMAT = 1


def uniform(schedule: NoiseSchedule, steps: int) -> np.ndarray:
    """T, ..., 1 at equal distances, rounded."""
    return _spread(np.linspace(schedule.timesteps, 1, steps), schedule.timesteps)


def paper(schedule: NoiseSchedule, steps: int) -> np.ndarray:
    """T - r, T - 2r, ..., r, 1 with r = T / steps, as scRDiT section 2.5 writes it: 990, 980, ..., 10, 1 for r = 10.

    Its first evaluation takes pure noise for cells at timestep T - r; `uniform` does not. With r = 1: T, ..., 1.
    """
    timesteps = schedule.timesteps
    if steps == timesteps:
        return uniform(schedule, steps)
    return _spread(np.append(timesteps - timesteps / steps * np.arange(1, steps), 1), timesteps)


def quadratic(schedule: NoiseSchedule, steps: int) -> np.ndarray:
    """Equal steps in sqrt(t): distances grow with t, most steps where little noise is left (DDIM, app. D.2)."""
    return _spread(np.linspace(math.sqrt(schedule.timesteps), 1, steps) ** 2, schedule.timesteps)


def log_snr_uniform(schedule: NoiseSchedule, steps: int) -> np.ndarray:
    """Equal distances in log-SNR (Lu et al. 2022, DPM-Solver)."""
    levels = schedule.log_snr
    wanted = np.linspace(levels[-1], levels[0], steps)
    # np.interp needs rising abscissae; log-SNR falls with t.
    return _spread(np.interp(wanted, levels[::-1], np.arange(schedule.timesteps, 0, -1)), schedule.timesteps)


def karras(schedule: NoiseSchedule, steps: int) -> np.ndarray:
    """Equal distances in sigma^(1/7), sigma = sqrt((1 - abar) / abar)  (Karras et al. 2022, eq. 5)."""
    roots = np.exp(-0.5 / KARRAS_RHO * schedule.log_snr)
    wanted = np.linspace(roots[-1], roots[0], steps)
    return _spread(np.interp(wanted, roots, np.arange(1, schedule.timesteps + 1)), schedule.timesteps)


def interior(
    schedule: NoiseSchedule, steps: int, *, first: float = INTERIOR[0], last: float = INTERIOR[1]
) -> np.ndarray:
    """Equal distances in log-SNR from `first` to `last`; one step is at `first`. For solvers that draw clean cells.

    At log-SNR -6, 2,000 genes together tell a cell from pure noise by a few nats at most, so that a sample may begin
    there; and where a cell is drawn, nothing needs to be denoised that is clear at log-SNR 1.
    """
    levels = schedule.log_snr
    taus = 1 + np.abs(levels[None, :] - np.linspace(first, last, steps)[:, None]).argmin(axis=1)
    # Where the schedule is too coarse for the distances, neighbours are taken, upwards if there are none below.
    taus = np.minimum.accumulate(taus + np.arange(steps)) - np.arange(steps)
    return np.maximum(taus, np.arange(steps, 0, -1))


def _spread(wanted: np.ndarray, timesteps: int) -> np.ndarray:
    """Round descending reals to distinct whole numbers in T..1, keeping the count and both ends."""
    taus = np.rint(wanted).astype(np.int64)
    for i in range(1, len(taus)):
        taus[i] = min(taus[i], taus[i - 1] - 1)
    # Pushing down may have left the range at the low end; what is there is then packed upwards from 1.
    lowest = np.arange(len(taus), 0, -1)
    return np.maximum(taus, lowest)


class TimestepSchedule(NamedTuple):
    """How a sub-sequence is `spaced`, (noise schedule, steps) -> timesteps, and the fewest steps it can have."""

    spaced: Callable[[NoiseSchedule, int], np.ndarray]
    least: int = LEAST_STEPS


SCHEDULES = {
    "uniform": TimestepSchedule(uniform),
    "quadratic": TimestepSchedule(quadratic),
    "logsnr": TimestepSchedule(log_snr_uniform),
    "karras": TimestepSchedule(karras),
    "paper": TimestepSchedule(paper),
    "interior": TimestepSchedule(interior, least=1),
}


class TimestepsFile(NamedTuple):
    """Timesteps from a file, not yet checked against a model's T; where it says so, the digest of the `model` they were
    fitted to, and for which `solver`."""

    timesteps: np.ndarray
    solver: str | None = None
    model: str | None = None


def read_timesteps(path: Path | str) -> TimestepsFile:
    """A file of `scrdit schedule`; or a JSON list, or whole numbers parted by spaces, commas or line ends."""
    try:
        text = readable_path(path).read_text()
        solver = model = None
        if text.lstrip().startswith("{"):
            record = strict_json.parse(text)
            if record["format"] != FORMAT:
                raise ValueError(f"format {record['format']}, not {FORMAT}")
            values, solver, model = record["timesteps"], str(record["solver"]), str(record["model"])
        else:
            values = strict_json.parse(text) if text.lstrip().startswith("[") else text.replace(",", " ").split()
        numbers = [int(value) for value in values if not isinstance(value, bool)]
        if any(float(value) != number for value, number in zip(values, numbers, strict=True)):
            raise ValueError("a timestep is no whole number")
        return TimestepsFile(np.asarray(numbers, dtype=np.int64), solver, model)
    except OSError as error:
        raise BadTimesteps(
            f"no schedule {str(path)!r} ({error.strerror}); give one of {', '.join(SCHEDULES)}, fitted, "
            "or a file of timesteps"
        ) from None
    except KeyError as error:
        raise BadTimesteps(f"{path} lacks {error}; make it again with 'scrdit schedule'") from None
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise BadTimesteps(
            f"{path} is no list of timesteps ({error}); write whole numbers such as 1000 750 500 1"
        ) from None


def check_timesteps(taus: np.ndarray, timesteps: int, *, least: int = LEAST_STEPS) -> np.ndarray:
    """`taus` if `least` or more, strictly descending within T..1; else BadTimesteps naming the first offender."""
    if len(taus) < least:
        raise BadTimesteps(f"a list of {len(taus)} timesteps is no schedule; give at least {least}")
    for i, t in enumerate(taus):
        if not 1 <= t <= timesteps:
            raise BadTimesteps(f"timestep {t} is outside 1..{timesteps} of this model; leave it out")
        if i and t >= taus[i - 1]:
            raise BadTimesteps(
                f"timesteps must descend strictly, but {t} follows {taus[i - 1]}; sort them, largest first"
            )
    return taus


def make_timesteps(name: str, schedule: NoiseSchedule, steps: int, *, least: int = LEAST_STEPS) -> np.ndarray:
    """The sub-sequence called `name` (see SCHEDULES) with `steps` evaluations, `least` or more."""
    if not least <= steps <= schedule.timesteps:
        remedy = "fewer" if steps > least else "more"
        raise BadTimesteps(f"{steps} steps are not within {least}..{schedule.timesteps}; ask for {remedy}")
    found = SCHEDULES[name]
    if steps < found.least:
        remedy = ", ".join(other for other, known in SCHEDULES.items() if known.least <= steps)
        raise BadTimesteps(f"schedule {name} has {found.least} steps or more; leave it out, or use {remedy}")
    return found.spaced(schedule, steps)


def steps_of_acceleration(timesteps: int, acceleration: float, *, least: int = LEAST_STEPS) -> int:
    """Evaluations left at acceleration R: T / R, rounded, `least` or more (paper table 3: R = 1, 10, 20, 50, 100)."""
    most = timesteps / least
    if not (math.isfinite(acceleration) and 1 <= acceleration <= most):
        raise BadTimesteps(f"acceleration {acceleration:g} is not within 1..{most:g}; 1 is every timestep")
    return max(least, round(timesteps / acceleration))
