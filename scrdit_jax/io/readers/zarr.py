"""AnnData in zarr, of format 2 or 3. Stores that ask for pickles are not opened."""

from __future__ import annotations

import json
import logging
import os
import re
from pathlib import Path

import zarr
from anndata import AnnData

from ... import strict_json
from ...errors import BadInput
from ...paths import files_below
from ..backed import BackedCells
from ..damage import foreign
from ._anndata_store import backed_cells_of, bytes_of, cells_of
from ._reader import Reader

# zarr reads the parts of a group at once. Where one cannot be read we say so; of the others asyncio would tell later.
logging.getLogger("asyncio").addFilter(lambda record: os.path.join("zarr", "core") not in record.getMessage())

METADATA = ("zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata")
PICKLE_CODEC = re.compile(r'"(?:id|name)": "(?:numcodecs\.)?pickle"')


def _sniff(path: Path) -> bool:
    return any((path / name).is_file() for name in METADATA)


def open_store(path: Path) -> zarr.Group:
    """The group at `path`, to read. BadInput for a store that is no plain folder of files, or with an array that names
    a codec that unpickles: zarr would open it."""
    for metadata in (file for file in files_below(path) if file.name in METADATA):
        if PICKLE_CODEC.search(json.dumps(strict_json.read(metadata))):
            raise BadInput(f"{metadata} asks for pickled objects, which are never opened; write it again with anndata")
    with foreign():
        return zarr.open_group(path, mode="r")


def _read(path: Path) -> AnnData:
    return cells_of(open_store(path), path)


def _open(path: Path) -> BackedCells | None:
    return backed_cells_of(open_store(path), path)


def _bytes_in_memory(path: Path) -> int:
    return bytes_of(open_store(path))


READER = Reader(formats=".zarr", sniff=_sniff, read=_read, open=_open, bytes_in_memory=_bytes_in_memory, priority=2)
