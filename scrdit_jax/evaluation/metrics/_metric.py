"""What a metric is: a number about two sides of a comparison, and how to read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from ._distances import joint_pcs

LEADING, NEIGHBOURS, SPECTRUM, PAPER, FURTHER = TABLES = (
    "Leading scores",
    "Neighbours and transport",
    "Variance along real components",
    "The paper's metrics",
    "Further scores",
)
Found = TypeVar("Found")


@dataclass(frozen=True, eq=False)
class Pair:
    """The two sides of one comparison: (cell, gene) log values, dense, of the same genes; `seed` is for what is random.

    Real cells come first. What several metrics need of both together is computed once, when it is first asked for.
    """

    real: np.ndarray
    synthetic: np.ndarray
    seed: int = 0

    @cached_property
    def pcs(self) -> tuple[np.ndarray, np.ndarray]:
        """The first 50 principal components of both sides together, (cell, component) of either."""
        return joint_pcs(self.real, self.synthetic, seed=self.seed)

    def once(self, function: Callable[[Pair], Found]) -> Found:
        """`function(self)`, computed when it is first asked for: what the metrics of one module share."""
        if function not in self._found:
            self._found[function] = function(self)
        return self._found[function]

    @cached_property
    def _found(self) -> dict[Callable[[Pair], Any], Any]:
        return {}


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What a number is called, which way is better, and in a sentence each what it sees and what it cannot see.

    `table` is the title of the table it stands in, one of TABLES or a new one, which then comes last.
    """

    name: str
    title: str
    better: str
    table: str
    compute: Callable[[Pair], float]
    sees: str
    blind: str


def of_values(function: Callable[[np.ndarray, np.ndarray], float]) -> Callable[[Pair], float]:
    """A function of two matrices as one of a pair."""
    return lambda pair: function(pair.real, pair.synthetic)
