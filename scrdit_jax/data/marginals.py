"""What each gene does by itself: where a zero-inflated model begins."""

from __future__ import annotations

import numpy as np
from scipy import sparse

PSEUDO_CELLS = 10.0


def gene_marginals(x: sparse.csr_matrix) -> np.ndarray:
    """For each gene its log-odds of being expressed, and mean and log-deviation where it is: (gene, 3) float32.

    Genes seen in few cells are drawn towards all genes' values, as if PSEUDO_CELLS more had been seen; a half is added
    to the counts of the odds. `x` is (cell, gene) on the log scale.
    """
    columns = sparse.csc_matrix(x, dtype=np.float64, copy=True)
    columns.eliminate_zeros()
    cells, expressing = columns.shape[0], np.diff(columns.indptr)
    log_odds = np.log(expressing + 0.5) - np.log(cells - expressing + 0.5)
    if not columns.nnz:
        return np.stack([log_odds, np.ones_like(log_odds), np.zeros_like(log_odds)], axis=1).astype(np.float32)
    overall_mean, overall_variance = columns.data.mean(), columns.data.var()
    sums = np.asarray(columns.sum(axis=0)).ravel()
    means = (sums + PSEUDO_CELLS * overall_mean) / (expressing + PSEUDO_CELLS)
    genes = np.repeat(np.arange(columns.shape[1]), expressing)
    squares = np.bincount(genes, weights=(columns.data - means[genes]) ** 2, minlength=columns.shape[1])
    variances = (squares + PSEUDO_CELLS * overall_variance) / (expressing + PSEUDO_CELLS)
    log_deviations = 0.5 * np.log(np.maximum(variances, 1e-6))
    return np.stack([log_odds, means, log_deviations], axis=1).astype(np.float32)
