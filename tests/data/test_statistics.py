"""Sums over blocks, added up, against NumPy on all rows at once; and how often a file is gone through."""

from functools import reduce
from itertools import pairwise
from operator import add

import numpy as np
import pytest
from scipy import sparse

from scrdit_jax.api import prepare
from scrdit_jax.config import DataConfig
from scrdit_jax.data.marginals import gene_marginals
from scrdit_jax.data.preparing import prepared_from, write_prepared
from scrdit_jax.data.sources import load_prepared
from scrdit_jax.data.statistics import CellStatistics, GeneStatistics, reblocked
from scrdit_jax.errors import BadInput
from scrdit_jax.io import backed, checking
from scrdit_jax.io.reading import open_cells

CUTS = [0, 1, 9, 10, 47, 60]


@pytest.fixture
def x() -> np.ndarray:
    """60 cells x 9 genes on the log scale: one gene never expressed, one hardly varying about a large value."""
    random = np.random.default_rng(5)
    x = random.gamma(2, 1, (60, 9)) * (random.random((60, 9)) < 0.6)
    x[:, 3], x[:, 4] = 0, 50 + 1e-3 * random.random(60)
    return x.astype(np.float32)


def blocks(x, form=sparse.csr_matrix):
    return [form(x[first:last]) for first, last in pairwise(CUTS)]


def same(one, other) -> None:
    for name in one.__dataclass_fields__:
        here, there = getattr(one, name), getattr(other, name)
        if hasattr(here, "__dataclass_fields__"):
            same(here, there)
        else:
            # The gene about 50 varies by 3e-4: of its 16 digits 5 are lost.
            np.testing.assert_allclose(here, there, rtol=1e-11, err_msg=name)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
def test_parts_add_up_to_the_whole_however_they_are_cut(x, form):
    parts = [GeneStatistics.of(block) for block in blocks(x, form)]
    same(reduce(add, parts), GeneStatistics.of(form(x)))
    same(parts[0] + (parts[1] + reduce(add, parts[2:])), GeneStatistics.of(form(x)))
    some = np.array([4, 3, 0])
    same(reduce(add, parts)[some], GeneStatistics.of(form(x[:, some])))
    same(CellStatistics.join([CellStatistics.of(block) for block in blocks(x, form)]), CellStatistics.of(form(x)))


def test_moments_are_numpys_also_where_squares_would_lose_their_digits(x):
    found = reduce(add, map(GeneStatistics.of, blocks(x)))
    for moments, values in ((found.logs, x.astype(np.float64)), (found.linear, np.expm1(x).astype(np.float64))):
        np.testing.assert_allclose(moments.mean, values.mean(axis=0), rtol=1e-13)
        np.testing.assert_allclose(moments.variance, values.var(axis=0), rtol=1e-9)
    np.testing.assert_array_equal(found.expressing, (x > 0).sum(axis=0))
    assert not found.large.any()
    assert GeneStatistics.of(x + 40).large.tolist() == [j == 4 for j in range(9)]


def test_cells_are_judged_by_all_their_values():
    x = np.array([[1, 2], [0, 0], [0.5, 1], [-1, 3], [2, -0.5]], np.float32)
    for form in (np.asarray, sparse.csr_matrix):
        found = CellStatistics.of_all(form(x))
        assert found.library_size.tolist() == [3, 0, 1.5, 2, 1.5]
        assert found.whole.tolist() == [True, True, False, False, False]
        assert found.expressed.tolist() == [True, False, True, True, True]
        assert found.negative.tolist() == [False, False, False, True, True]
        assert [found[np.arange(5) < n].are_counts for n in (1, 2, 3)] == [True, True, False]


@pytest.mark.parametrize("rows", [1, 4, 25, 60, 100])
def test_rows_are_blocked_anew(x, rows, monkeypatch):
    monkeypatch.setattr(checking, "ROWS_PER_BLOCK", rows)
    made, expected = list(reblocked(blocks(x))), list(checking.row_blocks(sparse.csr_matrix(x)))
    assert [block.shape for block in made] == [block.shape for block in expected]
    np.testing.assert_array_equal(sparse.vstack(made).toarray(), x)


@pytest.fixture
def rows_read(monkeypatch):
    """Every row that is read from a disk, as often as it is."""
    read, original = [], backed.BackedMatrix._read

    def counting(self, rows):
        read.extend(range(int(rows[0]), int(rows[-1]) + 1))
        return original(self, rows)

    monkeypatch.setattr(backed.BackedMatrix, "_read", counting)
    monkeypatch.setattr(checking, "ROWS_PER_BLOCK", 11)
    return read


ALL = {"pc-scores": 2, "detected-genes": 1, "library-size": 1}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"derive": ALL, "clip": True},
        {"quantiles": 5, "derive": ALL},
        {"gene_selection": "cv", "derive": ALL, "condition_on": ["cell_type"]},
        {"gene_selection": "all", "standardize": False, "cell_type_key": "cell_type", "cell_types": ["B cell"]},
        {"normalize": "none", "derive": ALL},
    ],
)
@pytest.mark.parametrize("name", ["cells.h5ad", "cells.zarr", "dense.h5ad"])
def test_a_streamed_preparation_goes_through_the_file_twice(
    name, changes, tiny_cells, tiny_config, tmp_path, rows_read
):
    cells = tiny_cells.copy()
    if name.startswith("dense"):
        cells.X = cells.X.toarray()
    (cells.write_zarr if name.endswith("zarr") else cells.write_h5ad)(tmp_path / name)
    disk = prepare(tmp_path / name, preset=tiny_config, stream=True, **changes)
    assert set(rows_read) == set(range(90))
    # Once for all statistics; once more, and for a few cells to find axes in, where states are of the chosen genes.
    often = np.bincount(rows_read)
    assert often.max() <= 1 if not changes.get("derive") else often.max() <= 3 + ("quantiles" in changes)
    rows_read.clear()
    marginals = disk.gene_marginals()
    assert not rows_read
    memory = prepare(tmp_path / name, preset=tiny_config, stream=False, **changes)
    assert disk.metadata == memory.metadata
    np.testing.assert_array_equal(disk.axes, memory.axes)
    for column in disk.metadata.state:
        np.testing.assert_array_equal(disk.cells.obs[column.name], memory.cells.obs[column.name])
    np.testing.assert_array_equal(disk.training_states(apart=True), memory.training_states(apart=True))
    for found in (memory.gene_marginals(), gene_marginals(disk.train.X), gene_marginals(memory.train.X)):
        np.testing.assert_array_equal(found, marginals)


def test_prepared_cells_on_a_disk_are_checked_in_one_pass(tiny_cells, tiny_config, tmp_path, rows_read):
    path = write_prepared(prepare(tiny_cells, preset=tiny_config), tmp_path / "prepared.h5ad")
    config = DataConfig()
    again = load_prepared(path, config, multiple_of=4, stored=True)
    assert np.bincount(rows_read).tolist() == [1] * 90
    np.testing.assert_array_equal(again.gene_marginals(), prepare(tiny_cells, preset=tiny_config).marginals)
    broken = prepared_from(open_cells(path)).cells.copy()
    broken.X.data[7] = np.nan
    broken.uns = dict(open_cells(path).uns)
    broken.write_h5ad(tmp_path / "broken.h5ad")
    with pytest.raises(BadInput, match="is missing"):
        load_prepared(tmp_path / "broken.h5ad", config, multiple_of=4, stored=True)
