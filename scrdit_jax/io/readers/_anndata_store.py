"""AnnData as .h5ad and .zarr store it: groups of HDF5 or zarr with X, obs, var and uns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import zarr
from scipy import sparse

from ...errors import BadInput
from ..backed import BackedCells, BackedMatrix, Cells, FileStore, StoredRows, make_cells
from ..checking import notes_of, with_notes
from ..damage import foreign

Group = h5py.Group | zarr.Group


def cells_of(group: Group, path: Path, *, backed: bool = False) -> Cells:
    """X, obs, var and this package's own .uns; the rest can be large and is not needed. `backed` leaves X there."""
    missing = [name for name in ("obs", "var") if name not in group]
    if missing:
        raise BadInput(f"{path} is no AnnData: it lacks {' and '.join(missing)}; write it with adata.write_h5ad(...)")
    if "X" not in group:
        raise BadInput(f"{path} has no matrix X; put the values of the cells in adata.X")
    if backed:
        dense = group["X"].attrs["encoding-type"] == "array"
        with foreign():
            matrix = group["X"] if dense else StoredRows(group["X"])
        matrix = BackedMatrix(FileStore(matrix, path), np.arange(matrix.shape[0]))
    else:
        matrix = _element(group["X"])
    if sparse.issparse(matrix):
        matrix.check_format(full_check=True)
    uns = {k: _element(group[f"uns/{k}"]) for k in group.get("uns", {}) if k.startswith("scrdit")}
    cells = make_cells(matrix, _element(group["obs"]), _element(group["var"]), uns)
    notes = list(notes_of(cells))
    if others := [f"layers[{name!r}]" for name in group.get("layers", {})] + [".raw"] * ("raw/X" in group):
        notes.append(f"the file also holds {', '.join(others)}, not used: X was read")
    return with_notes(cells, notes)


def backed_cells_of(group: Group, path: Path) -> BackedCells | None:
    """The cells with X left on the disk; None where it is not stored by rows."""
    if "X" not in group or isinstance(group.get("obs"), h5py.Dataset):
        return None
    encoding, shape = group["X"].attrs.get("encoding-type"), getattr(group["X"], "shape", None)
    dense = encoding == "array" and shape is not None and len(shape) == 2
    if not dense and (encoding != "csr_matrix" or shape is not None):
        return None  # what is wrong, if anything is, comes out as it is read whole
    return cells_of(group, path, backed=True)


def bytes_of(group: Group) -> int:
    """What X would take in memory: float32, in CSR where it is sparse."""
    matrix = group["X"]
    if hasattr(matrix, "shape"):
        return 4 * int(np.prod(matrix.shape))
    return 8 * len(matrix["data"])


def _element(stored: Group | h5py.Dataset | zarr.Array) -> Any:
    """What anndata makes of a part of the store."""
    with foreign():
        return anndata.io.read_elem(stored)
