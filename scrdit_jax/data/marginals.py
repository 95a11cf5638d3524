"""What each gene does by itself: where a zero-inflated model begins."""

from __future__ import annotations

import numpy as np

from ..io.checking import Matrix, row_blocks
from .statistics import PSEUDO_CELLS, ValueSquares, ValueSums


def gene_marginals(x: Matrix) -> np.ndarray:
    """`marginals_of` all rows of `x` (cell, gene), on the log scale, gone through twice, a block at a time."""
    sums = ValueSums.of_all(x)
    return marginals_of(sums, ValueSquares.of_all(row_blocks(x), sums.centres(0.0)))


def marginals_of(sums: ValueSums, squares: ValueSquares) -> np.ndarray:
    """For each gene its log-odds of being expressed, and mean and log-deviation where it is: (gene, 3) float32.

    Genes seen in few cells are drawn towards all genes' values, as if PSEUDO_CELLS more had been seen; a half is added
    to the counts of the odds.
    """
    expressing = sums.expressing.astype(np.float64)
    log_odds = np.log(expressing + 0.5) - np.log(sums.cells - expressing + 0.5)
    total = expressing.sum()
    if not total:
        return np.stack([log_odds, np.ones_like(log_odds), np.zeros_like(log_odds)], axis=1).astype(np.float32)
    variances = (squares.genes + PSEUDO_CELLS * squares.overall / total) / (expressing + PSEUDO_CELLS)
    log_deviations = 0.5 * np.log(np.maximum(variances, 1e-6))
    return np.stack([log_odds, sums.centres(0.0).genes, log_deviations], axis=1).astype(np.float32)
