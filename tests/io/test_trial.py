"""HDF5 files by which the HDF5 library goes down, and the process that tries them."""

import os
import struct
import time

import anndata
import h5py
import numpy as np
import pytest

from scrdit_jax.errors import BadInput
from scrdit_jax.io import trial
from scrdit_jax.io.reading import read_cells


@pytest.fixture
def cells(tmp_path):
    path = tmp_path / "cells.h5ad"
    anndata.AnnData(np.ones((4, 3), np.float32)).write_h5ad(path)
    return path


def with_a_heap_that_leads_nowhere(path):
    """The first object of the first heap says that it has a size after which the next lies on itself."""
    data = bytearray(path.read_bytes())
    heap = data.index(b"GCOL\x01\0\0\0")
    struct.pack_into("<HH4xQ", data, heap + 16, 0, 0, 0)
    path.write_bytes(data)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="without a limit of CPU time nothing ends what runs in circles")
def test_a_file_that_hdf5_goes_down_by_is_one_line(cells, monkeypatch):
    assert read_cells(cells).shape == (4, 3)
    monkeypatch.setattr(trial, "HELPER", trial.HELPER.replace("seconds = 5", "seconds = 1"))
    trial._stop()
    with_a_heap_that_leads_nowhere(cells)
    for _ in range(2):
        with pytest.raises(BadInput, match=r"cells\.h5ad is damaged: HDF5 cannot read the texts in it"):
            read_cells(cells)


def test_one_process_tries_all_files_and_each_once(cells, tmp_path):
    trial._stop()
    trial.require_readable_texts(cells)
    helper = trial._helper
    began = time.monotonic()
    for i in range(200):
        path = tmp_path / f"{i}\n.h5"
        with h5py.File(path, "w") as file:
            file.attrs["text"] = "text"
        trial.require_readable_texts(path)
    trial.require_readable_texts(cells)
    assert time.monotonic() - began < 60
    assert trial._helper is helper
    helper.kill()
    helper.wait()
    trial.require_readable_texts(cells)  # known
    os.utime(cells, (1, 1))
    trial.require_readable_texts(cells)
    assert trial._helper is not helper


def test_what_is_no_hdf5_is_left_to_the_reader(tmp_path):
    (tmp_path / "a.h5ad").write_bytes(b"none")
    trial.require_readable_texts(tmp_path / "a.h5ad")
    trial.require_readable_texts(tmp_path / "missing")


def test_without_an_interpreter_nothing_is_tried(cells, monkeypatch):
    monkeypatch.setattr(trial.sys, "executable", "")
    monkeypatch.setattr(trial, "_tried", {})
    monkeypatch.setattr(trial.subprocess, "Popen", None)
    trial.require_readable_texts(cells)
