"""Cells that stay on the disk: rows of .h5ad or .zarr files, chosen, normalised and read a block at a time.

BackedMatrix stands where a matrix does, and BackedCells where an AnnData does, as far as preparing and training ask.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from .damage import foreign, reading
from .rows import require_columns, require_pointers

# Rows that lie this near to each other are read in one stroke, and no more than so many at once.
NEAR = 64
MOST_ROWS = 1 << 13


class Store(Protocol):
    """A (cell, gene) matrix on a disk."""

    @property
    def shape(self) -> tuple[int, int]:
        """(cells, genes)."""

    def read(self, first: int, end: int) -> sparse.csr_matrix:
        """Rows `first` to `end` (left out), float32."""

    def most_values(self) -> int:
        """How many values a row has that has most, or more than that."""


class StoredRows:
    """Neighbouring rows, by a slice, of a CSR matrix that lies in a group of HDF5 or zarr as AnnData stores it.

    anndata's own `sparse_dataset` takes twice as long for 64 cells: at every read it looks up zarr's version.
    """

    def __init__(self, group: Any, shape: tuple[int, int], path: Path) -> None:
        """Of the `group` of the matrix of this `shape` in the file `path`; where its rows begin is read, checked and
        kept in memory."""
        self.shape, self._path = shape, path
        self._data, self._indices, self._indptr = group["data"], group["indices"], np.asarray(group["indptr"][:])
        require_pointers(self._indptr, shape[0], (self._data.shape[0], self._indices.shape[0]), path)

    def __getitem__(self, rows: slice) -> sparse.csr_matrix:
        """The rows, each with what is stored of it."""
        start, stop, _ = rows.indices(self.shape[0])
        indptr = self._indptr[start : stop + 1]
        here = slice(int(indptr[0]), int(indptr[-1]))
        values, indices = self._data[here], self._indices[here]
        require_columns(indices, self.shape[1], self._path)
        return sparse.csr_matrix((values, indices, indptr - indptr[0]), shape=(len(indptr) - 1, self.shape[1]))

    def most_values(self) -> int:
        """How many are stored of the row that has most."""
        return int(np.diff(self._indptr).max(initial=0))


@dataclass(frozen=True, eq=False)
class FileStore:
    """The matrix of one file: `matrix` is what lies there, StoredRows or a dense array."""

    matrix: Any
    path: Path

    @property
    def shape(self) -> tuple[int, int]:
        """(cells, genes)."""
        return self.matrix.shape

    def read(self, first: int, end: int) -> sparse.csr_matrix:
        """Rows `first` to `end` (left out), float32; BadInput where the file is damaged."""
        with reading(self.path):
            with foreign():
                block = self.matrix[first:end]
            with np.errstate(over="ignore"):  # too large a number becomes infinite, and is then refused by its name
                return sparse.csr_matrix(block, dtype=np.float32)

    def most_values(self) -> int:
        """How many values a row has that has most; of a dense matrix, how many columns there are."""
        return self.matrix.most_values() if isinstance(self.matrix, StoredRows) else self.shape[1]


@dataclass(frozen=True, eq=False)
class JoinedStore:
    """The rows of several stores below each other, each with its `columns`, which become one another's."""

    stores: tuple[Store, ...]
    columns: tuple[ColumnChoice, ...]

    @cached_property
    def starts(self) -> np.ndarray:
        """Where the rows of each store begin, and where the last ones end: (store + 1,) int64."""
        return np.cumsum([0, *(store.shape[0] for store in self.stores)])

    @property
    def shape(self) -> tuple[int, int]:
        """(cells, genes)."""
        return int(self.starts[-1]), len(self.columns[0].numbers)

    def read(self, first: int, end: int) -> sparse.csr_matrix:
        """Rows `first` to `end` (left out), float32, of as many stores as they lie in."""
        parts = []
        for store, columns, start in zip(self.stores, self.columns, self.starts, strict=False):
            here = max(first - start, 0), min(end - start, store.shape[0])
            if here[0] < here[1]:
                parts.append(columns.of(store.read(*map(int, here))))
        return parts[0] if len(parts) == 1 else sparse.vstack(parts, format="csr")

    def most_values(self) -> int:
        """How many values a row of any store has at most."""
        return max(store.most_values() for store in self.stores)


@dataclass(frozen=True, eq=False)
class ColumnChoice:
    """Some columns of matrices that have `width` of them, by their `numbers`, in any order."""

    numbers: np.ndarray
    width: int

    @cached_property
    def _all(self) -> bool:
        return np.array_equal(self.numbers, np.arange(self.width))

    @cached_property
    def _ascend(self) -> bool:
        return bool((np.diff(self.numbers) > 0).all())

    @cached_property
    def _places(self) -> np.ndarray:
        """Where each column goes, -1 for nowhere; (width,) int32."""
        places = np.full(self.width, -1, np.int32)
        places[self.numbers] = np.arange(len(self.numbers), dtype=np.int32)
        return places

    def of(self, rows: sparse.csr_matrix) -> sparse.csr_matrix:
        """The chosen columns of `rows`; indices are sorted where they were. SciPy's own indexing takes twice as long,
        and leaves the indices unsorted where the columns do not ascend."""
        if self._all:
            return rows
        if not self._ascend:
            return rows.tocsc()[:, self.numbers].tocsr()
        indices = self._places[rows.indices]
        kept = indices >= 0
        indptr = rows.indptr - np.searchsorted(np.flatnonzero(~kept), rows.indptr)
        shape = (rows.shape[0], len(self.numbers))
        return sparse.csr_matrix((rows.data[kept], indices[kept], indptr), shape=shape)


@dataclass(frozen=True, eq=False)
class BackedMatrix:
    """A (cell, gene) matrix on disk that is used like one in memory: sliced by rows it gives CSR float32.

    `rows`, which ascend, and `columns`, in any order (None: all), say what of `store` it is. Where `factors` (row,)
    are given, a value x is read as log(1 + factor x).
    """

    store: Store
    rows: np.ndarray
    columns: ColumnChoice | None = None
    factors: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(cells, genes)."""
        return len(self.rows), self.store.shape[1] if self.columns is None else len(self.columns.numbers)

    def __getitem__(self, key: Any) -> Any:
        """Rows by a slice are read; rows by a mask, and columns by their numbers, are a view that reads nothing."""
        if isinstance(key, slice):
            return self.take(np.arange(*key.indices(len(self.rows))))
        if isinstance(key, tuple):
            numbers = np.asarray(key[1])
            numbers = numbers if self.columns is None else self.columns.numbers[numbers]
            return replace(self, columns=ColumnChoice(numbers, self.store.shape[1]))
        return replace(self, rows=self.rows[key], factors=None if self.factors is None else self.factors[key])

    def most_values(self) -> int:
        """How many values a row has at most, or more than that; values are not read."""
        return min(self.store.most_values(), self.shape[1])

    def take(self, numbers: np.ndarray) -> sparse.csr_matrix:
        """The rows of these numbers, which ascend."""
        wanted = self.rows[numbers]
        apart = np.flatnonzero((np.diff(wanted) > NEAR) | (np.diff(wanted // MOST_ROWS) > 0)) + 1
        parts = [self._read(rows) for rows in np.split(wanted, apart) if len(rows)]
        if not parts:
            return sparse.csr_matrix((0, self.shape[1]), dtype=np.float32)
        cells = parts[0] if len(parts) == 1 else sparse.vstack(parts, format="csr")
        if self.factors is not None:
            to_log_scale(cells, self.factors[numbers])
        return cells

    def _read(self, rows: np.ndarray) -> sparse.csr_matrix:
        first, end = int(rows[0]), int(rows[-1]) + 1
        block = self.store.read(first, end)
        if len(rows) < end - first:
            block = block[rows - first]
        return block if self.columns is None else self.columns.of(block)


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
        """The cells of a mask, a view; as AnnData's, without the categories that none of them has."""
        obs = self.obs[mask]
        categorical = obs.select_dtypes("category")
        obs = obs.assign(**{name: column.cat.remove_unused_categories() for name, column in categorical.items()})
        return replace(self, X=self.X[mask], obs=obs)

    def copy(self) -> AnnData:
        """The cells in memory."""
        return AnnData(self.X[:], obs=self.obs.copy(), var=self.var.copy(), uns=dict(self.uns))


Cells = AnnData | BackedCells


def make_cells(x: Any, obs: pd.DataFrame, var: pd.DataFrame, uns: dict[str, Any] | None = None) -> Cells:
    """Cells with the matrix `x`: an AnnData, or where `x` stays on the disk what stands for one."""
    if isinstance(x, BackedMatrix):
        return BackedCells(x, obs, var, {} if uns is None else uns)
    return AnnData(x, obs=obs, var=var, uns=uns)


def rows_of(x: sparse.csr_matrix | BackedMatrix, numbers: np.ndarray) -> sparse.csr_matrix:
    """Rows of `x` in memory, by their numbers, which ascend."""
    return x.take(numbers) if isinstance(x, BackedMatrix) else x[numbers]


def to_log_scale(cells: sparse.csr_matrix, factors: np.ndarray) -> None:
    """Every value x of a cell becomes log(1 + factor x), in place, NaN where x is too low; `factors` are (cell,)."""
    cells.data *= np.repeat(factors, np.diff(cells.indptr))
    with np.errstate(invalid="ignore", divide="ignore"):
        np.log1p(cells.data, out=cells.data)
