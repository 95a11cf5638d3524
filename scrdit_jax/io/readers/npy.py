"""One matrix of cells x genes as NumPy saves it, without any names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from anndata import AnnData

from ...errors import BadInput
from ._reader import Reader, has_suffix


def _read(path: Path) -> AnnData:
    matrix = np.load(path, allow_pickle=False)
    if not isinstance(matrix, np.ndarray) or matrix.ndim != 2:
        shape = f"shape {matrix.shape}" if isinstance(matrix, np.ndarray) else "several arrays"
        raise BadInput(f"{path} holds {shape}; it must be one matrix of cells x genes")
    if matrix.dtype.kind not in "biuf":
        raise BadInput(f"{path} holds values of type {matrix.dtype}; they must be numbers: matrix.astype('float32')")
    return AnnData(matrix)


READER = Reader(formats=".npy", sniff=lambda path: has_suffix(path, ".npy"), read=_read, named=False)
