"""Groups of similar cells: k-means against scikit-learn's, decided by training cells alone, wherever the cells lie."""

import anndata
import numpy as np
import pytest
from scipy import sparse
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

from scrdit_jax.api import prepare
from scrdit_jax.data import checking, grouping
from scrdit_jax.data.grouping import find_groups

KINDS, CELLS, GENES = 5, 600, 40


@pytest.fixture(scope="module")
def kinds():
    """(cells in CSR, the kind of each): five kinds of unequal frequency."""
    random = np.random.default_rng(3)
    kind = random.choice(KINDS, CELLS, p=[0.4, 0.25, 0.2, 0.1, 0.05])
    centres = random.gamma(0.5, 2.0, size=(KINDS, GENES))
    cells = np.maximum(centres[kind] + 0.3 * random.standard_normal((CELLS, GENES)), 0)
    return sparse.csr_matrix(cells.astype(np.float32)), kind


def codes(cells, groups, held_out=None, seed=0):
    held_out = np.zeros(cells.shape[0], bool) if held_out is None else held_out
    return find_groups(cells, held_out, groups, seed=seed)


def test_kinds_that_lie_apart_are_found_and_the_largest_comes_first(kinds):
    cells, kind = kinds
    found = codes(cells, KINDS)
    assert adjusted_rand_score(kind, found.codes) == 1.0
    counts = np.bincount(found.codes)
    assert np.all(np.diff(counts) <= 0) and found.categories.tolist() == list("01234")


def test_groups_are_as_tight_as_those_of_scikit_learn(kinds):
    """Sum of squared distances to the group's mean, in the same components; 3 % for another start."""
    cells, _ = kinds
    found = codes(cells, 12).codes
    places = PCA(20, random_state=0).fit_transform(cells.toarray())
    ours = sum(np.square(places[found == g] - places[found == g].mean(axis=0)).sum() for g in range(found.max() + 1))
    assert ours < 1.03 * KMeans(found.max() + 1, n_init=5, random_state=0).fit(places).inertia_


def test_held_out_cells_are_put_into_groups_but_decide_none(kinds):
    cells, kind = kinds
    held_out = np.arange(CELLS) % 3 == 0
    found = codes(cells, KINDS, held_out)
    assert adjusted_rand_score(kind, found.codes) == 1.0
    changed = cells.copy()
    changed[np.flatnonzero(held_out)[:150]] *= 7
    again = codes(changed, KINDS, held_out)
    np.testing.assert_array_equal(again.codes[~held_out], found.codes[~held_out])
    np.testing.assert_array_equal(again.codes[held_out][150:], found.codes[held_out][150:])


def test_few_cells_have_few_groups_and_none_is_tiny(kinds):
    cells, kind = kinds
    assert len(codes(cells[:59], 10).categories) == 1
    assert len(codes(cells[:95], 10).categories) <= 3
    assert np.bincount(codes(cells, 20).codes).min() >= grouping.LEAST_CELLS
    lonely = sparse.vstack([cells[kind == 0], 20 * cells[kind == 1][:3]]).tocsr()
    assert np.bincount(codes(lonely, 4).codes).min() >= grouping.LEAST_CELLS


def test_equal_cells_are_one_group():
    assert codes(sparse.csr_matrix(np.ones((100, 8), np.float32)), 3).categories.tolist() == ["0"]


def test_cells_on_a_disk_get_the_same_groups(kinds, tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr(checking, "ROWS_PER_BLOCK", 64)
    cells = anndata.AnnData(kinds[0])
    cells.obs["scrdit_group"] = "mine"
    cells.write_h5ad(tmp_path / "cells.h5ad")
    options = {"preset": tiny_config, "groups": 4, "normalize": "none"}
    memory = prepare(tmp_path / "cells.h5ad", **options, stream=False)
    disk = prepare(tmp_path / "cells.h5ad", **options, stream=True)
    assert disk.on_disk and disk.facts == memory.facts
    assert memory.facts.groups.column == grouping.COLUMN and sum(memory.facts.groups.cells) == memory.facts.n_train
    assert memory.cells.obs[grouping.COLUMN].tolist() == disk.cells.obs[grouping.COLUMN].tolist()
    assert any("was replaced" in note for note in memory.facts.notes)
