import anndata
import numpy as np
import pytest
from scipy import sparse

from scrdit_jax.config import DataConfig
from scrdit_jax.data.genes import choose_genes, coefficient_of_variation, highly_variable
from scrdit_jax.data.statistics import GeneStatistics
from scrdit_jax.errors import BadInput
from scrdit_jax.io import checking

FORMS = [np.asarray, sparse.csr_matrix]
statistics = GeneStatistics.of_all


@pytest.fixture
def logs() -> np.ndarray:
    """80 cells x 300 genes on the log scale, with genes never and always expressed."""
    random = np.random.default_rng(3)
    shape = random.gamma(0.5, 2.0, size=300)
    matrix = np.log1p(random.poisson(random.gamma(shape + 0.05, 1.0, size=(80, 300)))).astype(np.float32)
    matrix[:, 7] = 0
    matrix[:, 8] = 1.7
    return matrix


@pytest.mark.parametrize("form", FORMS)
def test_coefficient_of_variation(logs, form, monkeypatch):
    monkeypatch.setattr(checking, "ROWS_PER_BLOCK", 32)
    expected = np.zeros(300)
    for j in range(300):
        values = [float(v) for v in logs[:, j]]
        mean = sum(values) / len(values)
        if mean > 0:
            expected[j] = np.sqrt(sum((v - mean) ** 2 for v in values) / len(values)) / mean
    result = coefficient_of_variation(statistics(form(logs)).logs)
    assert result.dtype == np.float64
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-14)
    assert result[7] == 0


def test_highly_variable_is_scanpys(logs, monkeypatch):
    scanpy = pytest.importorskip("scanpy")
    monkeypatch.setattr(checking, "ROWS_PER_BLOCK", 32)
    logs = np.delete(logs, 8, axis=1)  # scanpy's variance of a constant gene is not zero but rounding noise
    adata = anndata.AnnData(logs)
    scanpy.pp.highly_variable_genes(adata, flavor="seurat", n_top_genes=100)
    theirs = np.flatnonzero(adata.var["highly_variable"])  # all that tie for the last place
    for form in FORMS:
        score = highly_variable(statistics(form(logs)).linear)
        np.testing.assert_allclose(score, adata.var["dispersions_norm"], rtol=1e-5, atol=1e-6)
        chosen, _ = choose_genes(statistics(form(logs)), DataConfig(genes=100, min_cells=0), multiple_of=1)
        assert set(chosen) <= set(theirs)
        np.testing.assert_allclose(score[np.setdiff1d(theirs, chosen)], score[chosen].min())


def test_highly_variable_of_a_gene_alone_in_its_interval_and_of_large_values():
    random = np.random.default_rng(0)
    matrix = np.log1p(random.poisson(1.0, size=(50, 9))).astype(np.float32)
    matrix = np.column_stack([matrix, np.log1p(random.poisson(5000.0, size=50))]).astype(np.float32)
    assert highly_variable(statistics(matrix).linear)[9] == pytest.approx(1.0)
    large = random.poisson(300.0, size=(50, 9)).astype(np.float32)
    assert np.isfinite(highly_variable(statistics(large).logs)).any()
    chosen, _ = choose_genes(statistics(large), DataConfig(genes=3, min_cells=0), multiple_of=1)
    best = np.argsort(-highly_variable(statistics(large).logs), kind="stable")[:3]
    np.testing.assert_array_equal(chosen, np.sort(best))


@pytest.mark.parametrize("form", FORMS)
def test_expressing_cells(logs, form):
    np.testing.assert_array_equal(statistics(form(logs)).expressing, [np.count_nonzero(logs[:, j]) for j in range(300)])


@pytest.mark.parametrize("selection", ["hvg", "cv"])
@pytest.mark.parametrize("form", FORMS)
def test_chosen_genes_are_the_best_ranked_in_input_order(logs, selection, form):
    config = DataConfig(genes=53, gene_selection=selection, min_cells=20)
    chosen, sentences = choose_genes(statistics(form(logs)), config, multiple_of=10)
    passing = np.flatnonzero((logs > 0).sum(0) >= 20)
    found = statistics(logs[:, passing])
    score = highly_variable(found.linear) if selection == "hvg" else coefficient_of_variation(found.logs)
    best = sorted(range(len(passing)), key=lambda k: -score[k] if np.isfinite(score[k]) else np.inf)[:50]
    np.testing.assert_array_equal(chosen, sorted(passing[best]))
    assert f"50 genes kept: the {'most' if selection == 'hvg' else 'genes with'}" in sentences[0]
    assert sentences[1] == "3 lowest-ranked of 53 genes dropped, so that 10 divides"


def test_all_genes_drop_those_of_fewest_cells(logs):
    config = DataConfig(genes=7, gene_selection="all", min_cells=5)
    expressing = (logs > 0).sum(0)
    passing = np.flatnonzero(expressing >= 5)
    everyone, sentences = choose_genes(statistics(logs), config, multiple_of=1)
    np.testing.assert_array_equal(everyone, passing)
    assert len(sentences) == 1
    multiple = 9 if len(passing) % 9 else 10
    some, _ = choose_genes(statistics(logs), config, multiple_of=multiple)
    assert len(some) == len(passing) // multiple * multiple
    assert expressing[np.setdiff1d(passing, some)].max() <= expressing[some].min()


@pytest.mark.parametrize("form", FORMS)
def test_detected_genes_are_those_with_fewest_zeros(logs, form):
    config = DataConfig(genes=43, gene_selection="detected", min_cells=5)
    chosen, sentences = choose_genes(statistics(form(logs)), config, multiple_of=10)
    zeros = (logs == 0).sum(0)
    assert 8 in chosen  # which is expressed in every cell and does not vary
    assert len(chosen) == 40
    assert zeros[chosen].max() <= np.delete(zeros, chosen).min()
    np.testing.assert_array_equal(chosen, np.sort(np.argsort(zeros, kind="stable")[:40]))
    assert sentences[0].startswith("40 genes kept: the genes expressed in most training cells of the ")


def test_too_few_genes(logs):
    passing = int(((logs > 0).sum(0) >= 20).sum())
    config = DataConfig(genes=299, min_cells=20)
    message = f"lung: {passing} of its 300 genes are expressed in at least 20 training cells, but 299 were asked for"
    with pytest.raises(BadInput, match=message) as caught:
        choose_genes(statistics(logs), config, multiple_of=10, source="lung")
    assert f"use --genes {passing // 10 * 10} or a lower --min-cells" in str(caught.value)
    with pytest.raises(BadInput, match="use a network with fewer than 290 genes a token or a lower --min-cells"):
        choose_genes(statistics(logs), config, multiple_of=290)
    with pytest.raises(
        BadInput, match="lung: 5 genes are fewer than the 10 that the network takes at once; use --genes 10 or more"
    ):
        choose_genes(statistics(logs), DataConfig(genes=5, min_cells=1), multiple_of=10, source="lung")
    with pytest.raises(BadInput, match="0 of its 300 genes"):
        choose_genes(statistics(logs), DataConfig(gene_selection="all", min_cells=81), multiple_of=10)
