"""Distances between two clouds of cells that several metrics are made of."""

from __future__ import annotations

import numpy as np

from ...extras import optional
from ._matrices import Matrix, dense, require_same_genes

PRINCIPAL_COMPONENTS = 50
PAIRS_AT_ONCE = 1 << 15


def distances(cells: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Euclidean distance of each cell to every one of `others`, (cell, other) float64; both are (cell, component)."""
    cells, others = cells.astype(np.float64), others.astype(np.float64)
    squared = np.square(cells).sum(axis=1)[:, None] + np.square(others).sum(axis=1) - 2 * cells @ others.T
    return np.sqrt(np.maximum(squared, 0, out=squared))


def gaussian_mmd(real: np.ndarray, synthetic: np.ndarray) -> float:
    """Squared maximum mean discrepancy under a sum of five Gaussian kernels: mean(XX) + mean(YY) - 2 mean(XY).

    k(x, y) = sum_b exp(-|x - y|^2 / b), b in {1/4, 1/2, 1, 2, 4} times sum |x - y|^2 / (n^2 - n) over the n rows of
    both sides together (Gretton et al. 2012; the multi-kernel form of Long et al. 2015). The means keep the diagonals
    (a biased V-statistic), so it is never negative, and two samples of one distribution score above 0 by an amount
    that falls as 1 / rows. No square root is taken. All rows equal: 0. Time grows with n^2, memory does not. With
    unequal numbers of rows every row is used: each mean is over its own pairs, and the larger side weighs more in the
    bandwidth.
    """
    require_same_genes(real, synthetic)
    both = np.concatenate([real, synthetic]).astype(np.float64)
    both -= both.mean(axis=0)
    # sum_ij |x_i - x_j|^2 = 2 n sum_i |x_i|^2 for centred rows, so no pass over the pairs is needed.
    bandwidth = 2 * np.square(both).sum() / (len(both) - 1)
    if bandwidth <= 0:
        return 0.0
    both /= np.sqrt(4 * bandwidth)
    x, y = both[: len(real)], both[len(real) :]
    return max(_kernel_mean(x, x) + _kernel_mean(y, y) - 2 * _kernel_mean(x, y), 0.0)


def _kernel_mean(x: np.ndarray, y: np.ndarray) -> float:
    """Mean over pairs of k + k^2 + k^4 + k^8 + k^16, k = exp(-|x - y|^2): each squares the one before."""
    # -|x - y|^2 as one matrix product, in float32, a few rows at a time so that the passes stay in cache.
    left = np.column_stack([2 * x, np.square(x).sum(axis=1), np.ones(len(x))]).astype(np.float32)
    right = np.column_stack([y, -np.ones(len(y)), -np.square(y).sum(axis=1)]).astype(np.float32).T
    rows = max(1, PAIRS_AT_ONCE // len(y))
    total = 0.0
    for start in range(0, len(x), rows):
        kernel = left[start : start + rows] @ right
        np.exp(np.minimum(kernel, 0, out=kernel), out=kernel)
        kernels = kernel.copy()
        for _ in range(4):
            np.square(kernel, out=kernel)
            kernels += kernel
        total += float(kernels.sum(dtype=np.float64))
    return total / (len(x) * len(y))


def joint_pcs(
    real: Matrix, synthetic: Matrix, *, components: int = PRINCIPAL_COMPONENTS, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Principal components of both sides together, as (cells, components) of either; genes are centred, not scaled.

    Fewer components where cells or genes are fewer. Randomised SVD under `seed`. Needs scikit-learn.
    """
    both = np.concatenate([dense(real), dense(synthetic)])
    components = min(components, both.shape[0] - 1, both.shape[1])
    pca = optional("sklearn.decomposition").PCA(components, svd_solver="randomized", random_state=seed)
    pcs = pca.fit_transform(both)
    return pcs[: real.shape[0]], pcs[real.shape[0] :]
