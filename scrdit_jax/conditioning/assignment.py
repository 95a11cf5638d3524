"""What each cell of a request is told: its labels, in runs of equal ones, and kind and size, drawn for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..checkpoint import Model
from .variables import Variable

# ((name in each column, how many cells), ...), none for cells without labels
Runs = tuple[tuple[tuple[str, ...], int], ...]

# Apart from every other number drawn under the same seed.
GROUPS_KEY = 0x6709


@dataclass(frozen=True)
class Labels:
    """The labels of all cells of a request: `distinct` (label, column) int32 codes, and for each run its row in it.

    A request without labels has one row of no columns.
    """

    distinct: np.ndarray
    runs: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, runs: Runs, conditions: Sequence[Variable]) -> Labels:
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


@dataclass(frozen=True)
class Assignment:
    """What the network is told: rows of `codes` (row, column) int32, labels and groups, of which each cell has one.

    A cell with row r of `labels.distinct` has one of rows `first[r]` to `first[r + 1]` - 1, drawn by its index and the
    seed: `shares` (row,) add up to 1 over them, and are those of the training cells with these labels. Of a model
    without groups both have the same rows.
    """

    labels: Labels
    codes: np.ndarray
    first: np.ndarray
    shares: np.ndarray
    seed: int

    @classmethod
    def of(cls, labels: Labels, model: Model, seed: int) -> Assignment:
        """Where no training cell has a label together with the others, the groups are those of its cell type."""
        distinct = labels.distinct
        unlabelled = distinct.shape[1] < len(model.metadata.conditions)
        if unlabelled or not model.metadata.groups:
            return cls(labels, distinct, np.arange(len(distinct) + 1), np.ones(len(distinct)), seed)
        codes, first, shares = [], [0], []
        for row in distinct:
            groups, counts = np.unique(_groups_of(row, model), axis=0, return_counts=True)
            codes.append(np.column_stack([np.tile(row, (len(groups), 1)), groups]))
            first.append(first[-1] + len(groups))
            shares.append(counts / counts.sum())
        return cls(labels, np.concatenate(codes).astype(np.int32), np.array(first), np.concatenate(shares), seed)

    def rows(self, first: int, count: int) -> np.ndarray:
        """For cells `first`, `first` + 1, ... their rows in `codes`, (count,) int32."""
        rows = self.labels.rows(first, count)
        if len(self.codes) == len(self.labels.distinct):
            return rows
        # A block of four words a cell, named by its index. Raw words are the same in every version of NumPy.
        words = np.random.Philox(key=[self.seed % 2**64, GROUPS_KEY], counter=[first, 0, 0, 0]).random_raw(4 * count)
        uniform = (words[::4] >> np.uint64(11)) * 2.0**-53
        chosen = np.empty(count, np.int32)
        for row in np.unique(rows):
            here, begin, end = rows == row, self.first[row], self.first[row + 1]
            place = np.searchsorted(np.cumsum(self.shares[begin:end]), uniform[here], side="right")
            chosen[here] = begin + np.minimum(place, end - begin - 1)
        return chosen


def _groups_of(labels: np.ndarray, model: Model) -> np.ndarray:
    """The groups (cell, column) of the training cells with these labels."""
    known, groups = np.split(model.cells.labels, [len(labels)], axis=1)
    column = model.metadata.type_column
    for same in ((known == labels).all(axis=1), known[:, column : column + 1].ravel() == labels[column : column + 1]):
        if same.any():
            return groups[same]
    return groups
