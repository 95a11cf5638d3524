"""How cells are sampled from a trained run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from ..errors import BadConfig
from ..registry import SOLVERS
from .checks import BATCH, SAMPLING_DTYPES, SEED, Choice, Real, Whole, check_fields, plain, shown, text

MOST_TIMESTEPS = 100_000
OUTPUTS = ("log", "counts")
# (column, weight) for each column of conditions that is guided by itself, in the columns' alphabetical order.
ByColumn = tuple[tuple[str, float], ...]
WEIGHT = Real(0, 100)


def _solver(name: str, value: Any) -> str:
    SOLVERS.require(text(name, value))
    return value


def _guidance(name: str, given: Any) -> float | ByColumn:
    """A number, or a pair for each column that is guided; pairs and lists of them come back from JSON.

    A column of weight 1 is as one that is not named, and none as guidance 1.
    """
    if not isinstance(given, Mapping | list | tuple):
        return WEIGHT(name, given)
    pairs: list[Any] = list(given.items() if isinstance(given, Mapping) else given)
    if not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        raise BadConfig(f"{name} is {shown(given)}; it must be a number, or a number for each of some columns")
    columns = [text(f"a column of {name}", plain(column)) for column, _ in pairs]
    weights = [WEIGHT(f"{name} of {shown(column)}", weight) for column, (_, weight) in zip(columns, pairs, strict=True)]
    for column in columns:
        if columns.count(column) > 1:
            raise BadConfig(f"{name} names {shown(column)} twice; give each column one weight")
    return tuple(sorted((c, float(w)) for c, w in zip(columns, weights, strict=True) if w != 1)) or 1.0


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

    solver: Annotated[str | None, _solver] = None
    steps: Annotated[int | None, Whole(1, MOST_TIMESTEPS)] = None
    acceleration: Annotated[float | None, Real(1, MOST_TIMESTEPS)] = None
    schedule: str | None = None
    eta: Annotated[float | None, Real(0, 1)] = None
    variance: str | None = None
    seed: Annotated[int, SEED] = 0
    batch_size: Annotated[int | None, BATCH] = None
    dtype: Annotated[str | None, Choice(SAMPLING_DTYPES)] = None
    guidance: Annotated[float | ByColumn, _guidance] = 1.0
    output: Annotated[str, Choice(OUTPUTS)] = "log"
    depth: Annotated[float | None, Real(0, 1e9, open_low=True)] = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.steps is not None and self.acceleration is not None:
            raise BadConfig("steps and acceleration both say how many evaluations to use; give one of them")
        if self.depth is not None and self.output != "counts":
            raise BadConfig("a depth is for counts; add --output counts")
