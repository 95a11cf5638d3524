"""Cells that stay on the disk: rows of an .h5ad or .zarr, chosen, normalised and read a block at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse

from .checking import canonical, row_blocks

# Rows that lie this near to each other are read in one stroke, and no more than so many at once.
NEAR = 64
MOST_ROWS = 1 << 14


@dataclass(frozen=True, eq=False)
class StoredRows:
    """A (cell, gene) matrix on disk, looked at like one in memory: sliced by rows it gives CSR float32.

    `matrix` is what lies on the disk, anndata's backed CSR or a dense array; `rows` and `columns` (None: all) say
    which of it, ascending. Where `factors` (row,) are given, a value x is read as log(1 + factor x).
    """

    matrix: Any
    rows: np.ndarray
    columns: np.ndarray | None = None
    factors: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(cells, genes)."""
        return len(self.rows), self.matrix.shape[1] if self.columns is None else len(self.columns)

    def __getitem__(self, key: Any) -> Any:
        """Rows by a slice are read; rows by a mask, and columns by their numbers, are a view that reads nothing."""
        if isinstance(key, slice):
            return self.take(np.arange(*key.indices(len(self.rows))))
        if isinstance(key, tuple):
            columns = np.asarray(key[1])
            return replace(self, columns=columns if self.columns is None else self.columns[columns])
        factors = None if self.factors is None else self.factors[key]
        return replace(self, rows=self.rows[key], factors=factors)

    def take(self, numbers: np.ndarray) -> sparse.csr_matrix:
        """The rows of these numbers, which ascend."""
        wanted = self.rows[numbers]
        apart = np.flatnonzero((np.diff(wanted) > NEAR) | (np.diff(wanted // MOST_ROWS) > 0)) + 1
        found = [self._read(some) for some in np.split(wanted, apart)] if len(wanted) else []
        cells = sparse.vstack(found, format="csr") if found else sparse.csr_matrix((0, self.matrix.shape[1]))
        if self.columns is not None:
            cells = cells[:, self.columns]
        if self.factors is not None:
            # Before columns are taken or after: the factor is the cell's own.
            cells.data *= np.repeat(self.factors[numbers], np.diff(cells.indptr))
            np.log1p(cells.data, out=cells.data)
        return cells

    def max(self) -> float:
        """The largest value, zeros included."""
        return max((float(block.max()) for block in row_blocks(self)), default=0.0)

    def _read(self, rows: np.ndarray) -> sparse.csr_matrix:
        first, last = int(rows[0]), int(rows[-1])
        block = canonical(sparse.csr_matrix(self.matrix[first : last + 1], dtype=np.float32))
        return block if len(rows) == last + 1 - first else block[rows - first]
