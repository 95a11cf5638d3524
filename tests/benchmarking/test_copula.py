import numpy as np
import pytest
from scipy.stats import kstest, norm, spearmanr

from benchmarks.peers.copula import SHRINKAGE, Copula, TypeCopula, normal_scores


def factor_cells(rows, seed, genes=12, zeros=True):
    """Values of genes that go together in two halves, correlation 0.81; with `zeros`, two thirds of them are zero."""
    rng = np.random.default_rng(seed)
    factor = rng.standard_normal((rows, 2))
    latent = 0.9 * factor[:, np.arange(genes) % 2] + np.sqrt(1 - 0.81) * rng.standard_normal((rows, genes))
    return np.where((latent > 0.4) | (not zeros), np.exp(latent), 0).astype(np.float32)


def test_scores_of_each_gene_are_the_normal_quantiles_in_the_order_of_its_values():
    cells = factor_cells(200, 0)
    scores = normal_scores(cells, np.random.default_rng(1))
    expected = norm.ppf((np.arange(200) + 0.5) / 200)
    expected /= np.sqrt(np.mean(expected**2))
    for gene in range(cells.shape[1]):
        np.testing.assert_allclose(np.sort(scores[:, gene]), expected, atol=1e-5)
        positive = cells[:, gene] > 0
        assert scores[~positive, gene].max() < scores[positive, gene].min()
        assert spearmanr(cells[positive, gene], scores[positive, gene])[0] == pytest.approx(1)


def test_zeros_are_ranked_at_random():
    scores = normal_scores(np.zeros((300, 2), np.float32), np.random.default_rng(0))
    assert abs(np.corrcoef(scores.T)[0, 1]) < 0.2


def test_drawn_cells_have_the_marginals_and_the_correlation():
    cells = factor_cells(1500, 0)
    drawn = TypeCopula.fit(cells, np.random.default_rng(1)).draw(1500, np.random.default_rng(2))
    np.testing.assert_allclose((drawn > 0).mean(axis=0), (cells > 0).mean(axis=0), atol=0.05)
    for gene in range(12):
        assert kstest(drawn[:, gene], cells[:, gene]).statistic < 0.06
        assert np.isin(drawn[:, gene], cells[:, gene]).all()
    made = np.corrcoef(drawn.T)
    assert made[0, 2] > 0.3 > 0.15 > abs(made[0, 1])  # some of what they share, and nothing else


def test_without_ties_the_correlation_is_that_of_the_cells_but_for_the_shrinkage():
    cells = factor_cells(3000, 0, zeros=False)
    drawn = TypeCopula.fit(cells, np.random.default_rng(1)).draw(3000, np.random.default_rng(2))
    # The normal scores of exp(normal) are that normal again.
    expected = (1 - SHRINKAGE) * np.corrcoef(np.log(cells).T)
    np.fill_diagonal(expected, 1)
    np.testing.assert_allclose(np.corrcoef(np.log(drawn).T), expected, atol=0.07)
    assert expected[0, 2] > 0.7


def test_types_keep_their_names_frequencies_and_levels():
    high, low = factor_cells(90, 0) + 100, factor_cells(30, 1)
    types = ["high"] * 90 + ["low"] * 30
    copula = Copula.fit(np.concatenate([high, low]), types, seed=0)
    cells, names = copula.draw(400, seed=0)
    assert copula.names == ("high", "low")
    assert 0.65 < np.mean(names == "high") < 0.85
    assert cells[names == "high"].min() >= 100 > cells[names == "low"].max()
    again = copula.draw(400, seed=0)
    np.testing.assert_array_equal(cells, again[0])
    assert (cells != copula.draw(400, seed=1)[0]).any()


def test_a_type_of_one_cell_is_drawn_as_it_is():
    cell = np.array([[0, 1.5, 2.0]], np.float32)
    np.testing.assert_array_equal(Copula.fit(cell, ["rare"], seed=0).draw(3, seed=0)[0], np.repeat(cell, 3, axis=0))
