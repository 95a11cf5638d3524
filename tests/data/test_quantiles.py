"""Edges of bins of each gene's expressed values."""

import numpy as np
import pytest
from scipy import sparse

from scrdit_jax.config import DataConfig
from scrdit_jax.data import quantiles
from scrdit_jax.data.chosen_genes import fit_chosen_genes
from scrdit_jax.data.quantiles import LEAST_WIDTH, gene_quantiles
from scrdit_jax.data.statistics import GeneStatistics
from scrdit_jax.errors import BadConfig


@pytest.fixture
def cells() -> sparse.csr_matrix:
    """4000 cells x 5 genes: common, rare (3 cells), of one value only, of one value mostly, and not expressed."""
    random = np.random.default_rng(2)
    x = random.gamma(4.0, 0.5, size=(4000, 5)) + 0.1
    x[random.random((4000, 5)) < 0.5] = 0
    x[3:, 1] = 0
    x[:3, 1] = 1.0, 2.0, 9.0
    x[:, 2] = np.where(x[:, 2] > 0, 1.25, 0)
    x[:3000, 3] = np.where(x[:3000, 3] > 0, 1.25, 0)
    x[:, 4] = 0
    return sparse.csr_matrix(x, dtype=np.float32)


def test_bins_hold_as_many_values_each(cells):
    values = cells[:, 0].data
    edges = np.array(gene_quantiles(cells, 8)[0])
    shares = np.histogram(values, edges)[0] / len(values)
    assert abs(shares - 1 / 8).max() < 0.01
    assert shares.sum() == 1


def test_edges_are_apart_and_hold_all_values(cells):
    edges = np.array(gene_quantiles(cells, 8))
    assert edges.shape == (5, 9)
    assert np.diff(edges, axis=1).min() > LEAST_WIDTH - 1e-5
    for gene in range(4):
        assert edges[gene, 0] <= cells[:, gene].data.min() <= cells[:, gene].data.max() <= edges[gene, -1]


def test_a_value_that_is_had_by_most_lies_in_bins_of_the_least_width(cells):
    edges = np.array(gene_quantiles(cells, 8))
    for gene in (2, 3):
        bin_ = np.searchsorted(edges[gene], 1.25) - 1
        assert np.diff(edges[gene])[bin_] < 1.5 * LEAST_WIDTH
    assert np.ptp(edges[2]) < 0.2


def test_genes_that_are_seen_in_few_cells_are_drawn_towards_all(cells):
    edges = np.array(gene_quantiles(cells, 4))
    overall = np.quantile(cells.data, np.linspace(0, 1, 5))
    own = np.quantile([1.0, 2.0, 9.0], np.linspace(0, 1, 5))
    np.testing.assert_allclose(edges[1, 1:4], ((3 * own + 10 * overall) / 13)[1:4], atol=1e-5)
    assert edges[1, -1] == 9
    np.testing.assert_allclose(edges[4], overall, atol=2 * LEAST_WIDTH)


def test_cells_that_express_nothing_have_edges_all_the_same():
    edges = np.array(gene_quantiles(sparse.csr_matrix((3, 2), dtype=np.float32), 4))
    assert np.isfinite(edges).all()
    assert (np.diff(edges, axis=1) > 0).all()


def test_quantiles_are_of_training_cells_alone_and_of_a_sample_where_they_are_many(cells, monkeypatch):
    held_out = np.arange(4000) % 4 == 0

    def fitted(quantiles):
        config = DataConfig(quantiles=quantiles)
        genes = GeneStatistics.of_all(cells[~held_out])
        return fit_chosen_genes(cells, np.ones(4000), held_out, config, genes, counts=False).scaling.quantiles

    assert fitted(4) == gene_quantiles(cells[~held_out], 4)
    assert fitted(DataConfig().quantiles) is None
    whole = np.array(gene_quantiles(cells[~held_out], 4))
    monkeypatch.setattr(quantiles, "MOST_CELLS", 1000)
    sampled = np.array(fitted(4))
    assert sampled.tolist() != whole.tolist()
    assert abs(sampled - whole)[0, 1:4].max() < 0.2


@pytest.mark.parametrize("number", [-1, 65, 2.5, True])
def test_numbers_of_bins_are_checked(number):
    with pytest.raises(BadConfig, match="quantiles is"):
        DataConfig(quantiles=number)
