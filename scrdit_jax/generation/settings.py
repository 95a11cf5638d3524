"""What a request for cells leaves open, resolved for the model at hand: solver, timesteps, dtype."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import jax
import numpy as np

from ..checkpoint import Model
from ..config import DiffusionConfig, SamplingConfig
from ..diffusion.predictions import is_distribution
from ..diffusion.schedule import linear_schedule
from ..diffusion.timesteps import SCHEDULES, check_timesteps, make_timesteps, read_timesteps, steps_of_acceleration
from ..errors import BadConfig, BadTimesteps
from ..sampling.solvers import Coefficients, Solver, default_solver, find_solver, make_coefficients, noise_levels
from .quantisation import require_library

# A schedule: the timesteps that a model carries, fitted to it when it was trained.
FITTED = "fitted"


def resolve_sampling(model: Model, config: SamplingConfig, *, dtype: str | None = None) -> SamplingConfig:
    """`config` with everything said: what decides the cells, whatever the defaults of another day.

    Where it has no dtype: `dtype`; else bfloat16 on a GPU or TPU, float32 on a CPU. Raises BadConfig or BadTimesteps
    where the model cannot be sampled so, MissingExtra where the dtype needs a library. Doing it twice changes nothing.
    """
    dtype = config.dtype or dtype or default_dtype()
    require_library(dtype)
    solver, schedule, steps = _resolved(model.config.diffusion, config, model.fitted)
    if config.acceleration is not None:
        steps = None
    return replace(config, solver=solver, schedule=schedule, steps=steps, dtype=dtype)


def default_dtype() -> str:
    """What networks compute in on the devices at hand when cells are sampled."""
    return "float32" if jax.local_devices()[0].platform == "cpu" else "bfloat16"


def coefficients_for(diffusion: DiffusionConfig, config: SamplingConfig, model: Model | None = None) -> Coefficients:
    """The table that `config` asks for, on this noise schedule; one row a network evaluation.

    Timesteps that the `model` carries, or a file that was fitted to a model, need that model.
    """
    schedule = linear_schedule(diffusion)
    name, timesteps_name, steps = _resolved(diffusion, config, {} if model is None else model.fitted)
    least = find_solver(name).least_steps
    if timesteps_name == FITTED:
        timesteps = np.asarray(model.fitted[steps], np.int64)
    elif timesteps_name in SCHEDULES:
        timesteps = make_timesteps(timesteps_name, schedule, steps, least=least)
    else:
        timesteps = _from_file(timesteps_name, config.steps, name, model)
    check_timesteps(timesteps, schedule.timesteps, least=least)
    return _table(diffusion, name, tuple(timesteps.tolist()), config.eta, config.variance)


@lru_cache(maxsize=8)
def _table(
    diffusion: DiffusionConfig, solver: str, timesteps: tuple[int, ...], eta: float | None, variance: str | None
) -> Coefficients:
    levels = noise_levels(linear_schedule(diffusion), np.asarray(timesteps, np.int64))
    return make_coefficients(solver, levels, eta=eta, variance=variance)


def _resolved(
    diffusion: DiffusionConfig, config: SamplingConfig, fitted: Mapping[int, Any]
) -> tuple[str, str, int | None]:
    """(the solver's name, the schedule's, evaluations); the last None where a file of timesteps says it."""
    draws = is_distribution(diffusion.prediction)
    from_file = config.schedule not in (None, FITTED, *SCHEDULES)
    name = config.solver or (read_timesteps(config.schedule).solver if from_file else None)
    name = name or default_solver(is_distribution=draws)
    solver = find_solver(name)
    if solver.draws and not draws:
        raise BadConfig(
            f"solver {name} draws clean cells from the distribution that a model predicts, and this one predicts "
            f"{diffusion.prediction}, which is none; use another, such as {default_solver(is_distribution=False)}"
        )
    steps = config.steps
    if config.acceleration is not None:
        steps = steps_of_acceleration(diffusion.timesteps, config.acceleration, least=solver.least_steps)
    if from_file:
        return name, config.schedule, steps
    if steps is None:
        steps = _default_steps(solver, diffusion.timesteps)
    schedule = config.schedule
    if schedule is None:
        schedule = FITTED if solver.draws and steps in fitted else solver.schedule
    if schedule == FITTED and not (solver.draws and steps in fitted):
        there = f"; it carries those for {', '.join(map(str, sorted(fitted)))}" if fitted else ""
        what = f"no timesteps fitted to {steps} steps" if solver.draws else f"no timesteps fitted to solver {name}"
        raise BadTimesteps(
            f"this model carries {what}{there}; leave --schedule out, or make a file by 'scrdit schedule'"
        )
    return name, schedule, steps


def _default_steps(solver: Solver, timesteps: int) -> int:
    return timesteps if solver.steps is None else min(solver.steps, timesteps)


def _from_file(path: str, steps: int | None, solver: str, model: Model | None) -> np.ndarray:
    """The timesteps in a file; BadTimesteps where they are not of this many steps, this solver or this model."""
    found = read_timesteps(path)
    if steps is not None and steps != len(found.timesteps):
        raise BadTimesteps(
            f"{path} holds {len(found.timesteps)} timesteps but {steps} steps were asked for; leave out --steps"
        )
    if found.solver is not None and found.solver != solver:
        raise BadTimesteps(f"{path} was fitted for solver {found.solver}, not {solver}; use --solver {found.solver}")
    if found.model is not None and (model is None or found.model != model.digest):
        raise BadTimesteps(f"{path} was fitted to another model; make one for this by 'scrdit schedule'")
    return found.timesteps
