"""Training batches that follow from the step alone: nothing to restore when a run continues."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from scipy import sparse

from ..io.backed import BackedMatrix
from .packed import Packed, bytes_of, pack_rows

# Cells are shuffled over all, or, where there are more than a window of them, in two levels: stretches of
# neighbouring cells over all, then the cells of so many stretches. The order is the same wherever the cells lie, and
# from a disk a window at a time is read, in stretches.
CELLS_A_STRETCH = 64
STRETCHES_A_WINDOW = 512
# A window, and the next, lie in memory: of cells with more genes they are half as long.
MANY_GENES = 8192


class Batch(NamedTuple):
    """What a training step is fed; every leaf has the cells along its first axis.

    `cells` (cell, gene) float32 on the log scale, or packed without their zeros; `labels` (cell, column) int32,
    `states` (cell, number) float32 and `log_sizes` (cell,) float32, log(library size / target sum); each None for a
    model that takes none.
    """

    cells: np.ndarray | Packed
    labels: np.ndarray | None = None
    states: np.ndarray | None = None
    log_sizes: np.ndarray | None = None


@dataclass(frozen=True)
class Shuffle:
    """The order of `cells` in each epoch, by (seed, epoch). An epoch is a row of windows, each shuffled by itself.

    Sorting raw Philox words keeps it the same in every NumPy version.
    """

    cells: int
    seed: int
    cells_a_stretch: int = CELLS_A_STRETCH
    stretches_a_window: int = STRETCHES_A_WINDOW

    def starts(self, epoch: int) -> np.ndarray:
        """Where each window of the epoch begins, and where the last one ends: (window + 1,) int64."""
        lengths = self._stretch_lengths()[self._stretches(epoch)]
        firsts = np.arange(0, len(lengths), self.stretches_a_window)
        return np.append(0, np.cumsum(np.add.reduceat(lengths, firsts)))

    def window(self, epoch: int, number: int) -> np.ndarray:
        """The cells of one window in the order in which they come, int64."""
        stretches = self._stretches(epoch)[number * self.stretches_a_window : (number + 1) * self.stretches_a_window]
        firsts = np.sort(stretches) * self.cells_a_stretch
        cells = (firsts[:, None] + np.arange(self.cells_a_stretch)).ravel()
        cells = cells[cells < self.cells]
        return cells[self._sorted_words(epoch, len(cells), counter=[0, 0, number, 0])]

    def _stretch_lengths(self) -> np.ndarray:
        stretches = -(-self.cells // self.cells_a_stretch)
        return np.minimum(self.cells_a_stretch, self.cells - self.cells_a_stretch * np.arange(stretches))

    def _stretches(self, epoch: int) -> np.ndarray:
        stretches = -(-self.cells // self.cells_a_stretch)
        if stretches <= self.stretches_a_window:
            return np.arange(stretches)
        return self._sorted_words(epoch, stretches, counter=[0, 0, 0, 1])

    def _sorted_words(self, epoch: int, count: int, counter: list[int]) -> np.ndarray:
        words = np.random.Philox(key=[self.seed % 2**64, epoch], counter=counter).random_raw(count)
        return np.argsort(words, kind="stable")


class _Window(NamedTuple):
    """A window in memory: its cells' numbers in order, and, of cells on a disk, the cells themselves in that order."""

    rows: np.ndarray
    cells: sparse.csr_matrix | None


@dataclass(eq=False)
class Batches:
    """Batches of `cells` (cell, gene), and what else a Batch has, shuffled anew each epoch; see Shuffle.

    The epochs follow each other without a gap: batch `step` holds the positions step*batch_size ... of that endless
    list, so every cell comes exactly once an epoch, every batch is full, and a batch may span two epochs or more.
    Cells on a disk are read a window at a time. With `room` batches are packed, and a device spreads them out, so that
    none is ever dense on the host. Not to be asked by two threads at once.
    """

    cells: sparse.csr_matrix | BackedMatrix
    batch_size: int
    seed: int
    labels: np.ndarray | None = None
    states: np.ndarray | None = None
    log_sizes: np.ndarray | None = None
    shuffle: Shuffle = field(default=None)
    room: int | None = None
    _starts: dict[int, np.ndarray] = field(default_factory=dict, init=False, repr=False)
    _windows: dict[tuple[int, int], _Window] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.in_memory:
            self.cells = sparse.csr_matrix(self.cells, dtype=np.float32)
        cells, genes = self.cells.shape
        stretches = STRETCHES_A_WINDOW // 2 if genes > MANY_GENES else STRETCHES_A_WINDOW
        self.shuffle = self.shuffle or Shuffle(cells, self.seed, stretches_a_window=stretches)

    @property
    def in_memory(self) -> bool:
        """Whether the cells are, and not on a disk."""
        return not isinstance(self.cells, BackedMatrix)

    def indices_at(self, step: int, share: slice = slice(None)) -> np.ndarray:
        """Rows of `cells` in batch `step`, (batch,) int64, or a `share` of them."""
        return np.concatenate([window.rows[places] for window, places in self._pieces(step, share)])

    def at(self, step: int, share: slice = slice(None)) -> Batch:
        """Batch `step`, or a `share` of it, in memory of its own: JAX may still be reading the one before."""
        pieces = self._pieces(step, share)
        rows = np.concatenate([window.rows[places] for window, places in pieces])
        if self.in_memory:
            return self.of_rows(rows)
        return self._batch(rows, sparse.vstack([window.cells[places] for window, places in pieces], format="csr"))

    def of_rows(self, rows: np.ndarray) -> Batch:
        """Those cells, of any number and in any order; from a disk, where they lie apart, slowly."""
        if self.in_memory:
            return self._batch(rows, self.cells[rows])
        found, places = np.unique(rows, return_inverse=True)
        return self._batch(rows, self.cells.take(found)[places])

    def _batch(self, rows: np.ndarray, cells: sparse.csr_matrix) -> Batch:
        others = (self.labels, self.states, self.log_sizes)
        return Batch(self._for_device(cells), *(None if of_cells is None else of_cells[rows] for of_cells in others))

    def all(self) -> Batch:
        """All cells, in the input's order, as one batch; of cells in memory."""
        return Batch(self._for_device(self.cells), self.labels, self.states, self.log_sizes)

    @property
    def bytes_of_all(self) -> int:
        """What the cells of `all` take."""
        return bytes_of(*self.cells.shape, self.room)

    def _for_device(self, cells: sparse.csr_matrix) -> np.ndarray | Packed:
        return cells.toarray() if self.room is None else pack_rows(cells, self.room)

    def _pieces(self, step: int, share: slice) -> list[tuple[_Window, np.ndarray]]:
        """The windows that batch `step` is taken from, and the places in each."""
        positions = (step * self.batch_size + np.arange(self.batch_size))[share]
        epochs, places = np.divmod(positions, self.shuffle.cells)
        pieces = []
        for epoch in np.unique(epochs):
            starts = self._starts_of(int(epoch))
            here = places[epochs == epoch]
            numbers = np.searchsorted(starts, here, side="right") - 1
            for number in np.unique(numbers):
                window = self._window(int(epoch), int(number))
                pieces.append((window, here[numbers == number] - starts[number]))
        return pieces

    def _starts_of(self, epoch: int) -> np.ndarray:
        if epoch not in self._starts:
            self._starts = _newest(self._starts) | {epoch: self.shuffle.starts(epoch)}
        return self._starts[epoch]

    def _window(self, epoch: int, number: int) -> _Window:
        if (epoch, number) not in self._windows:
            self._windows = _newest(self._windows)
            rows = self.shuffle.window(epoch, number)
            cells = None
            if not self.in_memory:
                in_order = np.argsort(rows)
                cells = self.cells.take(rows[in_order])[np.argsort(in_order)]
            self._windows[epoch, number] = _Window(rows, cells)
        return self._windows[epoch, number]


def _newest(kept: dict) -> dict:
    """Only the last entry: a batch may span two."""
    return {key: kept[key] for key in sorted(kept)[-1:]}
