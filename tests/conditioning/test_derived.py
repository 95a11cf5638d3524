"""Derived variables: clusters against scikit-learn's k-means, decided by training cells alone, wherever they lie."""

import anndata
import numpy as np
import pytest
from scipy import sparse
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

from scrdit_jax.api import prepare
from scrdit_jax.conditioning import derived
from scrdit_jax.conditioning.derived.clusters import CLUSTER, LEAST_CELLS
from scrdit_jax.conditioning.derived.detected_genes import DETECTED_GENES
from scrdit_jax.conditioning.derived.pc_scores import PC_SCORE
from scrdit_jax.errors import BadConfig
from scrdit_jax.io import checking

CLUSTERS, CELLS, GENES = 5, 600, 40


@pytest.fixture(scope="module")
def mixture():
    """(cells in CSR, the of_cell of each): five mixture of unequal frequency."""
    random = np.random.default_rng(3)
    of_cell = random.choice(CLUSTERS, CELLS, p=[0.4, 0.25, 0.2, 0.1, 0.05])
    centres = random.gamma(0.5, 2.0, size=(CLUSTERS, GENES))
    cells = np.maximum(centres[of_cell] + 0.3 * random.standard_normal((CELLS, GENES)), 0)
    return sparse.csr_matrix(cells.astype(np.float32)), of_cell


def columns_of(cells, wanted, held_out=None):
    held_out = np.zeros(cells.shape[0], bool) if held_out is None else held_out
    found = derived.derive(cells, held_out, wanted, seed=0)
    return {column: values for columns in found.values() for column, values in columns.items()}


def variables_of(cells, clusters, held_out=None, components=3):
    return columns_of(cells, {"clusters": clusters, "detected-genes": 8, "pc-scores": components}, held_out)


def clusters_of(cells, clusters):
    return columns_of(cells, {"clusters": clusters})[CLUSTER].codes


def test_clusters_that_lie_apart_are_found_and_the_largest_comes_first(mixture):
    cells, of_cell = mixture
    found = clusters_of(cells, CLUSTERS)
    assert adjusted_rand_score(of_cell, found) == 1.0
    assert np.all(np.diff(np.bincount(found)) <= 0)


def test_clusters_are_as_tight_as_those_of_scikit_learn(mixture):
    """Sum of squared distances to the of_cell's mean, in the same components; 3 % for another start."""
    cells, _ = mixture
    found = clusters_of(cells, 12)
    scores = PCA(20, random_state=0).fit_transform(cells.toarray())
    ours = sum(np.square(scores[found == g] - scores[found == g].mean(axis=0)).sum() for g in range(found.max() + 1))
    assert ours < 1.03 * KMeans(found.max() + 1, n_init=5, random_state=0).fit(scores).inertia_


def test_detected_genes_bins_are_equally_frequent_classes_of_expressed_genes(mixture):
    cells, _ = mixture
    expressed = np.diff(cells.indptr)
    sizes = variables_of(cells, CLUSTERS)[DETECTED_GENES].codes
    counts = np.bincount(sizes)
    assert 5 <= len(counts) <= 8
    assert counts.min() > 0
    for low in range(len(counts) - 1):
        assert expressed[sizes == low].max() < expressed[sizes == low + 1].min()
    untied = sparse.csr_matrix(np.tri(400, 400, dtype=np.float32)[np.random.default_rng(0).permutation(400)])
    assert np.bincount(variables_of(untied, 2)[DETECTED_GENES].codes).tolist() == [50] * 8


def test_scores_are_sixths_along_the_principal_components_of_the_training_cells(mixture):
    cells, _ = mixture
    held_out = np.arange(CELLS) % 3 == 0
    found = variables_of(cells, CLUSTERS, held_out, components=derived.COMPONENTS)
    columns = [column for column in found if column.startswith(PC_SCORE)]
    assert columns == [f"{PC_SCORE}{i + 1}" for i in range(derived.COMPONENTS)]
    pca = PCA(derived.COMPONENTS, svd_solver="full").fit(cells.toarray()[~held_out])
    for column, along in zip(columns, pca.transform(cells.toarray()).T, strict=True):
        codes = found[column].codes
        assert set(np.bincount(codes[~held_out]).tolist()) <= {66, 67}
        # An axis points either way.
        codes = codes if np.corrcoef(codes, along)[0, 1] > 0 else 5 - codes
        in_order = codes[np.argsort(along)]
        assert (np.diff(in_order) < 0).mean() < 0.02


def test_held_out_cells_are_given_categories_but_decide_none(mixture):
    cells, _ = mixture
    held_out = np.arange(CELLS) % 3 == 0
    changed = cells.copy()
    changed[np.flatnonzero(held_out)[:150]] *= 7
    first, second = variables_of(cells, CLUSTERS, held_out), variables_of(changed, CLUSTERS, held_out)
    assert len(first) == 5
    for column in first:
        found, again = first[column], second[column]
        np.testing.assert_array_equal(again.codes[~held_out], found.codes[~held_out])
        np.testing.assert_array_equal(again.codes[held_out][150:], found.codes[held_out][150:])
        assert set(found.codes[~held_out]) == set(range(len(found.categories)))


def test_few_cells_have_few_categories_and_no_cluster_is_tiny(mixture):
    cells, of_cell = mixture
    for count, most in ((47, 1), (95, 3)):
        found = variables_of(cells[:count], 10)
        assert all(len(found[column].categories) <= most for column in found)
    lonely = sparse.vstack([cells[of_cell == 0], 20 * cells[of_cell == 1][:3]]).tocsr()
    assert np.bincount(clusters_of(lonely, 4)).min() >= LEAST_CELLS


def test_equal_cells_are_one_cluster():
    cells = sparse.csr_matrix(np.ones((100, 8), np.float32))
    found = variables_of(cells, 12)
    assert [found[column].categories.tolist() for column in found] == [["0"], ["0"]]


WANTED = {"clusters": 4, "detected-genes": 8, "pc-scores": 2}


def test_cells_on_a_disk_get_the_same_variables(mixture, tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr(checking, "ROWS_PER_BLOCK", 64)
    cells = anndata.AnnData(mixture[0])
    cells.obs["scrdit_detected_genes"] = "mine"
    cells.write_h5ad(tmp_path / "cells.h5ad")
    options = {"preset": tiny_config, "derive": WANTED, "normalize": "none"}
    memory = prepare(tmp_path / "cells.h5ad", **options, stream=False)
    disk = prepare(tmp_path / "cells.h5ad", **options, stream=True)
    assert disk.on_disk
    assert disk.metadata == memory.metadata
    variables = memory.metadata.variables
    assert [v.name for v in variables] == [CLUSTER, DETECTED_GENES, f"{PC_SCORE}1", f"{PC_SCORE}2"]
    assert [v.source for v in variables] == ["clusters", "detected-genes", "pc-scores", "pc-scores"]
    for variable in variables:
        assert sum(variable.counts) == memory.metadata.n_train
        assert memory.cells.obs[variable.name].tolist() == disk.cells.obs[variable.name].tolist()
    assert any("was replaced" in note for note in memory.metadata.notes)
    clusters, bins = (len(variable.categories) for variable in variables[:2])
    said = f"conditioned on {clusters} clusters, {bins} detected-genes bins, 2 PC scores in 6 bins"
    assert said in memory.metadata.notes


def test_what_cannot_be_derived_is_refused(mixture):
    with pytest.raises(BadConfig, match="no derived variable 'moods'; there are clusters, detected-genes, pc-scores"):
        columns_of(mixture[0], {"moods": 3})
    with pytest.raises(BadConfig, match="asks for 21 pc-scores; there are 20 at most"):
        columns_of(mixture[0], {"pc-scores": 21})
