"""Whose privacy it is, and who is drawn for a step: Poisson sampling, as it is accounted for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

# Room is made for so many deviations more than are drawn on average; a larger draw is given more room.
DEVIATIONS = 6


class Draw(NamedTuple):
    """The units of a step: `rows` (slot, k) int32 of the training cells, and which of them are `present` (slot, k)
    bool. A slot without any is empty; where a unit gives fewer than k, its first cell fills up."""

    rows: np.ndarray
    present: np.ndarray


@dataclass(frozen=True, eq=False)
class Units:
    """Cells, or donors with all of theirs: unit u has rows `order[starts[u] : starts[u + 1]]`, and gives `most` of
    them at most. Who is drawn follows from `key` (2,) uint64 and the step alone."""

    order: np.ndarray
    starts: np.ndarray
    most: int
    key: np.ndarray

    @classmethod
    def cells(cls, count: int, key: np.ndarray) -> Units:
        """Each cell by itself."""
        return cls(np.arange(count), np.arange(count + 1), 1, key)

    @classmethod
    def donors(cls, names: np.ndarray, most: int, key: np.ndarray) -> Units:
        """`names` (cell,) says whose each cell is."""
        found, codes = np.unique(names, return_inverse=True)
        counts = np.bincount(codes, minlength=len(found))
        return cls(np.argsort(codes, kind="stable"), np.append(0, np.cumsum(counts)), most, key)

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def are_cells(self) -> bool:
        """Whether each is one cell."""
        return len(self.order) == len(self)

    def room(self, probability: float, multiple: int) -> int:
        """How many slots a step has: a multiple of so many."""
        mean = probability * len(self)
        least = min(len(self), mean + DEVIATIONS * (mean * (1 - probability)) ** 0.5)
        return max(1, -(-int(np.ceil(least)) // multiple)) * multiple

    def at(self, step: int, probability: float) -> np.ndarray:
        """The units of a step, each with this probability by itself, ascending."""
        # Raw words are the same in every NumPy version.
        words = np.random.Philox(key=self.key, counter=[0, 0, step, 0]).random_raw(len(self))
        return np.flatnonzero((words >> np.uint64(11)) < probability * 2.0**53)

    def draw(self, step: int, probability: float, multiple: int) -> Draw:
        """The cells of the units of a step, in a `room`, or in the next `multiple` where it does not hold them: none is
        ever left out, as that would not be what is accounted for."""
        units = self.at(step, probability)
        slots = max(self.room(probability, multiple), -(-len(units) // multiple) * multiple)
        rows, present = np.zeros((slots, self.most), np.int32), np.zeros((slots, self.most), bool)
        for slot, unit in enumerate(units):
            mine = self.order[self.starts[unit] : self.starts[unit + 1]]
            if len(mine) > self.most:
                words = np.random.Philox(key=self.key, counter=[0, unit, step, 1]).random_raw(len(mine))
                mine = mine[np.argsort(words, kind="stable")[: self.most]]
            rows[slot], present[slot, : len(mine)] = mine[0], True
            rows[slot, : len(mine)] = mine
        return Draw(rows, present)
