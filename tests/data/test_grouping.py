"""Groups of similar cells: k-means against scikit-learn's, decided by training cells alone, wherever the cells lie."""

import anndata
import numpy as np
import pytest
from scipy import sparse
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

from scrdit_jax.api import prepare
from scrdit_jax.conditioning import derived as grouping
from scrdit_jax.conditioning.derived import KIND, PLACE, SIZE, find_groups
from scrdit_jax.io import checking

KINDS, CELLS, GENES = 5, 600, 40


@pytest.fixture(scope="module")
def kinds():
    """(cells in CSR, the kind of each): five kinds of unequal frequency."""
    random = np.random.default_rng(3)
    kind = random.choice(KINDS, CELLS, p=[0.4, 0.25, 0.2, 0.1, 0.05])
    centres = random.gamma(0.5, 2.0, size=(KINDS, GENES))
    cells = np.maximum(centres[kind] + 0.3 * random.standard_normal((CELLS, GENES)), 0)
    return sparse.csr_matrix(cells.astype(np.float32)), kind


def groups_of(cells, kinds, held_out=None):
    held_out = np.zeros(cells.shape[0], bool) if held_out is None else held_out
    return find_groups(cells, held_out, kinds, 3, seed=0)


def kinds_of(cells, kinds, held_out=None, seed=0):
    held_out = np.zeros(cells.shape[0], bool) if held_out is None else held_out
    return find_groups(cells, held_out, kinds, seed=seed)[KIND].codes


def test_kinds_that_lie_apart_are_found_and_the_largest_comes_first(kinds):
    cells, kind = kinds
    found = kinds_of(cells, KINDS)
    assert adjusted_rand_score(kind, found) == 1.0
    assert np.all(np.diff(np.bincount(found)) <= 0)


def test_kinds_are_as_tight_as_those_of_scikit_learn(kinds):
    """Sum of squared distances to the kind's mean, in the same components; 3 % for another start."""
    cells, _ = kinds
    found = kinds_of(cells, 12)
    places = PCA(20, random_state=0).fit_transform(cells.toarray())
    ours = sum(np.square(places[found == g] - places[found == g].mean(axis=0)).sum() for g in range(found.max() + 1))
    assert ours < 1.03 * KMeans(found.max() + 1, n_init=5, random_state=0).fit(places).inertia_


def test_sizes_are_equally_frequent_classes_of_expressed_genes(kinds):
    cells, _ = kinds
    expressed = np.diff(cells.indptr)
    sizes = groups_of(cells, KINDS)[SIZE].codes
    counts = np.bincount(sizes)
    assert 5 <= len(counts) <= 8 and counts.min() > 0
    for low in range(len(counts) - 1):
        assert expressed[sizes == low].max() < expressed[sizes == low + 1].min()
    untied = sparse.csr_matrix(np.tri(400, 400, dtype=np.float32)[np.random.default_rng(0).permutation(400)])
    assert np.bincount(groups_of(untied, 2)[SIZE].codes).tolist() == [50] * 8


def test_places_are_sixths_along_the_principal_components_of_the_training_cells(kinds):
    cells, _ = kinds
    held_out = np.arange(CELLS) % 3 == 0
    found = find_groups(cells, held_out, KINDS, 40, seed=0)
    columns = [column for column in found if column.startswith(PLACE)]
    assert columns == [f"{PLACE}{i + 1}" for i in range(grouping.COMPONENTS)]
    pca = PCA(grouping.COMPONENTS, svd_solver="full").fit(cells.toarray()[~held_out])
    for column, along in zip(columns, pca.transform(cells.toarray()).T, strict=True):
        codes = found[column].codes
        assert set(np.bincount(codes[~held_out]).tolist()) <= {66, 67}
        # An axis points either way.
        codes = codes if np.corrcoef(codes, along)[0, 1] > 0 else 5 - codes
        in_order = codes[np.argsort(along)]
        assert (np.diff(in_order) < 0).mean() < 0.02


def test_held_out_cells_are_put_into_groups_but_decide_none(kinds):
    cells, _ = kinds
    held_out = np.arange(CELLS) % 3 == 0
    changed = cells.copy()
    changed[np.flatnonzero(held_out)[:150]] *= 7
    first, second = groups_of(cells, KINDS, held_out), groups_of(changed, KINDS, held_out)
    assert len(first) == 5
    for column in first:
        found, again = first[column], second[column]
        np.testing.assert_array_equal(again.codes[~held_out], found.codes[~held_out])
        np.testing.assert_array_equal(again.codes[held_out][150:], found.codes[held_out][150:])
        assert set(found.codes[~held_out]) == set(range(len(found.categories)))


def test_few_cells_have_few_groups_and_no_kind_is_tiny(kinds):
    cells, kind = kinds
    for count, most in ((47, 1), (95, 3)):
        found = groups_of(cells[:count], 10)
        assert all(len(found[column].categories) <= most for column in found)
    lonely = sparse.vstack([cells[kind == 0], 20 * cells[kind == 1][:3]]).tocsr()
    assert np.bincount(kinds_of(lonely, 4)).min() >= grouping.LEAST_CELLS


def test_equal_cells_are_one_group():
    cells = sparse.csr_matrix(np.ones((100, 8), np.float32))
    found = groups_of(cells, 12)
    assert [found[column].categories.tolist() for column in found] == [["0"], ["0"]]


def test_cells_on_a_disk_get_the_same_groups(kinds, tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr(checking, "ROWS_PER_BLOCK", 64)
    cells = anndata.AnnData(kinds[0])
    cells.obs["scrdit_size"] = "mine"
    cells.write_h5ad(tmp_path / "cells.h5ad")
    options = {"preset": tiny_config, "groups": 4, "components": 2, "normalize": "none"}
    memory = prepare(tmp_path / "cells.h5ad", **options, stream=False)
    disk = prepare(tmp_path / "cells.h5ad", **options, stream=True)
    assert disk.on_disk and disk.metadata == memory.metadata
    assert tuple(condition.column for condition in memory.metadata.groups) == (KIND, SIZE, f"{PLACE}1", f"{PLACE}2")
    for condition in memory.metadata.groups:
        assert sum(condition.cells) == memory.metadata.n_train
        assert memory.cells.obs[condition.column].tolist() == disk.cells.obs[condition.column].tolist()
    assert any("was replaced" in note for note in memory.metadata.notes)
