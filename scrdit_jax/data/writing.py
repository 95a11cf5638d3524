"""Cells to a file: whole or not there."""

from __future__ import annotations

import warnings
from pathlib import Path

import anndata
from anndata import AnnData

from ..errors import BadInput
from ..files import check_parents, replacing

SUFFIXES = (".h5ad", ".zarr")


def check_suffix(path: Path, what: str) -> None:
    """BadInput unless `path` names a format that `write_cells` writes; OutputExists if it cannot lie there."""
    if path.suffix not in SUFFIXES:
        raise BadInput(f"{path} ends in {path.suffix!r}; {what} are written to {' or '.join(SUFFIXES)}")
    check_parents(path)


def write_cells(cells: AnnData, path: Path) -> None:
    """Write .h5ad (gzip) or .zarr (format 3) beside `path` and rename, replacing what is there."""
    with replacing(path) as partial:
        if path.suffix == ".h5ad":
            cells.write_h5ad(partial, compression="gzip")
            return
        # AnnData warns that its own default will become what is asked for here.
        with (
            anndata.settings.override(zarr_write_format=3, auto_shard_zarr_v3=False),
            warnings.catch_warnings(action="ignore", category=UserWarning),
        ):
            anndata.io.write_zarr(partial, cells)
