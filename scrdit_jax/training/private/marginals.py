"""Where a zero-inflated model begins, from sums over the cells that noise is added to."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from ...io.checking import Matrix, row_blocks
from .units import Units

# A unit's share is clipped to the norm of a cell that expresses so much of the genes and says little else.
EXPRESSED = 0.16
# What the sums of values and of their squares weigh beside one gene, so that they are a small part of the norm.
VALUE_WEIGHTS = (0.5, 0.25)
LEAST_SHARE, MOST_SHARE = 0.1, 0.99


def private_marginals(x: Matrix, units: Units, multiplier: float) -> np.ndarray:
    """`data.marginals.marginals_of` the rows of `x` (cell, gene), with differential privacy: for each gene its log-odds
    of being expressed, and the mean and the log-deviation of all expressed values; (gene, 3) float32.

    One release of the Gaussian mechanism: the sum over units of which share of its cells expresses each gene, and of
    the sums of their values and squares, each unit's clipped to a norm that does not depend on the cells. The genes'
    shares are then drawn towards their mean by as much as the noise asks for.
    """
    genes, count = x.shape[1], len(units)
    clip = np.sqrt(EXPRESSED * genes)
    owners = np.empty(len(units.order), np.int64)
    owners[units.order] = np.repeat(np.arange(count), np.diff(units.starts))
    weights = 1 / np.diff(units.starts)[owners]
    total = np.zeros(genes + 2)
    whole = np.zeros((0 if units.are_cells else count, genes + 2))
    first = 0
    for block in row_blocks(x):
        mine = slice(first, first + block.shape[0])
        shares = sparse.diags_array(weights[mine]) @ _shares(sparse.csr_matrix(block))
        if units.are_cells:
            total += _clipped_sum(shares, clip)
        else:
            np.add.at(whole, owners[mine], shares.toarray())
        first = mine.stop
    if not units.are_cells:
        total = _clipped_sum(sparse.csr_matrix(whole), clip)
    noise = np.random.Generator(np.random.Philox(key=units.key, counter=[0, 0, 0, 2]))
    total += multiplier * clip * noise.standard_normal(genes + 2)
    return _marginals(total, count, (multiplier * clip / count) ** 2)


def _shares(block: sparse.csr_matrix) -> sparse.csr_matrix:
    """(cell, gene + 2): whether each gene is expressed, and the weighted sums of values and squares."""
    expressed, root = block.copy(), np.sqrt(block.shape[1])
    expressed.data = (block.data > 0).astype(np.float64)
    sums = np.stack([block.sum(axis=1).A1, block.multiply(block).sum(axis=1).A1], axis=1)
    return sparse.hstack([expressed, sparse.csr_matrix(sums * np.array(VALUE_WEIGHTS) / root)], format="csr")


def _clipped_sum(shares: sparse.csr_matrix, clip: float) -> np.ndarray:
    norms = np.sqrt(np.asarray(shares.multiply(shares).sum(axis=1)).ravel())
    return np.asarray(shares.T @ np.minimum(1, clip / np.maximum(norms, 1e-30))).ravel()


def _marginals(total: np.ndarray, units: int, variance: float) -> np.ndarray:
    """Of the noisy sums, whose noise has so much `variance` in a gene's share."""
    shares, genes = total[:-2] / units, len(total) - 2
    mean = np.clip(shares.mean(), 1e-3, MOST_SHARE)
    between = np.var(shares)
    kept = max(between - variance, 0) / between if between else 0.0
    shares = np.clip(mean + kept * (shares - mean), LEAST_SHARE * mean, MOST_SHARE)
    sums = total[-2:] * np.sqrt(genes) / np.array(VALUE_WEIGHTS) / (units * genes * mean)
    center = max(sums[0], 1e-2)
    deviation = np.sqrt(max(sums[1] - center**2, 1e-2))
    columns = (np.log(shares / (1 - shares)), np.full(genes, center), np.full(genes, np.log(deviation)))
    return np.stack(columns, axis=1).astype(np.float32)
