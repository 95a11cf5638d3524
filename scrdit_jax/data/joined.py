"""Whether several data sets can be prepared as one: their columns and the scales of their values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse

from ..config import DataConfig
from ..errors import BadInput
from ..io.backed import Cells
from ..io.joining import FILE_COLUMN, Part
from .statistics import LARGEST_LOG, CellStatistics

# A scale is recognised by the first so many cells of a file, of as many at least, whose sums agree to so little.
MOST_CELLS, FEWEST_CELLS = 256, 10
SPREAD, SAME_SUM = 0.01, 0.1
INVERSES = {
    "log(1 + x)": np.expm1,
    "log2(1 + x)": lambda logs: np.exp2(logs) - 1,
    "log10(1 + x)": lambda logs: 10**logs - 1,
    "x": np.asarray,
}
COUNTS, OTHER = "raw counts", "values that are no counts"


class Scale(NamedTuple):
    """What the values of a file are: COUNTS; OTHER; or a `kind` of INVERSES, where x sums to `total` in each cell."""

    kind: str
    total: float = 0.0

    def __str__(self) -> str:
        if not self.total:
            return self.kind
        return f"{self.kind} of values that sum to {self.total:.6g} in each cell"

    def agrees(self, other: Scale) -> bool:
        """Whether the two can be the same, as far as they are known."""
        if OTHER in (self.kind, other.kind):
            return COUNTS not in (self.kind, other.kind)
        return self.kind == other.kind and abs(self.total - other.total) <= SAME_SUM * self.total


def scale_of(cells: Cells) -> Scale:
    """The scale of checked `cells`, by the first of them."""
    rows = sparse.csr_matrix(cells.X[:MOST_CELLS], dtype=np.float64)
    if CellStatistics.of(rows).are_counts:
        return Scale(COUNTS)
    rows = rows[np.diff(rows.indptr) > 0]
    if rows.shape[0] < FEWEST_CELLS or not 0 <= rows.data.min() <= rows.data.max() < np.inf:
        return Scale(OTHER)
    found = Scale(OTHER)
    least = SPREAD
    for kind, inverse in INVERSES.items():
        if kind != "x" and rows.data.max() > LARGEST_LOG:
            continue
        sums = np.add.reduceat(inverse(rows.data), rows.indptr[:-1])
        if (spread := sums.std() / sums.mean()) < least:
            found, least = Scale(kind, float(sums.mean())), spread
    return found


def require_alike(parts: Sequence[Part], config: DataConfig) -> None:
    """BadInput where a part lacks a column that is asked for and another has, or where two are on different scales.

    Values that are normalised whatever they look like need be no counts.
    """
    for column in dict.fromkeys((*config.condition_on, *filter(None, [config.cell_type_key, config.donor_key]))):
        having = [part for part in parts if column in part.cells.obs]
        if not having or len(having) == len(parts) or column == FILE_COLUMN:
            continue
        lacking = next(part for part in parts if column not in part.cells.obs)
        raise BadInput(
            f"{lacking.name} has no column {column!r}, which {having[0].name} has; add it to the obs of every file, or "
            "leave the column or the file out"
        )
    first, *others = ((part.name, scale_of(part.cells)) for part in parts)
    for other in others:
        kinds = {first[1].kind, other[1].kind}
        if first[1].agrees(other[1]) or (config.normalize == "log1p" and kinds == {COUNTS, OTHER}):
            continue
        raise BadInput(
            f"{first[0]} holds {first[1]}, {other[0]} {other[1]}; the files of a data set must be on one scale: give "
            "the raw counts of each (a layer, or adata.raw.to_adata(), may hold them)"
        )
