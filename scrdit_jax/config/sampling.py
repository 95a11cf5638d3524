"""How cells are sampled from a trained run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import BadConfig
from ..registry import SOLVERS
from .checks import SAMPLING_DTYPES, require_choice, require_real, require_whole

OUTPUTS = ("log", "counts")
# (column, weight) for each column of conditions that is guided by itself, in the columns' alphabetical order.
ByColumn = tuple[tuple[str, float], ...]
MOST_GUIDANCE = 100.0


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How cells are drawn from a trained run. `steps` is the exact number of network evaluations a cell.

    What is None is settled for the model at hand (generation.settings): the solver by what it predicts; steps by a
    schedule file, or as many as the solver needs; the schedule, timesteps fitted to the model if it carries them; the
    dtype, bfloat16 on GPUs and TPUs ("int8" and "fp8" are as generation.quantisation says). Without a batch size: the
    one that is fastest on the devices at hand. `output` "counts" adds counts as a layer, `depth` is every cell's
    library size in them.

    `guidance` W of a conditional model: predicted clean cells are uncond + W (cond - uncond) (Ho & Salimans 2022); 1,
    as asked, costs one evaluation a step, as does 0, which ignores the labels; any other costs two. By column, given as
    {column: W} and kept as pairs: cond + sum (W - 1) (cond - cond without the column), at one more evaluation for each
    column whose W is not 1 (Liu et al. 2022, "Compositional visual generation with composable diffusion models"); the
    model must have been trained with `column_dropout`.
    """

    solver: str | None = None
    steps: int | None = None
    acceleration: float | None = None
    schedule: str | None = None
    eta: float | None = None
    variance: str | None = None
    seed: int = 0
    batch_size: int | None = None
    dtype: str | None = None
    guidance: float | ByColumn = 1.0
    output: str = "log"
    depth: float | None = None

    def __post_init__(self) -> None:
        if self.solver is not None:
            SOLVERS.require(self.solver)
        if self.steps is not None:
            require_whole("steps", self.steps, 1)
            if self.acceleration is not None:
                raise BadConfig("steps and acceleration both say how many evaluations to use; give one of them")
        if self.acceleration is not None:
            require_real("acceleration", self.acceleration, 1)
        if self.eta is not None:
            require_real("eta", self.eta, 0, 1)
        require_whole("seed", self.seed, 0)
        if self.batch_size is not None:
            require_whole("batch_size", self.batch_size, 1)
        if self.dtype is not None:
            require_choice("dtype", self.dtype, SAMPLING_DTYPES)
        object.__setattr__(self, "guidance", _guidance(self.guidance))
        require_choice("output", self.output, OUTPUTS)
        if self.depth is not None:
            require_real("depth", self.depth, 0, 1e9, open_low=True)
            if self.output != "counts":
                raise BadConfig("a depth is for counts; add --output counts")


def _guidance(given: Any) -> float | ByColumn:
    """A number, or a pair for each column that is guided; pairs and lists of them come back from JSON.

    A column of weight 1 is as one that is not named, and none as guidance 1.
    """
    if not isinstance(given, Mapping | list | tuple):
        require_real("guidance", given, 0, MOST_GUIDANCE)
        return given
    pairs: list[Any] = list(given.items() if isinstance(given, Mapping) else given)
    if not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        raise BadConfig(f"guidance is {given!r}; it must be a number, or a number for each of some columns")
    names = [name for name, _ in pairs]
    for name, weight in pairs:
        require_real(f"guidance of {name!r}", weight, 0, MOST_GUIDANCE)
        if names.count(name) > 1:
            raise BadConfig(f"guidance names {name!r} twice; give each column one weight")
    return tuple(sorted((str(name), float(weight)) for name, weight in pairs if weight != 1)) or 1.0
