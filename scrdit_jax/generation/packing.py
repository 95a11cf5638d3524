"""Cells packed on the device where that saves a transfer."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..data.packed import Packed, index_dtype

# Of a cell's genes, how many are made room for before any cell has been seen.
FIRST_SHARE = 0.4
# Room comes in so many sizes at most: for each of them a program is compiled that does nothing but cut.
SIZES = 16


@jax.jit
def pack(dense: jax.Array, order: jax.Array | None = None) -> Packed:
    """Dense cells (cell, gene), packed with room for all, where they are; gene i becomes number `order[i]` (gene,).

    Each cell is sorted by gene, its zeros behind the others. Scattering values to where they belong takes a GPU about
    as long; a TPU does that one value after the other.
    """
    genes = dense.shape[1]
    gene = jax.lax.broadcasted_iota(jnp.int32, dense.shape, 1)
    gene, there = gene if order is None else jnp.broadcast_to(order[None], dense.shape), dense != 0
    number, values = jax.lax.sort((jnp.where(there, gene, gene + genes), dense), num_keys=1, is_stable=False)
    return Packed(values, number.astype(index_dtype(genes)), jnp.sum(there, axis=1, dtype=jnp.int32))


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
