"""What is benchmarked: the DDPM baseline, every sampler at the paper's accelerations, the fast ones at few steps."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..config import SamplingConfig
from ..diffusion.timesteps import steps_of_acceleration
from ..errors import BadConfig

ACCELERATIONS = (10, 20, 50, 100)  # scRDiT table 3
FEW_STEPS = (5, 8, 10, 15, 20)
FITTED_STEPS = (5, 6, 8, 10)
FIRST_ORDER = ("ddpm", "ddim")
HIGHER_ORDER = ("dpmpp-2m", "dpmpp-2m-sde", "dpmpp-3m", "unipc")
FITTED_SOLVER = "unipc"
DRAWING = "distributional"
DRAWN_STEPS = (1, 2, 3, 4, 6, 8)


@dataclass(frozen=True)
class Case:
    """A sampler at a number of evaluations; `fitted` has the timesteps fitted to the model at hand."""

    solver: str
    steps: int
    fitted: bool = False

    @property
    def name(self) -> str:
        """Such as "ddim-100" or "unipc-8-fitted"."""
        return f"{self.solver}-{self.steps}" + ("-fitted" if self.fitted else "")

    def sampling(self, *, seed: int, dtype: str, batch_size: int | None, schedule: str | None = None) -> SamplingConfig:
        """The request for cells; `schedule` is a file of timesteps for a fitted case."""
        steps = None if schedule else self.steps
        options: dict[str, Any] = {"seed": seed, "dtype": dtype, "batch_size": batch_size}
        return SamplingConfig(solver=self.solver, steps=steps, schedule=schedule, **options)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def baseline(timesteps: int) -> Case:
    """DDPM over every timestep, which all others are held against."""
    return Case("ddpm", timesteps)


def standard_cases(timesteps: int, *, fitted: bool, draws: bool) -> list[Case]:
    """The baseline first, then the others by solver and falling number of evaluations, none twice.

    `draws`: the model's prediction can be drawn from; `fitted`: UniPC's timesteps can be fitted to it.
    """
    slow = [*(steps_of_acceleration(timesteps, r) for r in ACCELERATIONS if r <= timesteps / 2)]
    cases = [baseline(timesteps), *(Case(solver, steps) for solver in FIRST_ORDER for steps in slow)]
    for solver in HIGHER_ORDER:
        cases += [Case(solver, n) for n in sorted({*slow, *FEW_STEPS}, reverse=True) if 2 <= n <= timesteps]
    if draws:
        cases += [Case(DRAWING, n) for n in reversed(DRAWN_STEPS) if n <= timesteps]
    if fitted:
        cases += [Case(FITTED_SOLVER, n, True) for n in reversed(FITTED_STEPS) if n <= timesteps]
    return list(dict.fromkeys(cases))


def choose(cases: Sequence[Case], patterns: Sequence[str]) -> list[Case]:
    """Those whose name matches one of the shell `patterns` ("unipc-*"), all without any; BadConfig where none does."""
    if not patterns:
        return list(cases)
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(case.name, pattern) for case in cases):
            raise BadConfig(f"no case matches {pattern!r}; there are {', '.join(case.name for case in cases)}")
    return [case for case in cases if any(fnmatch.fnmatchcase(case.name, pattern) for pattern in patterns)]
