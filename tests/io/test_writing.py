"""Cells that stay on a disk are written as anndata would: the same obs, var and uns, and rows appended by blocks."""

import errno
import os
import sys

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest

from scrdit_jax.io import checking
from scrdit_jax.io.hdf5 import new_hdf5
from scrdit_jax.io.reading import open_cells, read_cells
from scrdit_jax.io.writing import write_cells


@pytest.mark.parametrize("name", ["written.h5ad", "written.zarr"])
def test_backed_cells_are_written_a_block_at_a_time(name, tiny_cells, tmp_path, monkeypatch):
    monkeypatch.setattr(checking, "ROWS_PER_BLOCK", 7)
    cells = tiny_cells.copy()
    cells.obs["score"], cells.obs["flag"], cells.obs["word"] = np.arange(90.0), np.arange(90) % 2 == 0, "a"
    cells.var["length"] = np.arange(40)
    cells.uns["scrdit_notes"] = ["a note"]
    cells.write_h5ad(tmp_path / "cells.h5ad")
    backed = open_cells(tmp_path / "cells.h5ad")
    kept = np.arange(90) % 3 > 0
    write_cells(backed[kept], tmp_path / name)
    read = anndata.read_zarr(tmp_path / name) if name.endswith("zarr") else anndata.read_h5ad(tmp_path / name)
    assert (cells.X[kept] != read.X).nnz == 0
    assert read.X.dtype == np.float32
    pd.testing.assert_frame_equal(read.obs, cells.obs[kept], check_categorical=False)
    pd.testing.assert_frame_equal(read.var, cells.var)
    assert list(read.uns["scrdit_notes"]) == ["a note"]
    again = open_cells(tmp_path / name)
    assert (again.X[3:50] != cells.X[kept][3:50]).nnz == 0
    assert read_cells(tmp_path / name).shape == (60, 40)
    if name.endswith("h5ad"):
        with h5py.File(tmp_path / name) as file:
            assert file["X/data"].compression is None
            assert "raw" not in file


def test_a_file_that_cannot_be_begun_is_an_error_and_nothing_is_printed(tmp_path, monkeypatch):
    ignored = []
    monkeypatch.setattr(sys, "unraisablehook", ignored.append)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", full)
        with pytest.raises(OSError, match="No space left"), new_hdf5(tmp_path / "cells.h5ad"):
            pass
    assert [str(each.exc_value) for each in ignored] == []
