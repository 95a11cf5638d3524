"""A device that is none, in an engine's place: packed batches, each at its time."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np

from scrdit_jax.data.packed import Packed
from scrdit_jax.generation.packing import pack
from scrdit_jax.generation.program import SampledBatch

GENES, BATCH_SIZE = 2000, 1024
# So many batches are different.
DIFFERENT = 4
# Cells differ in how many genes they have: deviation over mean.
SPREAD = 0.35


class Pending:
    """A device's array, there from some moment on."""

    def __init__(self, shape: tuple[int, ...], ready: float, values: Future[Any], index: int) -> None:
        """`values` brings it, as one of several arrays, into memory of the host's own."""
        self.shape, self._ready, self._values, self._index = shape, ready, values, index

    def is_ready(self) -> bool:
        """Whether it has been computed."""
        return time.perf_counter() >= self._ready

    def copy_to_host_async(self) -> None:
        """It is on its way from the beginning."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Wait for it."""
        return self._values.result()[self._index]


class FakeDevice:
    """In an engine's place: some packed batches again and again, each `BATCH_SIZE` / `pace` seconds after the one
    before it or after it was dispatched, or at once without a pace."""

    packs = True

    def __init__(self, zeros: float, pace: float | None) -> None:
        """Pack random cells of which so many values are zeros."""
        random, self.batch_size = np.random.default_rng(0), BATCH_SIZE
        self.network = SimpleNamespace(genes=GENES)
        self._dense = [_cells(random, zeros) for _ in range(DIFFERENT)]
        self._whole = [jax.tree.map(np.asarray, pack(cells)) for cells in self._dense]
        self._cut: dict[tuple[int, int], Packed] = {}
        self._seconds = 0.0 if pace is None else BATCH_SIZE / pace
        self._link = ThreadPoolExecutor(1, thread_name_prefix="link")
        self.rest()

    def rest(self) -> None:
        """Have no work, and forget what there was."""
        self._first, self._ready, self.waited, self.bytes = None, 0.0, 0.0, 0

    def dispatch(self, first: int, donated: object = None) -> SampledBatch:
        """Begin a batch; returns at once."""
        now = time.perf_counter()
        if self._first is not None:
            self.waited += max(0.0, now - self._ready)
        self._first, self._ready = first, max(now, self._ready) + self._seconds
        small = Future[Any]()
        small.set_result((np.ones(BATCH_SIZE, np.int32), np.full(BATCH_SIZE, np.nan, np.float32)))
        return SampledBatch(*(Pending((BATCH_SIZE,), self._ready, small, index) for index in (0, 0, 1)))

    def in_file_order(self, cells: np.ndarray) -> np.ndarray:
        """The cells: their genes are in the file's order."""
        return cells

    def pack(self, cells: Pending, room: int) -> Packed:
        """What was dispatched last, with room for so many values a cell."""
        number = self._number(self._first)
        if (number, room) not in self._cut:
            whole = self._whole[number]
            cut = (np.ascontiguousarray(array[:, :room]) for array in whole[:2])
            self._cut[number, room] = Packed(*cut, whole.counts)
        packed, ready = self._cut[number, room], self._ready
        self.bytes += sum(array.nbytes for array in packed)
        values = self._link.submit(transfer, packed, ready)
        return Packed(*(Pending(array.shape, ready, values, index) for index, array in enumerate(packed)))

    def require_finite(self, batch: SampledBatch, first: int, count: int) -> None:
        """It is."""

    def fetch(self, batch: SampledBatch, first: int, count: int) -> np.ndarray:
        """The cells, for which there was too little room."""
        cells = self._dense[self._number(first)][:count]
        self.bytes += cells.nbytes
        return cells

    def _number(self, first: int) -> int:
        return first // BATCH_SIZE % DIFFERENT


def transfer(packed: Packed, ready: float) -> tuple[np.ndarray, ...]:
    """Once it is ready, to fresh memory of the host, as a device's runtime does."""
    time.sleep(max(0.0, ready - time.perf_counter()))
    return tuple(array.copy() for array in packed)


def _cells(random: np.random.Generator, zeros: float) -> np.ndarray:
    """(cell, gene); of so many genes each value is there with the cell's own probability."""
    mean = 1 - zeros
    spread = (1 - mean) / (mean * SPREAD**2) - 1  # a + b of the beta distribution with this mean and deviation
    share = random.beta(mean * spread, zeros * spread, (BATCH_SIZE, 1))
    values = random.gamma(2, 0.7, (BATCH_SIZE, GENES)) * (random.random((BATCH_SIZE, GENES)) < share)
    return values.astype(np.float32)
