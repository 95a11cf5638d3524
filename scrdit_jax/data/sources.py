"""Wherever cells come from (a path, the embedded PBMC 3k, an AnnData), prepared for a model."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from anndata import AnnData

from ..config import DataConfig
from ..errors import BadInput
from .preparing import Prepared, is_prepared, prepare, prepared_from
from .reading import embedded_pbmc3k, read_cells

EMBEDDED = "pbmc3k"
Data = AnnData | Path | str


def load_cells(data: Data, *, transpose: bool = False) -> tuple[AnnData, str]:
    """Cells and the name messages give them; `pbmc3k` is the embedded data set unless a file is called so."""
    if isinstance(data, AnnData):
        return data, "AnnData in memory"
    if str(data) == EMBEDDED and not Path(data).exists():
        return embedded_pbmc3k(), "embedded PBMC 3k"
    return read_cells(data, transpose=transpose), Path(data).name


def load_prepared(
    data: Data, config: DataConfig, *, asked: Collection[str] = (), multiple_of: int, transpose: bool = False
) -> Prepared:
    """Cells ready to train on. What `prepare` wrote before keeps its settings; BadInput if those `asked` for differ."""
    cells, source = load_cells(data, transpose=transpose)
    if not is_prepared(cells):
        return prepare(cells, config, multiple_of=multiple_of, source=source)
    prepared = prepared_from(cells)
    made = prepared.facts.settings
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
