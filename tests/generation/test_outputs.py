import errno

import anndata
import numpy as np
import pandas as pd
import pytest

import scrdit_jax as scrdit
from scrdit_jax import errors
from scrdit_jax.errors import BadInput, DiskFull, OutputExists
from scrdit_jax.generation import assemble as assembling
from scrdit_jax.generation import fill


@pytest.mark.parametrize("name", ["cells.h5ad", "cells.zarr"])
def test_cells_written_and_read_back_are_the_cells(tiny_run, tmp_path, name):
    in_memory = scrdit.sample(tiny_run, 12, steps=4)
    path = scrdit.sample(tiny_run, 12, steps=4, out=tmp_path / "new" / name)
    read = anndata.read_h5ad(path) if name.endswith("h5ad") else anndata.io.read_zarr(path)
    np.testing.assert_array_equal(read.X.toarray(), in_memory.X.toarray())
    assert list(read.var_names) == list(in_memory.var_names)
    assert dict(read.uns["scrdit"]) == in_memory.uns["scrdit"]
    assert [p.name for p in path.parent.iterdir()] == [name]


@pytest.mark.parametrize("name", ["cells.h5ad", "cells.zarr"])
def test_the_same_request_again_does_nothing_and_another_is_refused(tiny_run, tmp_path, name):
    path = scrdit.sample(tiny_run, 5, steps=3, out=tmp_path / name)
    stamp = path.stat().st_mtime_ns
    scrdit.sample(tiny_run, 5, steps=3, out=path)
    assert path.stat().st_mtime_ns == stamp
    with pytest.raises(OutputExists, match=r"another request \(cells 5, not 6\)"):
        scrdit.sample(tiny_run, 6, steps=3, out=path)
    with pytest.raises(OutputExists, match=r"another request \(seed 0, not 1\)"):
        scrdit.sample(tiny_run, 5, steps=3, seed=1, out=path)
    assert path.stat().st_mtime_ns == stamp


def test_what_is_not_ours_is_not_overwritten(tiny_run, tiny_cells, tmp_path):
    (tmp_path / "notes.h5ad").write_text("not HDF5 at all")
    tiny_cells.write_h5ad(tmp_path / "real.h5ad")
    (tmp_path / "folder.zarr").mkdir()
    for name in ("notes.h5ad", "real.h5ad", "folder.zarr"):
        with pytest.raises(OutputExists, match=f"{name} is there already and holds no synthetic cells"):
            scrdit.sample(tiny_run, 5, steps=3, out=tmp_path / name)
    assert (tmp_path / "notes.h5ad").read_text() == "not HDF5 at all"
    with pytest.raises(BadInput, match=r"ends in '\.csv'; synthetic cells are written to \.h5ad or \.zarr"):
        scrdit.sample(tiny_run, 5, out=tmp_path / "cells.csv")


def test_a_full_disk_leaves_only_what_the_next_start_goes_on_from(tiny_run, tmp_path, monkeypatch):
    def full(path, *_, **__):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    out = tmp_path / "cells.h5ad"
    with monkeypatch.context() as patch:
        patch.setattr(assembling, "new_cell_file", full)
        with pytest.raises(DiskFull, match=r"no space left while writing .*run the same command again"):
            scrdit.sample(tiny_run, 5, steps=3, out=out)
    assert [path.name for path in tmp_path.iterdir()] == [".cells.h5ad.shards"]
    monkeypatch.setattr(fill, "make_shards", None)  # the cells are there already
    assert scrdit.sample(tiny_run, 5, steps=3, out=out) == out
    assert list(tmp_path.iterdir()) == [out]


def test_disk_full_is_recognised_by_its_words_too():
    with pytest.raises(DiskFull), errors.writing("x"):
        raise ValueError("RESOURCE_EXHAUSTED: write failed: No space left on device")
    with pytest.raises(ZeroDivisionError), errors.writing("x"):
        raise ZeroDivisionError


def test_cells_carry_what_scanpy_and_people_look_for(labelled_run, tmp_path):
    in_memory = scrdit.sample(labelled_run, 12, steps=2, output="counts")
    written = anndata.read_h5ad(scrdit.sample(labelled_run, 12, steps=2, output="counts", out=tmp_path / "cells.h5ad"))
    for cells in (in_memory, written):
        assert cells.uns["log1p"] == {}  # or scanpy takes the logarithm of a logarithm without a word
        assert "made by scrdit_jax" in cells.uns["scrdit"]["about"]
        assert isinstance(cells.obs["cell_type"].dtype, pd.CategoricalDtype)
        assert cells.layers["counts"].dtype.kind == "i"
