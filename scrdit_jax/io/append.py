"""Files of cells, .h5ad or .zarr, that grow at their end and never lie in memory whole; digests of what is in them."""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import anndata
import h5py
import numpy as np
import pandas as pd
import zarr
from anndata import AnnData
from scipy import sparse

from ..devices import usable_cores
from .backed import BackedCells
from .checking import row_blocks
from .columns import column
from .damage import foreign
from .hdf5 import new_hdf5
from .hierarchy import require_readable

Group = h5py.Group | zarr.Group

# Shuffle and gzip, which every HDF5 reads; columns.py says how they are compressed.
H5_STORAGE = {"chunks": (1 << 16,), "compression": "gzip", "compression_opts": 1, "shuffle": True}
H5_NAMES = {"chunks": (1 << 12,), "compression": "gzip", "maxshape": (None,)}
# Of files that are to be read once, and compressed then.
H5_PLAIN = {"chunks": (1 << 16,)}
H5_PLAIN_NAMES = {"chunks": (1 << 12,), "maxshape": (None,)}
# A chunk of a zarr array is a file of its own, so they are larger; zarr's zstd needs no options.
ZARR_STORAGE = {"chunks": (1 << 20,)}
# Of a file that is read at random: so small that little is read in vain, so large that they are not too many.
RANDOM_ACCESS = {"chunks": (1 << 16,)}
ROWS_AT_ONCE = 8192

COUNTS, LIBRARY_SIZE, TOTAL_COUNTS = "counts", "library_size", "total_counts"
# What scanpy notes of cells whose X is log1p of something, by which sc.pp.log1p warns before it is done twice.
LOG_SCALE: dict[str, Any] = {"log1p": {}}


class CellBlock(NamedTuple):
    """Neighbouring cells: values (cell, gene) float32 on the log scale and labels (cell, column) int32; where counts
    were asked for, those (cell, gene) int32 and the library sizes (cell,) float32 they were made with."""

    cells: sparse.csr_matrix
    labels: np.ndarray
    counts: sparse.csr_matrix | None = None
    library_size: np.ndarray | None = None

    @classmethod
    def join(cls, blocks: Sequence[CellBlock]) -> CellBlock:
        """One block of several, in order."""
        cells, labels, counts, library = zip(*blocks, strict=True)
        return cls(
            sparse.vstack(cells, format="csr"),
            np.concatenate(labels),
            None if counts[0] is None else sparse.vstack(counts, format="csr"),
            None if library[0] is None else np.concatenate(library),
        )


@dataclass(frozen=True)
class CellLayout:
    """What a file of cells holds: its genes, for each column of labels all names there are, and whether counts."""

    genes: tuple[str, ...]
    columns: tuple[tuple[str, tuple[str, ...]], ...] = ()
    counts: bool = False

    def obs(self, block: CellBlock, first: int) -> pd.DataFrame:
        """The table of the cells of `block`, of which the first is cell number `first`."""
        table = pd.DataFrame(index=pd.Index(cell_names(first, block.cells.shape[0])))
        for (name, names), codes in zip(self.columns, block.labels.T, strict=True):
            table[name] = pd.Categorical.from_codes(codes, categories=list(names))
        if self.counts:
            table[LIBRARY_SIZE] = block.library_size
            table[TOTAL_COUNTS] = total_counts(block)
        return table


def cell_names(first: int, count: int) -> np.ndarray:
    """Names of cells `first`, `first` + 1, ..."""
    return np.array([f"synthetic_{i}" for i in range(first, first + count)], object)


def total_counts(block: CellBlock) -> np.ndarray:
    """Each cell's counts in the genes that are there, (cell,) int64; its library size is over all genes."""
    return np.asarray(block.counts.sum(axis=1, dtype=np.int64)).ravel()


class CellDigest:
    """sha256 of blocks of cells and of where they stand, the same whatever file they lie in; fed piece by piece."""

    def __init__(self, first: int) -> None:
        """`first` is the global index of the first cell."""
        self._first = first
        self._parts: list[Any] = []
        self.cells = self.nonzeros = 0

    def update(self, block: CellBlock) -> None:
        """Take in the next cells."""
        for part, data in self.parts(block):
            part.update(data)

    def parts(self, block: CellBlock) -> list[tuple[Any, memoryview]]:
        """The same for one who updates each part with its bytes, in whatever thread, before those of the next cells."""
        values = [(np.diff(block.cells.indptr), "<i8"), (block.cells.indices, "<i4"), (block.cells.data, "<f4")]
        if block.labels.size:
            values.append((block.labels, "<i4"))
        if block.counts is not None:
            values += [(np.diff(block.counts.indptr), "<i8"), (block.counts.indices, "<i4")]
            values += [(block.counts.data, "<i4"), (block.library_size, "<f4")]
        self._parts = self._parts or [hashlib.sha256() for _ in values]
        self.cells += block.cells.shape[0]
        self.nonzeros += block.cells.nnz
        arrays = (np.ascontiguousarray(array, kind).data for array, kind in values)
        return list(zip(self._parts, arrays, strict=True))

    def hexdigest(self) -> str:
        """Of all cells so far."""
        parts = b"".join(part.digest() for part in self._parts)
        return hashlib.sha256(f"{self._first} {self.cells} ".encode() + parts).hexdigest()


class CellWriter:
    """An open AnnData file, h5py or zarr, to whose end cells are added; it is whole after `close`."""

    def __init__(
        self,
        group: Group,
        layout: CellLayout,
        uns: dict[str, Any],
        *,
        most_nonzeros: int,
        executor: Executor,
        compress: bool = True,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Write to the empty `group` all but the cells, which are to have `most_nonzeros` at most.

        Chunks are compressed by `executor`; those of HDF5, unless `compress`, not at all. `check` raises what has gone
        wrong with writing so far, see io.hdf5.
        """
        self._check = check
        matrix, names = ZARR_STORAGE, ZARR_STORAGE
        if isinstance(group, h5py.Group):
            matrix, names = (H5_STORAGE, H5_NAMES) if compress else (H5_PLAIN, H5_PLAIN_NAMES)
        var = pd.DataFrame(index=pd.Index(np.array(layout.genes, object), name="gene"))
        _write_frame(group, layout.obs(_nothing(layout), 0), var, {"scrdit": uns} | LOG_SCALE, names)
        # SciPy works on matrices only whose indices and indptr are of one kind.
        index = np.int32 if most_nonzeros < np.iinfo(np.int32).max else np.int64
        stored = {"index": index, "storage": matrix, "executor": executor}
        self._matrix = _MatrixWriter(group, "X", len(layout.genes), np.float32, **stored)
        self._counts = None
        if layout.counts:
            self._counts = _MatrixWriter(group["layers"], COUNTS, len(layout.genes), np.int32, **stored)
        obs = group["obs"]
        self._names = column(obs[obs.attrs["_index"]], executor)
        self._labels = [column(obs[name]["codes"], executor) for name, _ in layout.columns]
        sizes = (LIBRARY_SIZE, TOTAL_COUNTS) if layout.counts else ()
        self._sizes = [column(obs[name], executor) for name in sizes]

    def append(self, block: CellBlock, first: int) -> None:
        """Add cells, whose names count from `first`."""
        self._matrix.append(block.cells)
        for codes, values in zip(self._labels, block.labels.T, strict=True):
            codes.append(values)
        if self._counts is not None:
            self._counts.append(block.counts)
            for sizes, values in zip(self._sizes, (block.library_size, total_counts(block)), strict=True):
                sizes.append(values)
        self._names.append(cell_names(first, block.cells.shape[0]))
        self._check()

    def close(self) -> None:
        """Write what still waits to make a whole chunk."""
        matrices = [matrix for matrix in (self._matrix, self._counts) if matrix is not None]
        for part in (*matrices, self._names, *self._labels, *self._sizes):
            part.close()


class _MatrixWriter:
    """A CSR matrix as AnnData stores it, to which rows are added."""

    def __init__(
        self, group: Group, name: str, genes: int, dtype: type, *, index: type, storage: dict, executor: Executor
    ) -> None:
        """Put an empty matrix of `genes` columns as `name` into `group`, its numbers of rows and columns as `index`."""
        empty = sparse.csr_matrix((0, genes), dtype=dtype)
        empty.indices, empty.indptr = empty.indices.astype(index), empty.indptr.astype(index)
        with zarr_format_3():
            anndata.io.write_elem(group, name, empty, dataset_kwargs=storage)
        self._group, self._rows, self._nonzeros = group[name], 0, 0
        self._data, self._indices, self._indptr = (
            column(self._group[part], executor) for part in ("data", "indices", "indptr")
        )

    def append(self, rows: sparse.csr_matrix) -> None:
        self._data.append(rows.data)
        self._indices.append(rows.indices)
        self._indptr.append(rows.indptr[1:].astype(np.int64) + self._nonzeros)
        self._rows, self._nonzeros = self._rows + rows.shape[0], self._nonzeros + rows.nnz

    def close(self) -> None:
        for part in (self._data, self._indices, self._indptr):
            part.close()
        self._group.attrs["shape"] = [self._rows, int(self._group.attrs["shape"][1])]


def _write_frame(group: Group, obs: pd.DataFrame, var: pd.DataFrame, uns: dict[str, Any], storage: dict) -> None:
    """All of an AnnData but its matrices; the columns of obs are stored as `storage` says."""
    with zarr_format_3():
        anndata.io.write_elem(group, "/", AnnData(obs=obs[[]], var=var, uns=uns))
        if "raw" in group:  # written without `.X`, an AnnData leaves an empty one that cannot be opened backed
            del group["raw"]
        anndata.io.write_elem(group, "obs", obs, dataset_kwargs=storage)


@contextlib.contextmanager
def zarr_format_3() -> Iterator[None]:
    """AnnData writes zarr of format 3, unsharded, and does not warn that this will become its default."""
    with (
        anndata.settings.override(zarr_write_format=3, auto_shard_zarr_v3=False),
        warnings.catch_warnings(action="ignore", category=UserWarning),
    ):
        yield


def _nothing(layout: CellLayout) -> CellBlock:
    """A block of no cells."""
    labels, library = np.zeros((0, len(layout.columns)), np.int32), np.zeros(0, np.float32)
    counts = sparse.csr_matrix((0, len(layout.genes)), dtype=np.int32)
    return CellBlock(sparse.csr_matrix((0, len(layout.genes)), dtype=np.float32), labels, counts, library)


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[tuple[Group, Executor, Callable[[], None]]]:
    """A new .h5ad or .zarr, empty, threads that compress its chunks, and what raises errors of writing so far."""
    with contextlib.ExitStack() as stack:
        executor = stack.enter_context(ThreadPoolExecutor(usable_cores()))
        if path.suffix == ".zarr":
            yield zarr.open_group(path, mode="w", zarr_format=3), executor, lambda: None
            return
        file, check = stack.enter_context(new_hdf5(path))
        yield file, executor, check


@contextlib.contextmanager
def new_cell_file(path: Path, layout: CellLayout, uns: dict[str, Any], *, most_nonzeros: int) -> Iterator[CellWriter]:
    """A new .h5ad or .zarr at `path`; see CellWriter."""
    with _new_file(path) as (group, executor, check):
        cells = CellWriter(group, layout, uns, most_nonzeros=most_nonzeros, executor=executor, check=check)
        yield cells
        cells.close()


def write_backed(cells: BackedCells, path: Path, *, compress: bool = False) -> None:
    """Write a new .h5ad or .zarr of cells that are on a disk, a block in memory at a time; see `write_cells`."""
    with _new_file(path) as (group, executor, check):
        storage = H5_STORAGE if compress and isinstance(group, h5py.Group) else RANDOM_ACCESS
        index = np.int32 if cells.n_obs * cells.n_vars < np.iinfo(np.int32).max else np.int64
        _write_frame(group, cells.obs, cells.var, cells.uns, {})
        matrix = _MatrixWriter(group, "X", cells.n_vars, np.float32, index=index, storage=storage, executor=executor)
        for block in row_blocks(cells.X):
            matrix.append(block)
            check()
        matrix.close()


def read_blocks(path: Path, layout: CellLayout) -> Iterator[CellBlock]:
    """The cells of an .h5ad, so many at a time that memory does not grow with the file."""
    with h5py.File(path) as file, foreign():
        require_readable(file, path, in_memory=False)
        matrix, obs = anndata.io.sparse_dataset(file["X"]), file["obs"]
        counts = anndata.io.sparse_dataset(file["layers"][COUNTS]) if layout.counts else None
        for first in range(0, matrix.shape[0], ROWS_AT_ONCE):
            here = slice(first, first + ROWS_AT_ONCE)
            cells = matrix[here]
            codes = [obs[column]["codes"][here].astype(np.int32) for column, _ in layout.columns]
            labels = np.stack(codes, axis=1) if codes else np.zeros((cells.shape[0], 0), np.int32)
            drawn = (None, None) if counts is None else (counts[here], obs[LIBRARY_SIZE][here])
            yield CellBlock(cells, labels, *drawn)


def to_csr(cells: np.ndarray) -> sparse.csr_matrix:
    """Dense cells (cell, gene) as CSR. Python's other threads go on during nearly all of it."""
    mask = cells != 0
    per_cell = np.count_nonzero(mask, axis=1)
    indptr = np.concatenate([[0], np.cumsum(per_cell)]).astype(np.int32)
    found = np.flatnonzero(mask)
    values = cells.reshape(-1).take(found)
    found -= np.repeat(np.arange(len(cells)) * cells.shape[1], per_cell)
    return sparse.csr_matrix((values, found.astype(np.int32), indptr), shape=cells.shape)
