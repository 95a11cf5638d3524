"""One matrix of cells x genes as NumPy saves it, without any names."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.lib.format as npy_format
from anndata import AnnData

from ...errors import BadInput
from ..damage import foreign
from ..limits import STREAM, require_memory
from ._reader import Reader, has_suffix

MAGIC, MOST_BYTES_A_HEADER = npy_format.MAGIC_PREFIX, 10_000
# Format 3 is format 2 with names of fields in UTF-8, of which a matrix has none.
HEADERS = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}


def _read(path: Path) -> AnnData:
    _require_whole(path)
    with foreign():
        matrix = np.load(path, allow_pickle=False)
    if not isinstance(matrix, np.ndarray) or matrix.ndim != 2:
        shape = f"shape {matrix.shape}" if isinstance(matrix, np.ndarray) else "several arrays"
        raise BadInput(f"{path} holds {shape}; it must be one matrix of cells x genes")
    if matrix.dtype.kind not in "biuf":
        raise BadInput(f"{path} holds values of type {matrix.dtype}; they must be numbers: matrix.astype('float32')")
    return AnnData(matrix)


def _require_whole(path: Path) -> None:
    """BadInput where the header claims more than follows it, or than there is memory for; NumPy would allocate first.
    Whatever else is wrong, NumPy says."""
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            return
        file.seek(0)
        version = npy_format.read_magic(file)
        read_header = HEADERS.get(version)
        if read_header is None:
            return
        with foreign():
            shape, _, dtype = read_header(file, max_header_size=MOST_BYTES_A_HEADER)
        there = path.stat().st_size - file.tell()
    if dtype.hasobject:
        return
    if any(type(n) is not int or n < 0 for n in shape):
        raise BadInput(f"{path} has the shape {shape}; it must be one matrix of cells x genes")
    claimed = math.prod(shape) * dtype.itemsize
    if claimed > there:
        raise BadInput(
            f"{path} is cut short: its header claims {claimed:,} bytes (shape {shape}), and {there:,} follow; fetch or "
            "write it again"
        )
    require_memory(claimed + 4 * math.prod(shape), f"{path}, of shape {shape}", STREAM)


READER = Reader(formats=".npy", sniff=lambda path: has_suffix(path, ".npy"), read=_read, named=False)
