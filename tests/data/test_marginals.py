import numpy as np
import pytest
from scipy import sparse

from scrdit_jax.data.marginals import PSEUDO_CELLS, gene_marginals


def test_marginals_are_those_of_a_loop_over_genes():
    random = np.random.default_rng(0)
    x = np.where(random.random((40, 6)) < [0, 0.1, 0.3, 0.6, 0.9, 1], random.gamma(3, size=(40, 6)), 0)
    expressed = x[x > 0]
    for gene, (log_odds, mean, log_deviation) in enumerate(gene_marginals(sparse.csr_matrix(x))):
        values = x[:, gene][x[:, gene] > 0]
        n, k = len(values), PSEUDO_CELLS
        centre = (values.sum() + k * expressed.mean()) / (n + k)
        variance = (((values - centre) ** 2).sum() + k * expressed.var()) / (n + k)
        assert log_odds == pytest.approx(np.log((n + 0.5) / (40 - n + 0.5)), rel=1e-5, abs=1e-6)
        assert (mean, np.exp(2 * log_deviation)) == pytest.approx((centre, variance), rel=1e-5)


def test_stored_zeros_and_genes_or_matrices_without_values_stay_finite():
    stored = sparse.csr_matrix(np.ones((3, 2)))
    stored.data[:] = 0
    for x in (stored, sparse.csr_matrix((3, 2)), sparse.csr_matrix(np.full((3, 2), 2.0))):
        assert np.isfinite(gene_marginals(x)).all()
    assert stored.nnz == 6
