"""How far two sets of cells lie apart: pure functions of two (cells, genes) matrices of log values.

Real cells come first. Matrices are dense or scipy-sparse; both have the same genes in the same order, and any number of
cells, which need not be the same: each function says what it then does. The first three
are the scRDiT paper's, as its published evaluation computes them, kept for comparison with its tables; they are weak
(a constant cell has a good KL, genes can be swapped under the Wasserstein distance, correlations hardly move the block
MMD). The others see what those miss. None has an absolute scale: read each beside real cells against real cells.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.special import log_softmax
from scipy.stats import wasserstein_distance

from ..errors import GeneMismatch
from ..extras import optional

Matrix = np.ndarray | sparse.sparray | sparse.spmatrix

GENES_PER_BLOCK = 20
FOREST_TREES = 200
FOLDS = 5
PAIRS_AT_ONCE = 1 << 15


def dense(cells: Matrix) -> np.ndarray:
    """The same matrix as float32 ndarray (float64 stays float64); no copy where it is one already."""
    array = cells.toarray() if sparse.issparse(cells) else np.asarray(cells)
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


# The paper's three (scRDiT, section 3.1).


def kl_divergence(real: Matrix, synthetic: Matrix) -> float:
    """Mean over rows i of sum_g p_ig log(p_ig / q_ig), p and q the softmax over genes of row i of either side, in nats.

    Rows are paired by position, although nothing pairs them: with unequal sizes the first min(n) rows of each count.
    """
    _require_same_genes(real, synthetic)
    rows = min(real.shape[0], synthetic.shape[0])
    log_p = log_softmax(dense(real[:rows]).astype(np.float64), axis=1)
    log_q = log_softmax(dense(synthetic[:rows]).astype(np.float64), axis=1)
    return float(np.sum(np.exp(log_p) * (log_p - log_q), axis=1).mean())


def wasserstein_flat(real: Matrix, synthetic: Matrix) -> float:
    """1-D Wasserstein-1 distance between all entries of one side and all of the other, in units of the values.

    Exact, for unequal numbers of cells too: every entry of a side has the same weight, and those of a side sum to one.
    Zeros enter once, with their number as weight, so the cost is that of sorting the other entries.
    """
    _require_same_genes(real, synthetic)
    real_values, real_weights = _weighted_values(real)
    synthetic_values, synthetic_weights = _weighted_values(synthetic)
    return float(wasserstein_distance(real_values, synthetic_values, real_weights, synthetic_weights))


def _require_same_genes(real: Matrix, synthetic: Matrix) -> None:
    if real.shape[1] != synthetic.shape[1]:
        raise GeneMismatch(
            f"real cells have {real.shape[1]} columns, synthetic ones {synthetic.shape[1]}; give both the same "
            "genes in the same order"
        )


def _weighted_values(cells: Matrix) -> tuple[np.ndarray, np.ndarray]:
    stored = cells.data if sparse.issparse(cells) else np.asarray(cells)
    nonzero = stored[stored != 0]
    entries = cells.shape[0] * cells.shape[1]
    return np.append(nonzero, 0.0), np.append(np.ones(nonzero.size), float(entries - nonzero.size))


def gaussian_mmd(real: np.ndarray, synthetic: np.ndarray) -> float:
    """Squared maximum mean discrepancy under a sum of five Gaussian kernels: mean(XX) + mean(YY) - 2 mean(XY).

    k(x, y) = sum_b exp(-|x - y|^2 / b), b in {1/4, 1/2, 1, 2, 4} times sum |x - y|^2 / (n^2 - n) over the n rows of
    both sides together (Gretton et al. 2012; the multi-kernel form of Long et al. 2015). The means keep the diagonals
    (a biased V-statistic), so it is never negative, and two samples of one distribution score above 0 by an amount
    that falls as 1 / rows. No square root is taken. All rows equal: 0. Time grows with n^2, memory does not. With
    unequal numbers of rows every row is used: each mean is over its own pairs, and the larger side weighs more in the
    bandwidth.
    """
    _require_same_genes(real, synthetic)
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


def mmd_blocks(real: Matrix, synthetic: Matrix, *, genes_per_block: int = GENES_PER_BLOCK) -> float:
    """Mean of `gaussian_mmd` over blocks of 20 consecutive genes (100 blocks at the paper's 2000 genes).

    Where 20 does not divide the number of genes the last block is shorter, and counts as much as the others. A block
    without any variation counts 0. Unequal numbers of cells: see `gaussian_mmd`.
    """
    _require_same_genes(real, synthetic)
    real, synthetic = dense(real), dense(synthetic)
    starts = range(0, real.shape[1], genes_per_block)
    blocks = (slice(start, start + genes_per_block) for start in starts)
    return float(np.mean([gaussian_mmd(real[:, block], synthetic[:, block]) for block in blocks]))


# Those that see cells as wholes.


def joint_pcs(real: Matrix, synthetic: Matrix, *, components: int = 50, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Principal components of both sides together, as (cells, components) of either; genes are centred, not scaled.

    Fewer components where cells or genes are fewer. Randomised SVD under `seed`. Needs scikit-learn.
    """
    both = np.concatenate([dense(real), dense(synthetic)])
    components = min(components, both.shape[0] - 1, both.shape[1])
    pca = optional("sklearn.decomposition").PCA(components, svd_solver="randomized", random_state=seed)
    pcs = pca.fit_transform(both)
    return pcs[: real.shape[0]], pcs[real.shape[0] :]


def mmd_pca(real: Matrix, synthetic: Matrix, *, components: int = 50, seed: int = 0) -> float:
    """`gaussian_mmd` between the cells' first principal components, fitted on both sides together."""
    return gaussian_mmd(*joint_pcs(real, synthetic, components=components, seed=seed))


def random_forest_auc(real_pcs: np.ndarray, synthetic_pcs: np.ndarray, *, seed: int = 0) -> float:
    """ROC AUC with which a random forest tells synthetic cells (1) from real ones (0) it was not fitted on.

    200 trees, five stratified shuffled folds; one AUC of all out-of-fold probabilities. 0.5 is chance, and samples of
    one distribution scatter around it to both sides. Needs scikit-learn and five rows a side.
    """
    pcs = np.concatenate([real_pcs, synthetic_pcs])
    labels = np.repeat([0, 1], [len(real_pcs), len(synthetic_pcs)])
    selection = optional("sklearn.model_selection")
    # One thread: trees this small spend more on threads taking turns than on growing.
    forest = optional("sklearn.ensemble").RandomForestClassifier(FOREST_TREES, random_state=seed)
    folds = selection.StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    scores = selection.cross_val_predict(forest, pcs, labels, cv=folds, method="predict_proba")[:, 1]
    return float(optional("sklearn.metrics").roc_auc_score(labels, scores))


def gene_correlation_error(real: Matrix, synthetic: Matrix, *, genes: int = 500) -> float:
    """Mean absolute difference between the two gene-gene Pearson correlation matrices, off the diagonal.

    Over the `genes` most variable genes of the real side (memory is genes^2). A gene that is constant on the synthetic
    side correlates 0 there, so a generator does not gain by leaving genes out. Under two varying genes: 0.
    """
    real, synthetic = dense(real), dense(synthetic)
    variance = real.var(axis=0, dtype=np.float64)
    chosen = np.argsort(-variance, kind="stable")[:genes]
    chosen = chosen[variance[chosen] > 0]
    if len(chosen) < 2:
        return 0.0
    difference = np.abs(_correlations(real[:, chosen]) - _correlations(synthetic[:, chosen]))
    np.fill_diagonal(difference, 0)
    return float(difference.sum() / (len(chosen) * (len(chosen) - 1)))


def _correlations(cells: np.ndarray) -> np.ndarray:
    centred = cells - cells.mean(axis=0, dtype=np.float64)
    scale = np.sqrt(np.einsum("ij,ij->j", centred, centred))
    # A constant gene's centred values are rounding, not zero.
    constant = cells.max(axis=0) == cells.min(axis=0)
    centred /= np.where(constant | (scale == 0), np.inf, scale)
    return centred.T @ centred


def zero_fraction_per_gene(cells: Matrix) -> np.ndarray:
    """Share of cells in which each gene is zero: (genes,), 0 to 1."""
    nonzero = cells.count_nonzero(axis=0) if sparse.issparse(cells) else np.count_nonzero(cells, axis=0)
    return 1 - np.asarray(nonzero, np.float64) / cells.shape[0]


def zero_fraction_error(real: Matrix, synthetic: Matrix) -> float:
    """Mean over genes of the absolute difference of zero fractions."""
    return float(np.abs(zero_fraction_per_gene(synthetic) - zero_fraction_per_gene(real)).mean())


def zero_fraction_difference(real: Matrix, synthetic: Matrix) -> float:
    """Overall zero fraction, synthetic minus real: above 0 the synthetic cells are too empty."""
    return float(zero_fraction_per_gene(synthetic).mean() - zero_fraction_per_gene(real).mean())


def library_sizes(cells: Matrix) -> np.ndarray:
    """Sum of each cell's log values: (cells,). Stands for library size on a scale where counts are gone."""
    return np.asarray(cells.sum(axis=1, dtype=np.float64)).ravel()


def detected_genes(cells: Matrix) -> np.ndarray:
    """Number of genes above zero in each cell: (cells,), int."""
    return np.asarray((cells > 0).sum(axis=1)).ravel().astype(np.int64)


def library_size_spread(real: Matrix, synthetic: Matrix) -> float:
    """Standard deviation of `library_sizes`, synthetic over real; below 1 the synthetic cells are too alike."""
    return _ratio(library_sizes(synthetic).std(), library_sizes(real).std())


def detected_genes_spread(real: Matrix, synthetic: Matrix) -> float:
    """Standard deviation of `detected_genes`, synthetic over real."""
    return _ratio(detected_genes(synthetic).std(), detected_genes(real).std())


def detected_genes_ratio(real: Matrix, synthetic: Matrix) -> float:
    """Mean of `detected_genes`, synthetic over real."""
    return _ratio(detected_genes(synthetic).mean(), detected_genes(real).mean())


def _ratio(above: float, below: float) -> float:
    return float(above / below) if below > 0 else float("nan")


def gene_means(cells: Matrix) -> np.ndarray:
    """Mean log value of each gene: (genes,)."""
    return np.asarray(cells.mean(axis=0, dtype=np.float64)).ravel()


def gene_mean_correlation(real: Matrix, synthetic: Matrix) -> float:
    """Pearson correlation between the two sides' gene means; 0 where one side's means are all equal."""
    return pearson(gene_means(real), gene_means(synthetic))


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson correlation of two vectors; 0 where one of them is constant."""
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])


def coefficient_of_variation(cells: Matrix) -> np.ndarray:
    """Standard deviation over mean of each gene (scRDiT eq. 1): (genes,); NaN where the mean is not above zero.

    A gene seen in one cell of n has sqrt(n - 1): compare only samples of one size.
    """
    mean = gene_means(cells)
    squares = cells.multiply(cells) if sparse.issparse(cells) else np.square(cells, dtype=np.float64)
    variance = np.asarray(squares.mean(axis=0, dtype=np.float64)).ravel() - mean**2
    return np.sqrt(np.maximum(variance, 0)) / np.where(mean > 0, mean, np.nan)
