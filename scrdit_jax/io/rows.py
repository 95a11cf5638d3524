"""The checks of a matrix stored by rows (CSR), whether it is in memory or is read block by block."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BadInput

AGAIN = "the file is damaged: fetch or write it again"


def require_pointers(indptr: np.ndarray, rows: int, stored: tuple[int, int], path: Path) -> None:
    """BadInput unless `indptr` says where each of `rows` rows begins and the last ends, among as many values and
    column numbers as are `stored`."""
    values, indices = stored
    if values != indices:
        raise BadInput(f"{path}: X holds {values:,} values but {indices:,} column numbers; {AGAIN}")
    wrong = None
    if indptr.ndim != 1 or indptr.dtype.kind not in "iu":
        wrong = f"are {indptr.dtype} of shape {indptr.shape}, not whole numbers in a row"
    elif len(indptr) != rows + 1:
        wrong = f"are {len(indptr):,}, not {rows + 1:,} for {rows:,} rows"
    elif indptr[0] != 0:
        wrong = f"begin at {indptr[0]}, not at 0"
    elif (falls := np.flatnonzero(indptr[1:] < indptr[:-1])).size:
        wrong = f"fall after row {falls[0]}, from {indptr[falls[0]]} to {indptr[falls[0] + 1]}"
    elif indptr[-1] != values:
        wrong = f"end at {indptr[-1]:,}, but {values:,} values are stored"
    if wrong is not None:
        raise BadInput(f"{path}: the row pointers of X {wrong}; {AGAIN}")


def require_columns(indices: np.ndarray, columns: int, path: Path) -> None:
    """BadInput where a column number is none of 0 to `columns` - 1."""
    if indices.dtype.kind not in "iu":
        raise BadInput(f"{path}: the column numbers of X are {indices.dtype}, not whole numbers; {AGAIN}")
    if not len(indices):
        return
    low, high = indices.min(), indices.max()
    if low < 0 or high >= columns:
        raise BadInput(
            f"{path}: X has the column number {low if low < 0 else high}, which is none of 0 to {columns - 1}; {AGAIN}"
        )


def require_numbers(dtype: np.dtype, path: Path, name: str = "X") -> None:
    """BadInput unless values of this type are real numbers."""
    if dtype.kind not in "biuf":
        raise BadInput(f"{path}: {name} holds {dtype}, not numbers: adata.X = adata.X.astype('float32')")


def require_parts(group: Any, path: Path) -> None:
    """BadInput unless the group of a sparse matrix has its three arrays, each of one dimension."""
    for name in ("data", "indices", "indptr"):
        shape = getattr(group[name], "shape", None) if name in group else None
        if shape is None or len(shape) != 1:
            found = "is not there" if name not in group else "is a group" if shape is None else f"has the shape {shape}"
            raise BadInput(f"{path}: X/{name}, the {_WHAT[name]}, {found}; {AGAIN}")
    require_numbers(group["data"].dtype, path, "X/data, the values,")


_WHAT = {"data": "values", "indices": "column numbers", "indptr": "row pointers"}
