"""Wherever cells come from (a path, the embedded PBMC 3k, an AnnData), prepared for a model."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
from anndata import AnnData

from ..config import DataConfig
from ..devices import free_host_memory
from ..errors import BadInput
from ..io.backed import BackedCells, Cells
from ..io.checking import require_finite
from ..io.reading import Data, bytes_in_memory, load_cells, open_cells
from .adapting import adapt
from .metadata import DatasetMetadata
from .preparing import Prepared, is_prepared, prepare, prepared_from

# Preparing holds so many copies of the matrix at once, at worst.
COPIES = 4


def too_large(data: Data) -> str | None:
    """A sentence where preparing the cells in memory would take more of it than there is; else None."""
    if isinstance(data, AnnData):
        return None
    needed = (bytes_in_memory(Path(data)) or 0) * COPIES
    free = free_host_memory()
    if needed < free:
        return None
    return f"the cells stay on the disk: in memory they would take about {needed / 1e9:.1f} GB of {free / 1e9:.1f} GB"


def load_prepared(
    data: Data,
    config: DataConfig,
    *,
    asked: Collection[str] = (),
    multiple_of: int,
    transpose: bool = False,
    stored: bool = False,
) -> Prepared:
    """Cells ready to train on, or with `stored` such as stay on the disk and are prepared as they are read.

    What `prepare` wrote before keeps its settings; BadInput if those `asked` for differ.
    """
    cells, source = _read(data, transpose, stored)
    if not is_prepared(cells):
        return prepare(cells, config, multiple_of=multiple_of, source=source)
    if stored:
        require_finite(cells.X, cells.obs_names, cells.var_names, source)
    prepared = prepared_from(cells)
    made = prepared.metadata.settings
    for name in asked:
        here, there = getattr(config, name), getattr(made, name)
        if here != there:
            raise BadInput(
                f"{source} was prepared with {name} {there!r}, not {here!r}; leave the option out, or give the file it "
                "was prepared from"
            )
    if prepared.cells.n_vars % multiple_of:
        raise BadInput(
            f"{source} holds {prepared.cells.n_vars} genes, no multiple of {multiple_of} as the network needs; "
            "prepare it again with the preset and network it is to be trained with"
        )
    return prepared


def load_adapted(
    data: Data,
    known: DatasetMetadata,
    axes: np.ndarray,
    settings: DataConfig,
    *,
    transpose: bool = False,
    stored: bool = False,
) -> Prepared:
    """Cells ready to train a model further on; see `adapting.adapt` and `load_prepared`."""
    cells, source = _read(data, transpose, stored)
    if is_prepared(cells):
        raise BadInput(
            f"{source} was prepared with genes and a scaling of its own; to continue a model, give the file it was "
            "prepared from"
        )
    return adapt(cells, known, axes, settings, source=source)


def _read(data: Data, transpose: bool, stored: bool) -> tuple[Cells, str]:
    """The cells, on the disk where they are `stored`, and what to call them."""
    if stored:
        return _open(data, transpose), Path(data).name
    return load_cells(data, transpose=transpose)


def _open(data: Data, transpose: bool) -> BackedCells:
    cells = None
    if not isinstance(data, AnnData) and not transpose and Path(data).exists():
        cells = open_cells(Path(data))
    if cells is None:
        what = "cells in memory" if isinstance(data, AnnData) else str(data)
        raise BadInput(
            f"{what} cannot be streamed; give an .h5ad or .zarr that is there, with X stored by cells (CSR, not CSC)"
        )
    return cells
