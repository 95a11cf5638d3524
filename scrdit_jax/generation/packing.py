"""Cells without their zeros: packed on the device where that saves a transfer, and as CSR on the host."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from scipy import sparse

from .program import CELLS_AXIS, Placement


class Packed(NamedTuple):
    """A batch without its zeros, device by device: `values` float32 and `genes` int32 (device, most), of which as many
    count as the `counts` (cell,) int32 of the device's cells say together; cell after cell, genes ascending."""

    values: jax.Array | np.ndarray
    genes: jax.Array | np.ndarray
    counts: jax.Array | np.ndarray

    @property
    def per_device(self) -> np.ndarray:
        """How many values the cells of each device have, (device,)."""
        return self.counts.reshape(len(self.values), -1).sum(axis=1)


@lru_cache(maxsize=16)
def packer(placement: Placement, most: int) -> Any:
    """A jitted function: dense cells (cell, gene), shared out as `placement` has it -> Packed, by each device alone.

    A device keeps `most` values; where its cells have more, `counts` say so and the rest is missing.
    """
    mesh, cells = placement.shared_out.mesh, PartitionSpec(CELLS_AXIS)

    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=cells, out_specs=Packed(cells, cells, cells))
    def pack(dense):
        flat = dense.reshape(-1)
        there = flat != 0
        # Where each value goes; what is zero, and what there is no room for, goes past the end and is dropped.
        position = jnp.where(there, jnp.cumsum(there) - 1, most)
        genes = jnp.tile(jnp.arange(dense.shape[1], dtype=jnp.int32), len(dense))
        values = jnp.zeros(most, dense.dtype).at[position].set(flat, mode="drop")
        genes = jnp.zeros(most, jnp.int32).at[position].set(genes, mode="drop")
        return Packed(values[None], genes[None], jnp.sum(dense != 0, axis=1, dtype=jnp.int32))

    return pack


def unpack(packed: Packed, genes: int) -> sparse.csr_matrix:
    """A packed batch as CSR (cell, gene); `packed` is on the host, and held all values."""
    values, columns = (
        np.concatenate([row[:there] for row, there in zip(rows, packed.per_device, strict=True)])
        for rows in (packed.values, packed.genes)
    )
    indptr = np.concatenate([[0], np.cumsum(packed.counts)]).astype(np.int32)
    return sparse.csr_matrix((values, columns, indptr), shape=(len(packed.counts), genes))
