"""AnnData in HDF5."""

from __future__ import annotations

import contextlib
from pathlib import Path

import anndata
import h5py
from anndata import AnnData

from ..backed import BackedCells
from ..damage import foreign
from ..hdf5 import open_hdf5
from ..hierarchy import require_readable
from ._anndata_store import backed_cells_of, bytes_of, cells_of
from ._reader import Reader, has_suffix


def _read(path: Path) -> AnnData:
    with open_hdf5(path) as file, foreign():
        # Files from before anndata 0.7 keep obs as one structured array, which only read_h5ad knows.
        legacy = isinstance(file.get("obs"), h5py.Dataset)
        if not legacy:
            return cells_of(file, path)
        require_readable(file, path)
        return anndata.read_h5ad(path)


def _open(path: Path) -> BackedCells | None:
    # Without a cache of its own HDF5 reads what is asked for, and not whole chunks.
    with contextlib.ExitStack() as closing:
        cells = backed_cells_of(closing.enter_context(open_hdf5(path, rdcc_nbytes=0)), path)
        if cells is not None:
            closing.pop_all()  # the cells' matrix is read from it
    return cells


def _bytes_in_memory(path: Path) -> int:
    with open_hdf5(path) as file:
        return bytes_of(file)


READER = Reader(
    formats=".h5ad",
    sniff=lambda path: has_suffix(path, ".h5ad"),
    read=_read,
    open=_open,
    bytes_in_memory=_bytes_in_memory,
    priority=2,
)
