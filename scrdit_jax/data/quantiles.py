"""Bins of each gene's own expressed values, for predictions that choose among them."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from .statistics import PSEUDO_CELLS

# Quantiles are of at most so many training cells, drawn by chance.
MOST_CELLS = 20_000
# On the log scale: edges are at least so far apart. A hundredth of a value's own size is no difference.
LEAST_WIDTH = 0.01


def sampled_cells(training: np.ndarray, seed: int) -> np.ndarray:
    """Those of the `training` cells' numbers whose cells quantiles are taken of."""
    if len(training) <= MOST_CELLS:
        return training
    return np.random.default_rng(seed).choice(training, MOST_CELLS, replace=False)


def gene_quantiles(x: sparse.csr_matrix, bins: int) -> tuple[tuple[float, ...], ...]:
    """Edges of so many bins of each gene of `x` (cell, gene) on the log scale: (gene, bins + 1), increasing.

    Each bin holds as many of the gene's expressed values, and all lie within the outermost edges. Where a gene is seen
    in few cells its quantiles are drawn towards those of all genes, as if PSEUDO_CELLS more had been seen. Where many
    values are equal, the bins about them have the least width and what is beside them holds more than its share.
    """
    columns = sparse.csc_matrix(x)
    columns.eliminate_zeros()
    shares = np.linspace(0, 1, bins + 1)
    overall = np.quantile(columns.data, shares) if columns.nnz else 1 + shares
    parts = (columns.data[first:end] for first, end in zip(columns.indptr[:-1], columns.indptr[1:], strict=True))
    return tuple(tuple(_edges(values.astype(np.float64), shares, overall).tolist()) for values in parts)


def _edges(values: np.ndarray, shares: np.ndarray, overall: np.ndarray) -> np.ndarray:
    if not len(values):
        return _apart(overall)
    own = np.quantile(values, shares)
    edges = (len(values) * own + PSEUDO_CELLS * overall) / (len(values) + PSEUDO_CELLS)
    edges[0], edges[-1] = min(edges[0], own[0]), max(edges[-1], own[-1])
    return _apart(edges)


def _apart(edges: np.ndarray) -> np.ndarray:
    """Increasing edges, moved apart where they are nearer than LEAST_WIDTH, by as much down as up."""
    steps = LEAST_WIDTH * np.arange(len(edges))
    tilted = edges - steps
    up, down = np.maximum.accumulate(tilted), np.minimum.accumulate(tilted[::-1])[::-1]
    return np.round(steps + (up + down) / 2, 6)
