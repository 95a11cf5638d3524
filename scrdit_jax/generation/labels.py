"""Which labels each cell of a request bears: runs of equal labels, in the order of the cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..data.conditions import Condition

# ((name in each column, how many cells), ...), none for cells without labels
Runs = tuple[tuple[tuple[str, ...], int], ...]


@dataclass(frozen=True)
class Labels:
    """The labels of all cells of a request: `distinct` (label, column) int32 codes, and for each run its row in it.

    A request without labels has one row of no columns.
    """

    distinct: np.ndarray
    runs: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, runs: Runs, conditions: Sequence[Condition]) -> Labels:
        """Those of `runs`; UnknownCellType for a name that the conditions do not hold."""
        if not runs:
            return cls(np.zeros((1, 0), np.int32), np.zeros(1, np.int32), np.zeros(1, np.int64))
        rows = {names: i for i, names in enumerate(dict.fromkeys(names for names, _ in runs))}
        codes = [[c.code(name) for c, name in zip(conditions, names, strict=True)] for names in rows]
        ends = np.cumsum([count for _, count in runs], dtype=np.int64)
        return cls(np.array(codes, np.int32), np.array([rows[names] for names, _ in runs], np.int32), ends)

    def rows(self, first: int, count: int) -> np.ndarray:
        """For cells `first`, `first` + 1, ... their rows in `distinct`, (count,) int32; past the end the last one's."""
        places = np.searchsorted(self.ends, first + np.arange(count), side="right")
        return self.runs[np.minimum(places, len(self.runs) - 1)]
