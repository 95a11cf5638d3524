"""Other people's loaders of cells from files, asked for batches as ours is; see atlas. Needs none of our package.

All give raw values as dense float32 (cell, gene). Each is asked for `most` cells, or for so many `seconds`.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import Any

import anndata
import numpy as np

# Cells that lie together are read together; so many such stretches are shuffled: as ours does with as many genes.
STRETCH, STRETCHES = 64, 256


def backed(folder: str, batch: int, seconds: float, most: int) -> dict[str, Any]:
    """anndata's own backed access: rows at random, in the order of the file, which it asks for."""
    files = [anndata.read_h5ad(path, backed="r") for path in sorted(Path(folder).glob("*.h5ad"))]
    random = np.random.default_rng(0)

    def batches() -> Iterable[np.ndarray]:
        for number in count():
            file = files[number % len(files)]
            yield file.X[np.sort(random.choice(file.n_obs, batch, replace=False))].toarray()

    return _timed(batches(), batch, seconds, most)


def annloader(folder: str, batch: int, seconds: float, most: int) -> dict[str, Any]:
    """anndata's AnnLoader of an AnnCollection, shuffled."""
    from anndata.experimental import AnnCollection, AnnLoader

    warnings.simplefilter("ignore")
    files = [anndata.read_h5ad(path, backed="r") for path in sorted(Path(folder).glob("*.h5ad"))]
    loader = AnnLoader(AnnCollection(files, join_vars="inner", indices_strict=False), batch_size=batch, shuffle=True)
    return _timed((cells.X.numpy() for cells in loader), batch, seconds, most)


def annbatch(folder: str, batch: int, seconds: float, most: int) -> dict[str, Any]:
    """annbatch's Loader, shuffled in stretches as ours."""
    import zarr
    from annbatch import Loader

    loader = Loader(batch_size=batch, chunk_size=STRETCH, preload_nchunks=STRETCHES, shuffle=True)
    for path in sorted(Path(folder).glob("*.zarr")):
        group = zarr.open_group(path, mode="r")
        loader.add_adata(
            anndata.AnnData(
                X=anndata.io.sparse_dataset(group["X"]),
                obs=anndata.io.read_elem(group["obs"]),
                var=anndata.io.read_elem(group["var"]),
            )
        )
    return _timed((cells["X"].toarray() for cells in loader), batch, seconds, most)


def _timed(batches: Iterable[np.ndarray], batch: int, seconds: float, most: int) -> dict[str, Any]:
    started, done = time.perf_counter(), 0
    for cells in batches:
        if cells.dtype != np.float32 or cells.ndim != 2:
            raise TypeError(f"a batch of {cells.dtype} {cells.shape}")
        done += batch
        if done >= most or time.perf_counter() - started > seconds:
            break
    return {"cells": done, "cells_per_second": done / (time.perf_counter() - started)}
