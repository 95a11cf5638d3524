"""Wherever cells come from (a path, the embedded PBMC 3k, an AnnData), prepared for a model."""

from __future__ import annotations

from pathlib import Path

from anndata import AnnData

from ..config import DataConfig
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


def load_prepared(data: Data, config: DataConfig, *, genes_per_token: int, transpose: bool = False) -> Prepared:
    """Cells ready to train on; what `prepare` wrote before is taken as it is."""
    cells, source = load_cells(data, transpose=transpose)
    if is_prepared(cells):
        return prepared_from(cells)
    return prepare(cells, config, genes_per_token=genes_per_token, source=source)
