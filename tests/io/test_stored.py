import logging

import anndata
import numpy as np
import pytest
from scipy import sparse

from scrdit_jax.api import prepare
from scrdit_jax.data.batches import Batches, Shuffle
from scrdit_jax.data.preparing import prepared_from, write_prepared
from scrdit_jax.errors import BadInput
from scrdit_jax.io import backed as stored
from scrdit_jax.io import checking
from scrdit_jax.io.reading import open_cells


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """So that ninety cells are many blocks and reads."""
    monkeypatch.setattr(checking, "ROWS_PER_BLOCK", 11)
    monkeypatch.setattr(stored, "NEAR", 1)
    monkeypatch.setattr(stored, "MOST_ROWS", 8)


@pytest.mark.parametrize("name", ["cells.h5ad", "cells.zarr", "dense.h5ad"])
def test_cells_on_the_disk_are_prepared_to_the_same_bits(name, tiny_cells, tiny_config, tmp_path):
    cells = tiny_cells.copy()
    cells.X[3] = 0  # a cell without expression, which is dropped
    if name.startswith("dense"):
        cells.X = cells.X.toarray()
    else:
        cells.X.eliminate_zeros()
    (cells.write_zarr if name.endswith("zarr") else cells.write_h5ad)(tmp_path / name)
    changes = {"cell_type_key": "cell_type", "cell_types": ("B cell",), "min_cells": 1}
    memory = prepare(tmp_path / name, preset=tiny_config, stream=False, **changes)
    disk = prepare(tmp_path / name, preset=tiny_config, stream=True, **changes)
    assert disk.on_disk
    assert not memory.on_disk
    assert disk.metadata == memory.metadata
    np.testing.assert_array_equal(disk.train.X[:].toarray(), memory.train.X.toarray())
    write_prepared(disk, tmp_path / "prepared.h5ad")
    for again in (
        prepared_from(anndata.read_h5ad(tmp_path / "prepared.h5ad")),
        prepared_from(open_cells(tmp_path / "prepared.h5ad")),
    ):
        assert again.metadata == memory.metadata
        np.testing.assert_array_equal(again.held_out.X[:].toarray(), memory.held_out.X.toarray())


@pytest.mark.parametrize("batch_size", [4, 23])
def test_batches_are_the_same_wherever_the_cells_lie(batch_size, tiny_cells, tiny_config, tmp_path):
    tiny_cells.write_h5ad(tmp_path / "cells.h5ad")
    memory = prepare(tmp_path / "cells.h5ad", preset=tiny_config, stream=False).train.X
    disk = prepare(tmp_path / "cells.h5ad", preset=tiny_config, stream=True).train.X
    shuffle = Shuffle(memory.shape[0], 5, cells_a_stretch=3, stretches_a_window=4)
    here, there = (Batches(x, batch_size, 5, shuffle=shuffle) for x in (memory, disk))
    for step in [0, 1, 2, 30, 7]:
        np.testing.assert_array_equal(here.at(step).cells, there.at(step).cells)
        half = slice(batch_size // 2, None)
        np.testing.assert_array_equal(there.at(step, half).cells, there.at(step).cells[half])


@pytest.mark.parametrize("cells", [1, 12, 23, 100])
def test_every_cell_comes_once_an_epoch_in_two_levels(cells):
    shuffle = Shuffle(cells, 1, cells_a_stretch=3, stretches_a_window=4)
    for epoch in range(3):
        starts = shuffle.starts(epoch)
        windows = [shuffle.window(epoch, number) for number in range(len(starts) - 1)]
        assert [len(window) for window in windows] == list(np.diff(starts))
        assert sorted(np.concatenate(windows)) == list(range(cells))
    if cells == 100:
        assert list(shuffle.window(0, 0)) != list(shuffle.window(1, 0))


def test_what_cannot_be_read_by_rows_is_refused_with_the_remedy(tiny_cells, tiny_config, tmp_path):
    by_gene = tiny_cells.copy()
    by_gene.X = sparse.csc_matrix(by_gene.X)
    by_gene.write_h5ad(tmp_path / "by_gene.h5ad")
    for data in (tmp_path / "by_gene.h5ad", tiny_cells):
        with pytest.raises(BadInput, match=r"cannot be streamed; give an \.h5ad or \.zarr"):
            prepare(data, preset=tiny_config, stream=True)


@pytest.mark.parametrize(("value", "what"), [(np.nan, "missing"), (-1, "-1")])
def test_a_wrong_value_on_the_disk_is_named(value, what, tiny_cells, tiny_config, tmp_path):
    cells = tiny_cells.copy()
    cells.X = cells.X.toarray()
    cells.X[37, 5] = value
    cells.X = sparse.csr_matrix(cells.X)
    cells.write_h5ad(tmp_path / "bad.h5ad")
    with pytest.raises(BadInput, match=f"cell37.*GENE5.*{what}"):
        prepare(tmp_path / "bad.h5ad", preset=tiny_config, stream=True)


def test_what_zarr_could_not_read_is_told_once(caplog):
    """Where several parts of a group cannot be read, asyncio tells of all but one when they are collected."""
    asyncio = logging.getLogger("asyncio")
    asyncio.error("Task exception was never retrieved\nfuture: <Task coro=<get() at /lib/zarr/core/group.py:3503>>")
    asyncio.error("Task exception was never retrieved\nfuture: <Task coro=<other() at /lib/other.py:1>>")
    assert len(caplog.messages) == 1
    assert "other.py" in caplog.messages[0]
