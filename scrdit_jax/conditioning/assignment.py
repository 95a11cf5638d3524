"""Which conditions each new cell has: those of its quota."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .request import Quotas


@dataclass(frozen=True, eq=False)
class Assignment:
    """Conditions are rows of `codes` (row, variable) int32, of which each cell has one; no columns: no conditions.

    The cells up to `ends[q]` are of quota q, whose categories are row `row[q]`.
    """

    codes: np.ndarray
    ends: np.ndarray
    row: np.ndarray

    @classmethod
    def of(cls, quotas: Quotas) -> Assignment:
        """The conditions of all cells of a request; quotas without labels are for cells without any condition."""
        distinct = list(dict.fromkeys(quotas.codes))
        numbers = {codes: i for i, codes in enumerate(distinct)}
        row = np.array([numbers[codes] for codes in quotas.codes], np.int32)
        codes = np.array(distinct, np.int32).reshape(len(distinct), -1)
        return cls(codes, np.cumsum(quotas.counts, dtype=np.int64), row)

    def rows(self, first: int, count: int) -> np.ndarray:
        """For cells `first`, `first` + 1, ... their rows in `codes`, (count,) int32; past the end as the last quota."""
        quotas = np.searchsorted(self.ends, first + np.arange(count), side="right")
        return self.row[np.minimum(quotas, len(self.row) - 1)]
