"""AnnData as .h5ad and .zarr store it: groups of HDF5 or zarr with X, obs, var and uns."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from ...errors import BadInput
from ..backed import BackedCells, BackedMatrix, Cells, FileStore, StoredRows, make_cells
from ..checking import has_nul, notes_of, require_alike, with_notes
from ..damage import foreign
from ..hierarchy import Array, Group, require_readable, shape_of_matrix
from ..rows import require_numbers, require_parts

BY_ROWS, BY_COLUMNS, DENSE = "csr_matrix", "csc_matrix", "array"


def cells_of(group: Group, path: Path, *, backed: bool = False) -> Cells:
    """X, obs, var and this package's own .uns; the rest can be large and is not needed. `backed` leaves X there.

    What is read is checked first by what the file says of it: sizes, lengths and links.
    """
    with foreign():
        missing = [name for name in ("obs", "var") if name not in group]
        if missing:
            lacks = " and ".join(missing)
            raise BadInput(f"{path} is no AnnData: it lacks {lacks}; write it with adata.write_h5ad(...)")
        if "X" not in group:
            raise BadInput(f"{path} has no matrix X; put the values of the cells in adata.X")
        matrix = _stored_matrix(group["X"], path) if backed else _matrix(group["X"], path)
    obs, var = (_table(group, name, path) for name in ("obs", "var"))
    require_alike(matrix.shape, len(obs), len(var), str(path))
    inside = _inside(group, "uns")
    uns = {key: _element(group[f"uns/{key}"], path) for key in inside if key.startswith("scrdit")}
    cells = make_cells(matrix, obs, var, uns)
    notes = list(notes_of(cells))
    if others := [f"layers[{name!r}]" for name in _inside(group, "layers")] + [".raw"] * ("raw/X" in group):
        notes.append(f"the file also holds {', '.join(others)}, not used: X was read")
    return with_notes(cells, notes)


def part_of(group: Group, name: str, path: Path) -> Any | None:
    """What lies there under this name; None where nothing does."""
    with foreign():
        there = name in group
    return _element(group[name], path) if there else None


def backed_cells_of(group: Group, path: Path) -> BackedCells | None:
    """The cells with X left on the disk; None where it is not stored by rows."""
    with foreign():
        if "X" not in group or isinstance(group.get("obs"), h5py.Dataset):
            return None
        by_columns = encoding_of(group["X"]) == BY_COLUMNS
    return None if by_columns else cells_of(group, path, backed=True)


def bytes_of(group: Group) -> int:
    """What X would take in memory: float32, in CSR where it is sparse."""
    with foreign():
        matrix = group["X"]
        if hasattr(matrix, "shape"):
            return 4 * math.prod(matrix.shape)
        return 8 * math.prod(matrix["data"].shape)


def encoding_of(stored: Group | Array) -> str:
    """How X is stored; files from before anndata 0.7 do not say it as later ones do."""
    if hasattr(stored, "shape"):
        return DENSE
    encoding = stored.attrs.get("encoding-type", stored.attrs.get("h5sparse_format"))
    return {"csr": BY_ROWS, "csc": BY_COLUMNS}.get(str(encoding), str(encoding))


def _matrix(stored: Group | Array, path: Path) -> Any:
    """X in memory, dense or CSR."""
    require_readable(stored, path)
    encoding = encoding_of(stored)
    if encoding in (BY_ROWS, BY_COLUMNS):
        require_parts(stored, path)
        shape = shape_of_matrix(stored, path)
        if encoding == BY_ROWS:
            return StoredRows(stored, shape, path)[:]
        return StoredRows(stored, shape[::-1], path)[:].T.tocsr()
    if encoding != DENSE:
        raise _no_matrix(encoding, path)
    _require_two(stored, path)
    return _element(stored, path)


def _stored_matrix(stored: Group | Array, path: Path) -> BackedMatrix:
    """X left on the disk."""
    require_readable(stored, path, in_memory=False)
    encoding = encoding_of(stored)
    if encoding == DENSE:
        _require_two(stored, path)
        require_numbers(stored.dtype, path)
        matrix: Any = stored
    elif encoding != BY_ROWS:
        raise _no_matrix(encoding, path)
    else:
        require_parts(stored, path)
        require_readable(stored["indptr"], path)
        matrix = StoredRows(stored, shape_of_matrix(stored, path), path)
    return BackedMatrix(FileStore(matrix, path), np.arange(matrix.shape[0]))


def _no_matrix(encoding: str, path: Path) -> BadInput:
    return BadInput(f"{path}: X is stored as {encoding!r}, which is no matrix; write the file again with anndata")


def _require_two(matrix: Any, path: Path) -> None:
    if len(matrix.shape) != 2:
        raise BadInput(f"{path}: X has the shape {tuple(matrix.shape)}; it must be one matrix of cells x genes")


def _table(group: Group, name: str, path: Path) -> pd.DataFrame:
    """obs or var."""
    if not isinstance(group[name].attrs.get("_index", ""), str | bytes):
        raise BadInput(f"{path}: {name} does not say which of its columns holds the names; write the file again")
    table = _element(group[name], path)
    if not isinstance(table, pd.DataFrame):
        raise BadInput(f"{path}: {name} is no table but {type(table).__name__}; write the file again with anndata")
    for column in table.select_dtypes("category"):
        codes = table[column].cat.codes
        if codes.max() >= len(table[column].cat.categories) or codes.min() < -1:
            raise BadInput(f"{path}: {name}[{column!r}] has categories that it does not list; write the file again")
        if not all(isinstance(category, str | int | float | np.generic) for category in table[column].cat.categories):
            raise BadInput(f"{path}: {name}[{column!r}] has categories that are no texts or numbers; write it again")
    texts = [table.index, *(table[column].cat.categories for column in table.select_dtypes("category"))]
    if any(has_nul(values) for values in texts if not is_numeric_dtype(values)):
        raise BadInput(f"{path}: {name} has names or categories with a NUL in them; take it out")
    return table


def _inside(group: Group, name: str) -> list[str]:
    """What is in a group, where there is one."""
    found = group.get(name)
    return list(found) if isinstance(found, Group) else []


def _element(stored: Group | Array, path: Path) -> Any:
    """What anndata makes of a part of the store."""
    with foreign():
        require_readable(stored, path)
        return anndata.io.read_elem(stored)
