"""Training batches that follow from the step alone: nothing to restore when a run continues."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from scipy import sparse


class Batch(NamedTuple):
    """What a training step is fed; every leaf has the cells along its first axis.

    `cells` (cell, gene) float32 on the log scale; `labels` (cell, column) int32, or None for a model without any.
    """

    cells: np.ndarray
    labels: np.ndarray | None = None


@dataclass(eq=False)
class Batches:
    """Batches of `cells` (cell, gene) and their `labels`, shuffled anew each epoch by (seed, epoch).

    The epochs follow each other without a gap: batch `step` holds the positions step*batch_size ... of that endless
    list, so every cell comes exactly once an epoch, every batch is full, and a batch may span two epochs or more.
    """

    cells: sparse.csr_matrix
    batch_size: int
    seed: int
    labels: np.ndarray | None = None
    _orders: dict[int, np.ndarray] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self.cells = sparse.csr_matrix(self.cells, dtype=np.float32)

    def indices_at(self, step: int) -> np.ndarray:
        """Rows of `cells` in batch `step`, (batch,) int64."""
        n = self.cells.shape[0]
        positions = step * self.batch_size + np.arange(self.batch_size)
        epochs, places = np.divmod(positions, n)
        return np.concatenate([self._order(int(epoch))[places[epochs == epoch]] for epoch in np.unique(epochs)])

    def at(self, step: int) -> Batch:
        """Batch `step`, in memory of its own: JAX may still be reading the one before."""
        rows = self.indices_at(step)
        return Batch(self.cells[rows].toarray(), None if self.labels is None else self.labels[rows])

    def _order(self, epoch: int) -> np.ndarray:
        """The epoch's permutation. Sorting raw Philox words keeps it the same in every NumPy version."""
        if epoch not in self._orders:
            words = np.random.Philox(key=[self.seed % 2**64, epoch]).random_raw(self.cells.shape[0])
            newest = sorted(self._orders)[-1:]
            self._orders = {e: self._orders[e] for e in newest} | {epoch: np.argsort(words, kind="stable")}
        return self._orders[epoch]
