"""Cells that stay on the disk: rows of an .h5ad or .zarr, chosen, normalised and read a block at a time.

BackedMatrix stands where a matrix does, and BackedCells where an AnnData does, as far as preparing and training ask.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from .damage import foreign, reading

# Rows that lie this near to each other are read in one stroke, and no more than so many at once.
NEAR = 64
MOST_ROWS = 1 << 13


@dataclass(frozen=True, eq=False)
class BackedMatrix:
    """A (cell, gene) matrix on disk that is used like one in memory: sliced by rows it gives CSR float32.

    `matrix` is what lies on the disk, anndata's backed CSR or a dense array; `rows`, ascending, and `columns` (None:
    all) say which of it. Where `factors` (row,) are given, a value x is read as log(1 + factor x). `source` is
    the file.
    """

    matrix: Any
    rows: np.ndarray
    columns: np.ndarray | None = None
    factors: np.ndarray | None = None
    source: Path = Path("the cells")

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
        return replace(self, rows=self.rows[key], factors=None if self.factors is None else self.factors[key])

    def take(self, numbers: np.ndarray) -> sparse.csr_matrix:
        """The rows of these numbers, which ascend."""
        wanted = self.rows[numbers]
        apart = np.flatnonzero((np.diff(wanted) > NEAR) | (np.diff(wanted // MOST_ROWS) > 0)) + 1
        parts = [self._read(rows) for rows in np.split(wanted, apart) if len(rows)]
        cells = sparse.vstack(parts, format="csr") if parts else sparse.csr_matrix(self.shape, dtype=np.float32)[:0]
        if self.factors is not None:
            cells.data *= np.repeat(self.factors[numbers], np.diff(cells.indptr))
            np.log1p(cells.data, out=cells.data)
        return cells

    def _read(self, rows: np.ndarray) -> sparse.csr_matrix:
        first, last = int(rows[0]), int(rows[-1])
        with reading(self.source):
            with foreign():
                block = self.matrix[first : last + 1]
            block = sparse.csr_matrix(block, dtype=np.float32)
            block.check_format(full_check=True)
        if len(rows) < last + 1 - first:
            block = block[rows - first]
        return block if self.columns is None else block[:, self.columns].sorted_indices()


@dataclass(frozen=True, eq=False)
class BackedCells:
    """Cells of which `X` is on the disk: the part of an AnnData's interface that is used here."""

    X: BackedMatrix
    obs: pd.DataFrame
    var: pd.DataFrame
    uns: dict[str, Any] = field(default_factory=dict)
    isbacked = False

    @property
    def shape(self) -> tuple[int, int]:
        """(cells, genes)."""
        return self.X.shape

    @property
    def n_obs(self) -> int:
        """How many cells."""
        return self.X.shape[0]

    @property
    def n_vars(self) -> int:
        """How many genes."""
        return self.X.shape[1]

    @property
    def obs_names(self) -> pd.Index:
        """The cells' names."""
        return self.obs.index

    @property
    def var_names(self) -> pd.Index:
        """The genes' names."""
        return self.var.index

    def __getitem__(self, mask: np.ndarray) -> BackedCells:
        """The cells of a mask, a view."""
        return replace(self, X=self.X[mask], obs=self.obs[mask])

    def copy(self) -> AnnData:
        """The cells in memory."""
        return AnnData(self.X[:], obs=self.obs.copy(), var=self.var.copy(), uns=dict(self.uns))


Cells = AnnData | BackedCells


def make_cells(x: Any, obs: pd.DataFrame, var: pd.DataFrame, uns: dict[str, Any] | None = None) -> Cells:
    """Cells with the matrix `x`: an AnnData, or where `x` stays on the disk what stands for one."""
    if isinstance(x, BackedMatrix):
        return BackedCells(x, obs, var, {} if uns is None else uns)
    return AnnData(x, obs=obs, var=var, uns=uns)
