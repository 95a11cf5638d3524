"""Cells without their zeros: packed on the device where that saves a transfer, and as CSR on the host."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

# Of a cell's genes, how many are made room for before any cell has been seen.
FIRST_SHARE = 0.4
# Room comes in so many sizes at most: for each of them a program is compiled that does nothing but cut.
SIZES = 16


class Packed(NamedTuple):
    """A batch without its zeros: cell i has the first `counts[i]` of `values[i]` float32 and of `genes[i]` uint16, or
    int32 where a gene's number may be larger, genes ascending. (cell, room), but for `counts` (cell,) int32."""

    values: jax.Array | np.ndarray
    genes: jax.Array | np.ndarray
    counts: jax.Array | np.ndarray

    @property
    def is_whole(self) -> bool:
        """Whether there was room for all values."""
        return int(np.asarray(self.counts).max(initial=0)) <= self.values.shape[1]


@jax.jit
def pack(dense: jax.Array) -> Packed:
    """Dense cells (cell, gene), packed with room for all, where they are.

    Each cell is sorted by gene, its zeros behind the others. Scattering values to where they belong takes a GPU about
    as long; a TPU does that one value after the other.
    """
    genes = dense.shape[1]
    gene, there = jax.lax.broadcasted_iota(jnp.int32, dense.shape, 1), dense != 0
    order, values = jax.lax.sort((jnp.where(there, gene, gene + genes), dense), num_keys=1, is_stable=False)
    return Packed(values, order.astype(_index_dtype(genes)), jnp.sum(there, axis=1, dtype=jnp.int32))


@partial(jax.jit, static_argnames="room")
def cut(packed: Packed, room: int) -> Packed:
    """With room for so many values a cell; what is left out need not be transferred."""
    return Packed(packed.values[:, :room], packed.genes[:, :room], packed.counts)


class Room:
    """For how many values a cell there is room: learnt from batch to batch, as their transfer waits for no count."""

    def __init__(self) -> None:
        self._most: int | None = None

    def learn(self, counts: Any) -> None:
        """See the numbers of values of a batch's cells."""
        self._most = max(self._most or 0, int(np.asarray(counts).max(initial=0)))

    def of(self, genes: int) -> int:
        """Room in cells of so many genes: an eighth more than any cell has needed so far."""
        most = FIRST_SHARE * genes if self._most is None else 1.125 * self._most
        step = -(-genes // SIZES)
        return min(genes, -(-int(most) // step) * step or step)


def unpack(packed: Packed, genes: int) -> sparse.csr_matrix:
    """A packed batch, on the host and whole, as CSR (cell, gene). Python's other threads go on during most of it."""
    counts = packed.counts
    there = np.arange(packed.values.shape[1], dtype=np.int32) < counts[:, None]
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    columns = packed.genes[there].astype(np.int32)
    return sparse.csr_matrix((packed.values[there], columns, indptr), shape=(len(counts), genes))


def _index_dtype(genes: int) -> type:
    return np.uint16 if genes <= np.iinfo(np.uint16).max + 1 else np.int32
