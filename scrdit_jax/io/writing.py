"""Cells to a file, in an atomic write."""

from __future__ import annotations

from pathlib import Path

import anndata

from ..errors import BadInput
from .append import write_backed, zarr_format_3
from .atomic import atomic_write, check_parents
from .backed import BackedCells, Cells
from .hdf5 import small_hdf5

SUFFIXES = (".h5ad", ".zarr")


def check_suffix(path: Path, what: str) -> None:
    """BadInput unless `path` names a format that `write_cells` writes; OutputExists if it cannot lie there."""
    if path.suffix not in SUFFIXES:
        raise BadInput(f"{path} ends in {path.suffix!r}; {what} are written to {' or '.join(SUFFIXES)}")
    check_parents(path)


def write_cells(cells: Cells, path: Path, *, compress: bool = False) -> None:
    """Write .h5ad (gzip) or .zarr (format 3), replacing what is there in an atomic write.

    Cells on a disk go through memory a block at a time. Unless `compress`, they are not compressed in an .h5ad, for
    they are to be read at random.
    """
    with atomic_write(path) as partial:
        if isinstance(cells, BackedCells):
            write_backed(cells, partial, compress=compress)
            return
        cells = cells.copy() if cells.is_view else cells
        if path.suffix == ".h5ad":
            cells.strings_to_categoricals()
            with small_hdf5(partial) as file:
                anndata.io.write_elem(file, "/", cells, dataset_kwargs={"compression": "gzip"})
            return
        with zarr_format_3():
            anndata.io.write_zarr(partial, cells)
