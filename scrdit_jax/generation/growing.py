"""Files of cells, .h5ad or .zarr, that grow at their end and never lie in memory whole; digests of what is in them."""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import zarr
from anndata import AnnData
from scipy import sparse

# Writing 2,000 genes with 90 % zeros on one core: 47,500 cells/s and 4.3 bytes a non-zero (without shuffle 31,000 and
# 5.3; gzip 4: 37,500 and 4.3; lzf: 110,000 and 4.8, but only h5py reads it; 8.2 bytes without compression).
H5_STORAGE = {"chunks": (1 << 16,), "compression": "gzip", "compression_opts": 1, "shuffle": True}
H5_NAMES = {"chunks": (1 << 12,), "compression": "gzip", "maxshape": (None,)}
# A chunk of a zarr array is a file of its own, so they are larger; zarr's zstd needs no options.
ZARR_STORAGE = {"chunks": (1 << 20,)}
ROWS_AT_ONCE = 8192


class ContentDigest:
    """sha256 of CSR cells and of where they stand, the same whatever file they lie in; fed piece by piece."""

    def __init__(self, first: int) -> None:
        """`first` is the global index of the first cell."""
        self._first = first
        self._parts = [hashlib.sha256() for _ in range(3)]
        self.cells = self.nonzeros = 0

    def update(self, cells: sparse.csr_matrix) -> None:
        """Take in the next cells."""
        counts = np.diff(cells.indptr)
        for part, values, kind in zip(
            self._parts, (counts, cells.indices, cells.data), ("<i8", "<i4", "<f4"), strict=True
        ):
            part.update(np.ascontiguousarray(values, kind).data)
        self.cells += cells.shape[0]
        self.nonzeros += cells.nnz

    def hexdigest(self) -> str:
        """Of all cells so far."""
        parts = b"".join(part.digest() for part in self._parts)
        return hashlib.sha256(f"{self._first} {self.cells} ".encode() + parts).hexdigest()


class GrowingCells:
    """An open AnnData file, h5py or zarr, to whose end cells are added."""

    def __init__(
        self, group: h5py.Group | zarr.Group, genes: tuple[str, ...], uns: dict[str, Any], *, most_nonzeros: int
    ) -> None:
        """Write to the empty `group` all but the cells, which are to have `most_nonzeros` at most."""
        self._group = group
        h5 = isinstance(group, h5py.Group)
        names = H5_NAMES if h5 else ZARR_STORAGE
        matrix = H5_STORAGE if h5 else ZARR_STORAGE
        var = pd.DataFrame(index=pd.Index(np.array(genes, object), name="gene"))
        none = pd.DataFrame(index=pd.Index(np.array([], object)))
        # AnnData warns that its own default for zarr will become what is asked for here.
        with (
            anndata.settings.override(zarr_write_format=3, auto_shard_zarr_v3=False),
            warnings.catch_warnings(action="ignore", category=UserWarning),
        ):
            anndata.io.write_elem(group, "/", AnnData(obs=none, var=var, uns={"scrdit": uns}))
            if "raw" in group:  # written without `.X`, an AnnData leaves an empty one that cannot be opened backed
                del group["raw"]
            anndata.io.write_elem(group, "obs", none, dataset_kwargs=names)
            empty = sparse.csr_matrix((0, len(genes)), dtype=np.float32)
            # SciPy works on matrices only whose indices and indptr are of one kind.
            kind = np.int32 if most_nonzeros < np.iinfo(np.int32).max else np.int64
            empty.indices, empty.indptr = empty.indices.astype(kind), empty.indptr.astype(kind)
            anndata.io.write_elem(group, "X", empty, dataset_kwargs=matrix)
        self._matrix = anndata.io.sparse_dataset(group["X"])
        self._names = group["obs"][group["obs"].attrs["_index"]]

    def append(self, cells: sparse.csr_matrix, first: int) -> None:
        """Add cells, whose names count from `first`."""
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            self._matrix.append(cells)
        there = self._names.shape[0]
        self._names.resize((there + cells.shape[0],))
        self._names[there:] = np.array([f"synthetic_{i}" for i in range(first, first + cells.shape[0])], object)


@contextlib.contextmanager
def growing_file(
    path: Path, genes: tuple[str, ...], uns: dict[str, Any], *, most_nonzeros: int
) -> Iterator[GrowingCells]:
    """A new .h5ad or .zarr at `path`; see GrowingCells."""
    if path.suffix == ".zarr":
        yield GrowingCells(zarr.open_group(path, mode="w", zarr_format=3), genes, uns, most_nonzeros=most_nonzeros)
        return
    with h5py.File(path, "w") as file:
        yield GrowingCells(file, genes, uns, most_nonzeros=most_nonzeros)


def pieces(path: Path) -> Iterator[sparse.csr_matrix]:
    """The cells of an .h5ad, so many at a time that memory does not grow with the file."""
    with h5py.File(path) as file:
        matrix = anndata.io.sparse_dataset(file["X"])
        for first in range(0, matrix.shape[0], ROWS_AT_ONCE):
            yield matrix[first : first + ROWS_AT_ONCE]


def to_csr(cells: np.ndarray) -> sparse.csr_matrix:
    """Dense cells (cell, gene) as CSR."""
    mask = cells != 0
    found = np.flatnonzero(mask)
    indptr = np.concatenate([[0], np.cumsum(np.count_nonzero(mask, axis=1))])
    indices = (found % cells.shape[1]).astype(np.int32)
    return sparse.csr_matrix((cells.reshape(-1)[found], indices, indptr.astype(np.int32)), shape=cells.shape)
