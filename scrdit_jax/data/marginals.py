"""What each gene does by itself: where a zero-inflated model begins."""

from __future__ import annotations

import numpy as np

from ..io.checking import Matrix, stored_values

PSEUDO_CELLS = 10.0


def gene_marginals(x: Matrix) -> np.ndarray:
    """For each gene its log-odds of being expressed, and mean and log-deviation where it is: (gene, 3) float32.

    Genes seen in few cells are drawn towards all genes' values, as if PSEUDO_CELLS more had been seen; a half is added
    to the counts of the odds. `x` is (cell, gene) on the log scale, gone through a block of
    rows at a time.
    """
    cells, genes = x.shape
    expressing, sums = np.zeros(genes), np.zeros(genes)
    for values, columns in stored_values(x):
        expressing += np.bincount(columns, minlength=genes)
        sums += np.bincount(columns, weights=values, minlength=genes)
    log_odds = np.log(expressing + 0.5) - np.log(cells - expressing + 0.5)
    total = expressing.sum()
    if not total:
        return np.stack([log_odds, np.ones_like(log_odds), np.zeros_like(log_odds)], axis=1).astype(np.float32)
    overall_mean, overall_squares = sums.sum() / total, 0.0
    means = (sums + PSEUDO_CELLS * overall_mean) / (expressing + PSEUDO_CELLS)
    squares = np.zeros(genes)
    for values, columns in stored_values(x):
        overall_squares += np.sum((values - overall_mean) ** 2)
        squares += np.bincount(columns, weights=(values - means[columns]) ** 2, minlength=genes)
    variances = (squares + PSEUDO_CELLS * overall_squares / total) / (expressing + PSEUDO_CELLS)
    log_deviations = 0.5 * np.log(np.maximum(variances, 1e-6))
    return np.stack([log_odds, means, log_deviations], axis=1).astype(np.float32)
