"""Cells without their zeros in arrays of one shape, as a device takes and gives them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from ..io.backed import BackedMatrix

# Room comes in multiples of this many values a cell.
ROOM = 128


class Packed(NamedTuple):
    """Cells without their zeros: cell i has the first `counts[i]` of `values[i]` float32 and of `genes[i]` uint16, or
    int32 where a gene's number may be larger, genes ascending. (cell, room), but for `counts` (cell,) int32."""

    values: Any
    genes: Any
    counts: Any

    @property
    def is_whole(self) -> bool:
        """Whether there was room for all values."""
        return int(np.asarray(self.counts).max(initial=0)) <= self.values.shape[1]


def room_for(x: sparse.csr_matrix | BackedMatrix) -> int | None:
    """Room for every cell of `x`; None where dense cells are no larger."""
    most = x.most_values() if isinstance(x, BackedMatrix) else int(np.diff(x.indptr).max(initial=1))
    room = -(-most // ROOM) * ROOM
    return room if bytes_of(1, x.shape[1], room) < bytes_of(1, x.shape[1], None) else None


def bytes_of(cells: int, genes: int, room: int | None) -> int:
    """What so many cells take, float32: packed with this `room`, or dense without one."""
    return cells * (4 * genes if room is None else room * (4 + index_dtype(genes)(0).nbytes))


def pack_rows(x: sparse.csr_matrix, room: int) -> Packed:
    """The cells of `x`, sorted, on the host, with `room` for as many values as any has."""
    counts = np.diff(x.indptr).astype(np.int32)
    there = np.arange(room, dtype=np.int32) < counts[:, None]
    values, genes = np.zeros(there.shape, np.float32), np.zeros(there.shape, index_dtype(x.shape[1]))
    values[there], genes[there] = x.data, x.indices
    return Packed(values, genes, counts)


def unpack(packed: Packed, genes: int) -> sparse.csr_matrix:
    """Packed cells, on the host and whole, as CSR (cell, gene). Python's other threads go on during most of it."""
    counts = packed.counts
    there = np.arange(packed.values.shape[1], dtype=np.int32) < counts[:, None]
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    columns = packed.genes[there].astype(np.int32)
    return sparse.csr_matrix((packed.values[there], columns, indptr), shape=(len(counts), genes))


def index_dtype(genes: int) -> type[np.uint16] | type[np.int32]:
    """That of `Packed.genes` for so many."""
    return np.uint16 if genes <= np.iinfo(np.uint16).max + 1 else np.int32
