"""Makers of files, and the files by name."""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import zarr
from scipy import sparse

CELLS, GENES = 60, 40
HUGE = 10**12
FILES = {}


def case(*outcomes, name=None):
    """Register a maker of a file; `outcomes` are parts of the message, one of which must be in it; none: accepted."""

    def register(make):
        FILES[name or make.__name__] = (make, outcomes)
        return make

    return register


def small_cells(kind=sparse.csr_matrix, dtype=np.float32):
    """Counts of 60 cells x 40 genes, with a cell type."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(1.5, (CELLS, GENES)).astype(dtype)
    counts[:, 0] += 1
    obs = pd.DataFrame({"cell_type": pd.Categorical(np.repeat(["A", "B"], CELLS // 2))})
    obs.index = [f"cell{i}" for i in range(CELLS)]
    return anndata.AnnData(kind(counts), obs=obs, var=pd.DataFrame(index=[f"G{j}" for j in range(GENES)]))


@functools.cache
def _written(kind, suffix):
    """Written once: what is tried is the reading."""
    folder = tempfile.mkdtemp(prefix="scrdit_hostile_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder) / f"cells{suffix}"
    cells = small_cells(kind)
    if suffix == ".h5ad":
        cells.write_h5ad(path)
    else:
        cells.write_zarr(path)
    return path


def h5ad(folder, kind=sparse.csr_matrix):
    return Path(shutil.copy(_written(kind, ".h5ad"), folder))


def zarr_store(folder, kind=sparse.csr_matrix):
    return Path(shutil.copytree(_written(kind, ".zarr"), folder / "cells.zarr"))


def h5ad_case(*outcomes, name, kind=sparse.csr_matrix):
    """A file of which `change(file)` changes something; the same in zarr, where it is not about HDF5."""

    def register(change):
        def make_h5ad(folder):
            path = h5ad(folder, kind)
            with h5py.File(path, "a") as file:
                change(file)
            return path

        def make_zarr(folder):
            path = zarr_store(folder, kind)
            change(zarr.open_group(path, mode="a", use_consolidated=False))
            zarr.consolidate_metadata(path)
            return path

        FILES[f"h5ad, {name}"] = (make_h5ad, outcomes)
        FILES[f"zarr, {name}"] = (make_zarr, outcomes)
        return change

    return register


def put(group, name, values):
    """Replace an array, its attributes kept."""
    values = np.asarray(values)
    attrs = dict(group[name].attrs) if name in group else {"encoding-type": "array", "encoding-version": "0.2.0"}
    if name in group:
        del group[name]
    if isinstance(group, zarr.Group):
        group.create_array(name, data=values)
    else:
        group[name] = values
    for key, value in attrs.items():
        group[name].attrs[key] = value


def changed(group, name, change):
    values = group[name][:]
    change(values)
    put(group, name, values)
