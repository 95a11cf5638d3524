"""Which conditions each new cell has: its quota's categories, and derived ones drawn for it by its index alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .request import Quotas
from .table import ConditionTable

# Apart from every other number drawn under the same seed.
DERIVED_KEY = 0x6709


@dataclass(frozen=True, eq=False)
class Assignment:
    """Conditions are rows of `codes` (row, variable) int32, of which each cell has one; no columns: no conditions.

    The cells up to `ends[q]` are of quota q, whose combination of observed categories is number `combination[q]`. A
    cell of combination k has one of rows `first[k]` to `first[k + 1]` - 1, drawn by its index and the `seed`: `shares`
    (row,) add up to 1 over them. `observed` (row, observed variable) are the observed codes alone.
    """

    codes: np.ndarray
    observed: np.ndarray
    ends: np.ndarray
    combination: np.ndarray
    first: np.ndarray
    shares: np.ndarray
    seed: int

    @classmethod
    def of(cls, quotas: Quotas, table: ConditionTable | None, seed: int) -> Assignment:
        """The conditions of all cells of a request; derived ones as the training cells of the `table` have them.

        Quotas without labels, of a model that knows some, are for cells without any condition.
        """
        distinct = list(dict.fromkeys(quotas.codes))
        rows = {codes: i for i, codes in enumerate(distinct)}
        ends = np.cumsum(quotas.counts, dtype=np.int64)
        combination = np.array([rows[codes] for codes in quotas.codes], np.int32)
        known = np.array(distinct, np.int32).reshape(len(distinct), -1)
        if table is None or known.shape[1] < len(table.observed) or not len(table.derived):
            return cls(known, known, ends, combination, np.arange(len(known) + 1), np.ones(len(known)), seed)
        blocks, first, shares = [], [0], []
        for observed in known:
            derived, share = table.derived_given(observed)
            block = np.empty((len(derived), len(table.variables)), np.int32)
            block[:, table.observed], block[:, table.derived] = observed, derived
            blocks.append(block)
            first.append(first[-1] + len(derived))
            shares.append(share)
        codes = np.concatenate(blocks)
        return cls(codes, codes[:, table.observed], ends, combination, np.array(first), np.concatenate(shares), seed)

    def rows(self, first: int, count: int) -> np.ndarray:
        """For cells `first`, `first` + 1, ... their rows in `codes`, (count,) int32; past the end as the last quota."""
        quotas = np.searchsorted(self.ends, first + np.arange(count), side="right")
        combination = self.combination[np.minimum(quotas, len(self.combination) - 1)]
        if len(self.codes) == len(self.first) - 1:
            return combination
        # A block of four words a cell, named by its index. Raw words are the same in every version of NumPy.
        words = np.random.Philox(key=[self.seed % 2**64, DERIVED_KEY], counter=[first, 0, 0, 0]).random_raw(4 * count)
        uniform = (words[::4] >> np.uint64(11)) * 2.0**-53
        chosen = np.empty(count, np.int32)
        for number in np.unique(combination):
            here, begin, end = combination == number, self.first[number], self.first[number + 1]
            place = np.searchsorted(np.cumsum(self.shares[begin:end]), uniform[here], side="right")
            chosen[here] = begin + np.minimum(place, end - begin - 1)
        return chosen
