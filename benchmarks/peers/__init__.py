"""Other generators of cells, a module each: `copula.py`, with its `PEER = ...`, is the peer "copula".

Modules whose names begin with an underscore are not peers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from scrdit_jax.errors import MissingExtra
from scrdit_jax.extras import optional
from scrdit_jax.registry import Registry

if TYPE_CHECKING:
    from benchmarks.fidelity.cell_sets import CellSet

Fitted = TypeVar("Fitted")

PEERS: Registry[Peer] = Registry("benchmarks.peers", "PEER", "peer")


class Skipped(Exception):
    """A generator cannot be used on these cells; the text says why."""


@dataclass(frozen=True)
class Made:
    """Synthetic cells and what they cost.

    `cells` are (cell, gene) float32 log values, `types` the cell type of each where the generator knows it; the seconds
    and the rate are None where there is nothing to fit or to time.
    """

    cells: np.ndarray
    types: np.ndarray | None = None
    fit_seconds: float | None = None
    cells_per_second: float | None = None

    def of_genes(self, columns: np.ndarray | slice) -> Made:
        """The same cells in some of their genes."""
        return replace(self, cells=self.cells[:, columns])


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A generator to compare with: `make(real cells, number of cells, seed)` fits on the training cells and draws.

    `requires` is a library and the extra of this package that installs it; `settings` are what else decides the cells,
    as plain values for JSON.
    """

    make: Callable[[CellSet, int, int], Made]
    requires: tuple[str, str] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, cells: CellSet, count: int, seed: int) -> Made:
        """`count` cells; Skipped where the library it requires is not installed, or these cells do not suit it."""
        if self.requires is not None:
            library, extra = self.requires
            try:
                optional(library, extra=extra)
            except MissingExtra as error:
                raise Skipped(str(error)) from None
        return self.make(cells, count, seed)


def fit_and_draw(
    fit: Callable[[], Fitted], draw: Callable[[Fitted], tuple[np.ndarray, np.ndarray | None]], count: int
) -> Made:
    """Time both: `draw` gives `count` cells and the types of each, or None, of what `fit` returned."""
    started = time.perf_counter()
    fitted = fit()
    between = time.perf_counter()
    cells, types = draw(fitted)
    return Made(cells, types, between - started, count / (time.perf_counter() - between))
