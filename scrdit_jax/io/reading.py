"""Cells from files of every format in `readers/`, checked. Nothing in a file is ever unpickled."""

from __future__ import annotations

import contextlib
import difflib
import warnings
from importlib import resources
from pathlib import Path
from typing import Any

from anndata import AnnData

from ..errors import BadInput
from ..paths import readable_path
from ..registry import READERS
from .backed import BackedCells
from .checking import check_cells
from .damage import reading
from .hdf5 import open_hdf5
from .readers._anndata_store import part_of
from .readers._reader import Reader
from .readers.zarr import open_store

EMBEDDED = "pbmc3k"
Data = AnnData | Path | str


def read_cells(path: str | Path, *, transpose: bool = False) -> AnnData:
    """Cells x genes from any of `formats()`, checked: X float32, CSR where the file is sparse, else a dense array.

    `transpose` says that the file's rows are genes. obs and var columns are kept, and of .uns what this package wrote;
    layers, .raw and the like are not read. Whatever cannot be used raises BadInput.
    """
    path = readable_path(path)
    if not path.exists():
        raise BadInput(f"{path} does not exist; {_suggestion(path)}")
    reader = _reader_of(path)
    if reader is None:
        raise _unknown(path)
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # repeated names are dealt with below
        with reading(path, reader.formats):
            adata = reader.read(path)
        if transpose and not reader.genes_in_rows:
            adata = adata.T
    if not reader.named:
        adata.var_names = [f"gene_{j}" for j in range(adata.n_vars)]
    return check_cells(adata, str(path))


def formats() -> str:
    """All formats that can be read, for messages and help."""
    return ", ".join(reader.formats for reader in _readers())


def embedded_pbmc3k() -> AnnData:
    """2,638 blood cells x 13,714 genes, raw UMI counts, `obs.cell_type` of 8 types (10x Genomics, CC BY 4.0)."""
    with resources.as_file(resources.files("scrdit_jax.data") / "pbmc3k.h5ad") as path:
        return read_cells(path)


def load_cells(data: Data, *, transpose: bool = False) -> tuple[AnnData, str]:
    """Cells and the name messages give them; `pbmc3k` is the embedded data set unless a file is called so."""
    if isinstance(data, AnnData):
        return data, "AnnData in memory"
    if str(data) == EMBEDDED and not Path(data).exists():
        return embedded_pbmc3k(), "embedded PBMC 3k"
    return read_cells(data, transpose=transpose), Path(data).name


def open_cells(path: Path) -> BackedCells | None:
    """The cells of a file with X left on the disk, its values unchecked; None where X cannot be read by rows."""
    reader = _reader_of(readable_path(path))
    if reader is None or reader.open is None:
        return None
    with warnings.catch_warnings(action="ignore", category=UserWarning), reading(path, reader.formats):
        cells = reader.open(path)
    return None if cells is None else check_cells(cells, str(path), values=False)


def read_part(path: Path, name: str) -> Any | None:
    """What an .h5ad or .zarr stores as `name` ("uns/scrdit"), without the rest; None where there is nothing of that
    name, BadInput where it cannot be read."""
    ignored = warnings.catch_warnings(action="ignore", category=UserWarning)  # of what lies beside it
    with ignored, reading(readable_path(path)):
        if path.is_dir():
            return part_of(open_store(path), name, path)
        with open_hdf5(path) as file:
            return part_of(file, name, path)


def files_in(folder: Path) -> list[Path]:
    """The .h5ad and .zarr in a folder, by name; none where it is a format itself, or no folder."""
    if not readable_path(folder).is_dir() or _reader_of(folder) is not None:
        return []
    with reading(folder):
        inside = sorted(child for child in folder.iterdir() if not child.name.startswith("."))
    return [child for child in inside if (reader := _reader_of(child)) is not None and reader.open is not None]


def bytes_in_memory(path: Path) -> int | None:
    """What X of a file would take, float32, in CSR where it is sparse; None where that is not known."""
    with contextlib.suppress(BadInput):
        reader = _reader_of(path) if readable_path(path).exists() else None
        if reader is not None and reader.bytes_in_memory is not None:
            with reading(path, reader.formats):
                return reader.bytes_in_memory(path)
    return None


def _readers() -> list[Reader]:
    """All there are, in the order in which they are asked."""
    return sorted(READERS.values(), key=lambda reader: -reader.priority)


def _reader_of(path: Path) -> Reader | None:
    with reading(path):
        return next((reader for reader in _readers() if reader.sniff(path)), None)


def _unknown(path: Path) -> BadInput:
    """What to say of a path that no reader wants."""
    if path.is_dir():
        inside = sorted(path.iterdir())
        readable = (child for reader in _readers() for child in inside if reader.sniff(child))
        first = next(readable, None)
        remedy = f"perhaps {first}" if first else "give the folder that holds them, or a file"
        return BadInput(f"{path} is a folder, but none that can be read (formats: {formats()}); {remedy}")
    if path.name.lower().removesuffix(".gz").endswith(".tar"):
        return BadInput(
            f"{path} is an archive; unpack it and give a folder in it, or, where it is GEO's of GSE181297, convert it: "
            f"scripts/fetch_datasets.py gse181297 --from {path} --out DIR"
        )
    return BadInput(f"{path} has a format that is not known ({path.suffix or 'no suffix'}); it must be {formats()}")


def _suggestion(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"neither does its folder {folder}; check the path"
    close = difflib.get_close_matches(path.name, [child.name for child in folder.iterdir()], n=1)
    return f"did you mean {folder / close[0]}?" if close else f"check the path (formats: {formats()})"
