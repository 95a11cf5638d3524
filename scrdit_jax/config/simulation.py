"""What is planted in simulated cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from ..errors import BadConfig
from .checks import SEED, Choice, Real, Whole, check_fields, plain, require, shown, text, texts

GROUP = "group"
SCHEMAS = ("scanpy", "open-problems")
SHARE = Real(0, 1)
LOG2_FOLD_CHANGE = Real(0, 10)


def _range(name: str, given: Any) -> tuple[float, float]:
    """One number, or the least and the greatest."""
    if not isinstance(given, list | tuple):
        value = LOG2_FOLD_CHANGE(name, given)
        return float(value), float(value)
    require(len(given) == 2, name, given, "a number, or two: the least and the greatest")
    low, high = (float(LOG2_FOLD_CHANGE(name, plain(each))) for each in given)
    require(low <= high, name, given, "the least before the greatest")
    return low, high


@dataclass(frozen=True, kw_only=True)
class SimulationConfig:
    """What is planted, and how strong; without any, cells are as the model makes them.

    Differential expression: a share `de_share` of the genes has the expected count multiplied by 2^+-f, f uniform in
    `log2_fold_change`; a share `up_share` of them is raised. `de_by` "group": cells are shared out at random over
    `groups` (None: two, if there are such genes), of which the first is the reference and each other has genes of its
    own. `de_by` a column that the model is conditioned on: each category has genes of its own. `de_cell_types`: in
    cells of these types alone.

    Batches: cells are shared out at random over `batches`. A share `batch_share` of the genes has in each batch a
    factor 2^N(0, batch_strength^2), and every cell of a batch the depth 2^N(0, batch_depth^2).

    Every cell is sequenced `depth_factor` times as deep. A share `doublets` of the droplets holds a second cell, and of
    every cell's counts the share `ambient` comes from its batch's mean expression.

    What is planted follows from `effects_seed` (None: the seed of the cells), so that the same cells can have others.
    `schema` "open-problems" is that of the Open Problems benchmarks: `layers` counts and normalized in place of X.
    """

    groups: Annotated[int | None, Whole(1, 1000)] = None
    de_share: Annotated[float, SHARE] = 0.0
    log2_fold_change: Annotated[tuple[float, float], _range] = (1.0, 1.0)
    up_share: Annotated[float, SHARE] = 0.5
    de_by: Annotated[str, text] = GROUP
    de_cell_types: Annotated[tuple[str, ...], texts] = ()
    batches: Annotated[int, Whole(1, 1000)] = 1
    batch_share: Annotated[float, SHARE] = 1.0
    batch_strength: Annotated[float, Real(0, 5)] = 0.0
    batch_depth: Annotated[float, Real(0, 5)] = 0.0
    depth_factor: Annotated[float, Real(0, 1000, open_low=True)] = 1.0
    doublets: Annotated[float, SHARE] = 0.0
    ambient: Annotated[float, Real(0, 0.99)] = 0.0
    effects_seed: Annotated[int | None, SEED] = None
    schema: Annotated[str, Choice(SCHEMAS)] = "scanpy"

    def __post_init__(self) -> None:
        check_fields(self)
        if self.batches == 1 and (self.batch_strength or self.batch_depth):
            raise BadConfig("a single batch has no batch effect; add --batches 2, for example")
        if not self.de_share and self.de_cell_types:
            raise BadConfig("cell types of differential expression are named, and no share of genes; add --de-share")
        if self.de_by == GROUP and self.de_share and self.groups == 1:
            raise BadConfig("a single group differs from none; give 2 groups or more, or leave --groups out")
        if self.de_by != GROUP and self.groups not in (None, 1):
            raise BadConfig(
                f"groups are {self.groups} and differential expression is by {shown(self.de_by)}; leave one of them out"
            )

    @property
    def group_count(self) -> int:
        """How many groups cells are shared out over."""
        return self.groups or (2 if self.de_share and self.de_by == GROUP else 1)

    @property
    def raises(self) -> bool:
        """Whether some gene's expected count can become greater."""
        raised = self.de_share and self.up_share and self.log2_fold_change[1]
        return bool(raised or self.batch_strength or self.batch_depth or self.depth_factor > 1)
