"""Cells to a file: whole or not there."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import zarr
from anndata import AnnData
from scipy import sparse

from ..errors import BadInput
from .atomic import atomic_write, check_parents
from .backed import BackedCells, Cells
from .checking import row_blocks

SUFFIXES = (".h5ad", ".zarr")
# Of a file that is read at random: so small that little is read in vain, so large that they are not too many.
VALUES_A_CHUNK = 1 << 16


def check_suffix(path: Path, what: str) -> None:
    """BadInput unless `path` names a format that `write_cells` writes; OutputExists if it cannot lie there."""
    if path.suffix not in SUFFIXES:
        raise BadInput(f"{path} ends in {path.suffix!r}; {what} are written to {' or '.join(SUFFIXES)}")
    check_parents(path)


def write_cells(cells: Cells, path: Path) -> None:
    """Write .h5ad (gzip) or .zarr (format 3) beside `path` and rename, atomic_write what is there.

    Cells on a disk go through memory a block at a time and are not compressed, for they are to be read at random.
    """
    with atomic_write(path) as partial:
        if isinstance(cells, BackedCells):
            _write_blocks(cells, partial)
            return
        if path.suffix == ".h5ad":
            cells.write_h5ad(partial, compression="gzip")
            return
        # AnnData warns that its own default will become what is asked for here.
        with (
            anndata.settings.override(zarr_write_format=3, auto_shard_zarr_v3=False),
            warnings.catch_warnings(action="ignore", category=UserWarning),
        ):
            anndata.io.write_zarr(partial, cells)


def _write_blocks(cells: BackedCells, path: Path) -> None:
    with (
        _new_group(path) as group,
        anndata.settings.override(zarr_write_format=3, auto_shard_zarr_v3=False),
        warnings.catch_warnings(action="ignore", category=UserWarning),
    ):
        anndata.io.write_elem(group, "/", AnnData(obs=cells.obs, var=cells.var, uns=cells.uns))
        if "raw" in group:  # written without `.X`, an AnnData leaves an empty one that cannot be opened backed
            del group["raw"]
        empty = sparse.csr_matrix((0, cells.n_vars), dtype=np.float32)
        # SciPy works on matrices only whose indices and indptr are of one kind.
        empty.indices, empty.indptr = empty.indices.astype(np.int64), empty.indptr.astype(np.int64)
        anndata.io.write_elem(group, "X", empty, dataset_kwargs={"chunks": (VALUES_A_CHUNK,)})
        matrix = anndata.io.sparse_dataset(group["X"])
        for block in row_blocks(cells.X):
            matrix.append(block)


def _new_group(path: Path) -> Any:
    if path.suffix == ".h5ad":
        return h5py.File(path, "w")
    return contextlib.nullcontext(zarr.open_group(path, mode="w", zarr_format=3))
