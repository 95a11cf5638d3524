"""What is benchmarked: the DDPM baseline, every sampler at the paper's accelerations, the fast ones at few steps."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..config import SamplingConfig
from ..diffusion.timesteps import steps_of_acceleration
from ..errors import BadConfig
from ..generation.fitting import SOLVERS as FITTED_SOLVERS
from ..registry import SOLVERS

ACCELERATIONS = (10, 20, 50, 100)  # scRDiT table 3
FITTED_STEPS = (5, 6, 8, 10)
BASELINE = "ddpm"


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
    return Case(BASELINE, timesteps)


def standard_cases(timesteps: int, *, fitted: bool, draws: bool) -> list[Case]:
    """The baseline first, then every solver by falling number of evaluations, those of low order first, none twice.

    `draws`: the model's prediction can be drawn from; `fitted`: timesteps can be fitted to it. How many evaluations a
    solver is tried at, it says itself; see `sampling.solvers.Solver`.
    """
    slow = [steps_of_acceleration(timesteps, r) for r in ACCELERATIONS if r <= timesteps / 2]
    cases = [baseline(timesteps)]
    for name, solver in sorted(SOLVERS.items(), key=lambda item: (item[1].draws, item[1].order, item[0])):
        if draws or not solver.draws:
            steps = {*solver.benchmark_steps, *(slow if solver.benchmark_accelerations else ())}
            cases += [Case(name, n) for n in sorted(steps, reverse=True) if solver.least_steps <= n <= timesteps]
    # Solvers that draw carry timesteps fitted to the model and take them by themselves.
    for name in FITTED_SOLVERS if fitted else ():
        if not SOLVERS[name].draws:
            cases += [Case(name, n, True) for n in sorted(FITTED_STEPS, reverse=True) if n <= timesteps]
    return list(dict.fromkeys(cases))


def choose(cases: Sequence[Case], patterns: Sequence[str]) -> list[Case]:
    """Those whose name matches one of the shell `patterns` ("unipc-*"), all without any; BadConfig where none does."""
    if not patterns:
        return list(cases)
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(case.name, pattern) for case in cases):
            raise BadConfig(f"no case matches {pattern!r}; there are {', '.join(case.name for case in cases)}")
    return [case for case in cases if any(fnmatch.fnmatchcase(case.name, pattern) for pattern in patterns)]
