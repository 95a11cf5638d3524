"""AnnData in zarr, of format 2 or 3. Stores that ask for pickles are not opened."""

from __future__ import annotations

import json
import re
from pathlib import Path

import zarr
from anndata import AnnData

from ...errors import BadInput
from ..backed import BackedCells
from ._anndata_store import backed_cells_of, bytes_of, cells_of
from ._reader import Reader

METADATA = ("zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata")
PICKLE_CODEC = re.compile(r'"(?:id|name)": "(?:numcodecs\.)?pickle"')


def _sniff(path: Path) -> bool:
    return any((path / name).is_file() for name in METADATA)


def _group(path: Path) -> zarr.Group:
    """A zarr array may name a codec that unpickles: BadInput for a store that does."""
    for metadata in (file for name in METADATA for file in path.rglob(name)):
        if PICKLE_CODEC.search(json.dumps(json.loads(metadata.read_text()))):
            raise BadInput(f"{metadata} asks for pickled objects, which are never opened; write it again with anndata")
    return zarr.open_group(path, mode="r")


def _read(path: Path) -> AnnData:
    return cells_of(_group(path), path)


def _open(path: Path) -> BackedCells | None:
    return backed_cells_of(_group(path), path)


def _bytes_in_memory(path: Path) -> int:
    return bytes_of(_group(path))


READER = Reader(formats=".zarr", sniff=_sniff, read=_read, open=_open, bytes_in_memory=_bytes_in_memory, priority=2)
