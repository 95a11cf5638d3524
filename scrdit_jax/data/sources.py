"""Wherever cells come from (paths, a folder, the embedded PBMC 3k, an AnnData), prepared for a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from anndata import AnnData

from ..config import DataConfig, GeneGroups
from ..devices import free_host_memory
from ..errors import BadInput
from ..io.backed import BackedCells, Cells
from ..io.checking import check_cells, require_finite
from ..io.joining import Part, join
from ..io.reading import Data, bytes_in_memory, files_in, load_cells, open_cells
from .adapting import adapt
from .joined import require_alike
from .metadata import DatasetMetadata
from .preparing import Prepared, is_prepared, prepare, prepared_from

# One data set, or several that are joined: a sequence of them, or a folder that holds their files.
DataSets = Data | Sequence[Data]

# Preparing holds so many copies of the matrix at once, at worst.
COPIES = 4
# More files are not all named in a message.
SHOWN_FILES = 3


def data_sets(data: DataSets) -> list[Data]:
    """Each by itself; BadInput where there is none."""
    if isinstance(data, AnnData):
        return [data]
    if not isinstance(data, str | Path):
        if not (given := list(data)):
            raise BadInput("no data were given; give a file, a folder or several files")
        return [each for one in given for each in data_sets(one)]
    return list(files_in(Path(data))) or [data]


def too_large(data: DataSets) -> str | None:
    """A sentence where preparing the cells in memory would take more of it than there is; else None."""
    files = [Path(each) for each in data_sets(data) if not isinstance(each, AnnData)]
    needed = sum(bytes_in_memory(path) or 0 for path in files) * COPIES
    free = free_host_memory()
    if needed < free:
        return None
    return f"the cells stay on the disk: in memory they would take about {needed / 1e9:.1f} GB of {free / 1e9:.1f} GB"


def load_prepared(
    data: DataSets,
    config: DataConfig,
    *,
    asked: Collection[str] = (),
    multiple_of: int,
    groups: GeneGroups | None = None,
    transpose: bool = False,
    stored: bool = False,
) -> Prepared:
    """Cells ready to train on, or with `stored` such as stay on the disk and are prepared as they are read.

    Several data sets are joined. What `prepare` wrote before keeps its settings; BadInput if those `asked` for differ.
    """
    cells, source = _read(data, config, transpose=transpose, stored=stored)
    if not is_prepared(cells):
        return prepare(cells, config, multiple_of=multiple_of, source=source, groups=groups)
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
    data: DataSets,
    known: DatasetMetadata,
    axes: np.ndarray,
    settings: DataConfig,
    *,
    transpose: bool = False,
    stored: bool = False,
) -> Prepared:
    """Cells ready to train a model further on; see `adapting.adapt` and `load_prepared`."""
    cells, source = _read(data, settings, transpose=transpose, stored=stored)
    if is_prepared(cells):
        raise BadInput(
            f"{source} was prepared with genes and a scaling of its own; to continue a model, give the file it was "
            "prepared from"
        )
    return adapt(cells, known, axes, settings, source=source)


def _read(data: DataSets, config: DataConfig, *, transpose: bool, stored: bool) -> tuple[Cells, str]:
    """The cells of one data set, or of several as one, and the name that messages give them."""
    each = data_sets(data)
    if len(each) > 1:
        return _joined(each, config, transpose=transpose, stored=stored)
    return _loaded(each[0], transpose=transpose, stored=stored)


def _loaded(data: Data, *, transpose: bool, stored: bool) -> tuple[Cells, str]:
    """The cells, and the name that messages give them."""
    if stored:
        return _open(data, transpose), Path(data).name
    return load_cells(data, transpose=transpose)


def _joined(each: Sequence[Data], config: DataConfig, *, transpose: bool, stored: bool) -> tuple[Cells, str]:
    """The cells of several data sets as those of one, and the name that messages give them."""
    parts = []
    for name, data in zip(_names(each), each, strict=True):
        cells, source = _loaded(data, transpose=transpose, stored=stored)
        if is_prepared(cells):
            raise BadInput(
                f"{source} was prepared before and cannot be joined with others; give the files as they came"
            )
        parts.append(Part(name, check_cells(cells, source, values=False)))
    require_alike(parts, config)
    more = len(parts) - SHOWN_FILES
    source = ", ".join(part.name for part in parts[:SHOWN_FILES]) + (f" and {more} more" if more > 0 else "")
    return join(parts), source


def _names(each: Sequence[Data]) -> list[str]:
    """A name for each, of its file without the suffix; with its folder where two are the same."""
    names = [f"data_{i}" if isinstance(one, AnnData) else Path(one).stem for i, one in enumerate(each, 1)]
    if max(Counter(names).values()) > 1:
        names = [name if isinstance(one, AnnData) else str(Path(one)) for name, one in zip(names, each, strict=True)]
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise BadInput(f"{repeated[0]} was given twice; give each file once")
    return names


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
