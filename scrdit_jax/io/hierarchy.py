"""Groups of HDF5 and zarr before anything in them is read: what their arrays claim, and where they lead."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import zarr

from ..errors import BadInput
from .limits import require_memory, require_plausible

Group = h5py.Group | zarr.Group
Array = h5py.Dataset | zarr.Array

# AnnData's own groups lie four deep in each other.
MOST_DEPTH = 32
# What a word of a file takes as a Python object, at least.
BYTES_A_WORD = 64


def require_readable(stored: Group | Array, path: Path, *, in_memory: bool = True) -> None:
    """BadInput unless all arrays in `stored`, which lies at `path`, are there, lie in the file itself, and, where they
    are to be `in_memory`, find room in it. Only what describes them is read."""
    needed = 0
    for array in arrays_in(stored, path):
        needed += require_sound(array, path)
    if in_memory:
        require_memory(needed, f"{stored.name.strip('/') or 'all'} of {path}")


def require_sound(array: Array, path: Path) -> int:
    """How many bytes the array takes in memory; BadInput where it claims more than can be there of it."""
    name = f"{array.name.strip('/')} of {path}"
    itemsize = BYTES_A_WORD if array.dtype.kind in "OTSU" else array.dtype.itemsize
    claimed = math.prod(array.shape) * itemsize
    if isinstance(array, h5py.Dataset):
        if array.external is not None or array.is_virtual:
            raise BadInput(f"{name} lies outside the file, in another one; copy the cells into one file")
        require_plausible(claimed, array.id.get_storage_size(), name)
        return claimed
    chunk = math.prod(array.shards or array.chunks) * itemsize
    require_memory(4 * chunk, f"a chunk of {name}", "write it again with smaller chunks")
    if claimed > 1 << 28:  # to count the files takes long
        require_plausible(claimed, array.nbytes_stored(), name)
    return claimed


def arrays_in(stored: Group | Array, path: Path) -> Iterator[Array]:
    """All arrays in a group, at any depth, or the array itself; BadInput for links that leave the file or go round."""
    yield from _arrays(stored, path, ())


def _arrays(stored: Any, path: Path, above: tuple[Any, ...]) -> Iterator[Array]:
    if not isinstance(stored, h5py.Group | zarr.Group):
        yield stored
        return
    place = stored.id if isinstance(stored, h5py.Group) else stored.path
    if place in above or len(above) > MOST_DEPTH:
        raise BadInput(f"{path}: the group {stored.name} lies in itself, or too deep; write the file again")
    for name in stored:
        if isinstance(stored, h5py.Group) and isinstance(stored.get(name, getlink=True), h5py.ExternalLink):
            raise BadInput(f"{path}: {stored.name}/{name} leads to another file; copy the cells into one file")
        yield from _arrays(stored[name], path, (*above, place))


def shape_of_matrix(group: Any, path: Path) -> tuple[int, int]:
    """(rows, columns) of X, dense or sparse, as it says of itself; BadInput where these are no numbers of anything."""
    shape = getattr(group, "shape", None)
    if shape is None:
        shape = group.attrs.get("shape", group.attrs.get("h5sparse_shape"))
    return two_counts(shape, f"{path}: the shape of {group.name.strip('/')}")


def two_counts(shape: Any, what: str) -> tuple[int, int]:
    """`shape` as two whole numbers; BadInput, which begins with `what`, where it is anything else."""
    values = [] if shape is None or isinstance(shape, str | bytes) else list(np.ravel(np.asarray(shape, object)))
    if len(values) != 2 or not all(_is_count(value) for value in values):
        raise BadInput(f"{what} is {str(shape)[:60]}, not two whole numbers of cells and genes; write it again")
    return int(values[0]), int(values[1])


def _is_count(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and 0 <= value < 2**62
