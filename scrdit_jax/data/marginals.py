"""What each gene does by itself: where a zero-inflated model begins."""

from __future__ import annotations

import numpy as np

from ..io.checking import Matrix
from .statistics import PSEUDO_CELLS, GeneStatistics


def gene_marginals(x: Matrix) -> np.ndarray:
    """`marginals_of` all rows of `x` (cell, gene), on the log scale, gone through once, a block at a time."""
    return marginals_of(GeneStatistics.of_all(x, linear=False))


def marginals_of(genes: GeneStatistics) -> np.ndarray:
    """For each gene its log-odds of being expressed, and mean and log-deviation where it is: (gene, 3) float32.

    Genes seen in few cells are drawn towards all genes' values, as if PSEUDO_CELLS more had been seen; a half is added
    to the counts of the odds.
    """
    expressing, values = genes.expressing.astype(np.float64), genes.values
    log_odds = np.log(expressing + 0.5) - np.log(genes.cells - expressing + 0.5)
    total = expressing.sum()
    if not total:
        return np.stack([log_odds, np.ones_like(log_odds), np.zeros_like(log_odds)], axis=1).astype(np.float32)
    overall = values.sums.sum() / total
    centres = (values.sums + PSEUDO_CELLS * overall) / (expressing + PSEUDO_CELLS)
    spread = values.about(overall).sum() / total
    variances = (values.about(centres) + PSEUDO_CELLS * spread) / (expressing + PSEUDO_CELLS)
    log_deviations = 0.5 * np.log(np.maximum(variances, 1e-6))
    return np.stack([log_odds, centres, log_deviations], axis=1).astype(np.float32)
