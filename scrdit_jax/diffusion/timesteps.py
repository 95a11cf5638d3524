"""Sub-sequences tau of {T, ..., 1} (scRDiT section 2.5): uniform and non-equidistant.

Every function returns strictly descending whole numbers that end at 1. All but `paper` begin at T: starting lower is to
begin a sample at a noise level it does not have. The step from the last timestep to t = 0 is the sampler's, so len(tau)
is the exact number of network evaluations.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

from ..errors import BadTimesteps
from .schedule import NoiseSchedule

SCHEDULES = ("uniform", "quadratic", "logsnr", "karras", "paper")
KARRAS_RHO = 7.0
# From pure noise, one step can give nothing but the mean cell.
LEAST_STEPS = 2


def uniform(timesteps: int, steps: int) -> np.ndarray:
    """T, ..., 1 at equal distances, rounded."""
    return _spread(np.linspace(timesteps, 1, steps), timesteps)


def paper(timesteps: int, steps: int) -> np.ndarray:
    """T - r, T - 2r, ..., r, 1 with r = T / steps, as scRDiT section 2.5 writes it: 990, 980, ..., 10, 1 for r = 10.

    Its first evaluation takes pure noise for cells at timestep T - r; `uniform` does not. With r = 1: T, ..., 1.
    """
    if steps == timesteps:
        return uniform(timesteps, steps)
    return _spread(np.append(timesteps - timesteps / steps * np.arange(1, steps), 1), timesteps)


def quadratic(timesteps: int, steps: int) -> np.ndarray:
    """Equal steps in sqrt(t): distances grow with t, most steps where little noise is left (DDIM, app. D.2)."""
    return _spread(np.linspace(math.sqrt(timesteps), 1, steps) ** 2, timesteps)


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


def _spread(wanted: np.ndarray, timesteps: int) -> np.ndarray:
    """Round descending reals to distinct whole numbers in T..1, keeping the count and both ends."""
    taus = np.rint(wanted).astype(np.int64)
    for i in range(1, len(taus)):
        taus[i] = min(taus[i], taus[i - 1] - 1)
    # Pushing down may have left the range at the low end; what is there is then packed upwards from 1.
    lowest = np.arange(len(taus), 0, -1)
    return np.maximum(taus, lowest)


def read_timesteps(path: Path | str) -> np.ndarray:
    """Timesteps from a file: a JSON list, or whole numbers parted by spaces, commas or line ends; not yet checked."""
    try:
        text = Path(path).read_text()
        values = json.loads(text) if text.lstrip().startswith("[") else text.replace(",", " ").split()
        numbers = [int(value) for value in values if not isinstance(value, bool)]
        if any(float(value) != number for value, number in zip(values, numbers, strict=True)):
            raise ValueError("a timestep is no whole number")
        return np.asarray(numbers, dtype=np.int64)
    except OSError as error:
        raise BadTimesteps(
            f"no schedule {str(path)!r} ({error.strerror}); give one of {', '.join(SCHEDULES)}, or a file of timesteps"
        ) from None
    except (ValueError, TypeError, OverflowError) as error:
        raise BadTimesteps(
            f"{path} is no list of timesteps ({error}); write whole numbers such as 1000 750 500 1"
        ) from None


def check_timesteps(taus: np.ndarray, timesteps: int) -> np.ndarray:
    """`taus` if two or more, strictly descending within T..1; else BadTimesteps naming the first offender."""
    if len(taus) < LEAST_STEPS:
        raise BadTimesteps(f"a list of {len(taus)} timesteps is no schedule; give at least {LEAST_STEPS}")
    for i, t in enumerate(taus):
        if not 1 <= t <= timesteps:
            raise BadTimesteps(f"timestep {t} is outside 1..{timesteps} of this model; leave it out")
        if i and t >= taus[i - 1]:
            raise BadTimesteps(
                f"timesteps must descend strictly, but {t} follows {taus[i - 1]}; sort them, largest first"
            )
    return taus


def make_timesteps(name: str, schedule: NoiseSchedule, steps: int | None) -> np.ndarray:
    """The sub-sequence called `name` (see SCHEDULES) with `steps` evaluations, or the one in the file `name`."""
    if name not in SCHEDULES:
        taus = check_timesteps(read_timesteps(name), schedule.timesteps)
        if steps is not None and steps != len(taus):
            raise BadTimesteps(
                f"{name} holds {len(taus)} timesteps but {steps} steps were asked for; leave out --steps"
            )
        return taus
    if steps is None:
        steps = schedule.timesteps
    if not LEAST_STEPS <= steps <= schedule.timesteps:
        remedy = "fewer" if steps > LEAST_STEPS else "more"
        raise BadTimesteps(f"{steps} steps are not within {LEAST_STEPS}..{schedule.timesteps}; ask for {remedy}")
    if name in {"logsnr", "karras"}:
        return {"logsnr": log_snr_uniform, "karras": karras}[name](schedule, steps)
    return {"uniform": uniform, "quadratic": quadratic, "paper": paper}[name](schedule.timesteps, steps)


def steps_of_acceleration(timesteps: int, acceleration: float) -> int:
    """Evaluations left at acceleration R: T / R, rounded, at least 2 (paper table 3: R = 1, 10, 20, 50, 100)."""
    most = timesteps / LEAST_STEPS
    if not (math.isfinite(acceleration) and 1 <= acceleration <= most):
        raise BadTimesteps(f"acceleration {acceleration:g} is not within 1..{most:g}; 1 is every timestep")
    return max(LEAST_STEPS, round(timesteps / acceleration))
