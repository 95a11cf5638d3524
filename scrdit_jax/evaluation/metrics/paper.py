"""The scRDiT paper's three metrics (section 3.1), as its published evaluation computes them.

Kept for comparison with its tables; they are weak: a constant cell has a good KL divergence, genes can be swapped under
the Wasserstein distance, and correlations hardly move the block MMD.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.special import log_softmax
from scipy.stats import wasserstein_distance

from ._distances import gaussian_mmd
from ._matrices import Matrix, dense, require_same_genes
from ._metric import PAPER, Metric, of_values

GENES_PER_BLOCK = 20


def kl_divergence(real: Matrix, synthetic: Matrix) -> float:
    """Mean over rows i of sum_g p_ig log(p_ig / q_ig), p and q the softmax over genes of row i of either side, in nats.

    Rows are paired by position, although nothing pairs them: with unequal sizes the first min(n) rows of each count.
    """
    require_same_genes(real, synthetic)
    rows = min(real.shape[0], synthetic.shape[0])
    log_p = log_softmax(dense(real[:rows]).astype(np.float64), axis=1)
    log_q = log_softmax(dense(synthetic[:rows]).astype(np.float64), axis=1)
    return float(np.sum(np.exp(log_p) * (log_p - log_q), axis=1).mean())


def wasserstein_flat(real: Matrix, synthetic: Matrix) -> float:
    """1-D Wasserstein-1 distance between all entries of one side and all of the other, in units of the values.

    Exact, for unequal numbers of cells too: every entry of a side has the same weight, and those of a side sum to one.
    Zeros enter once, with their number as weight, so the cost is that of sorting the other entries.
    """
    require_same_genes(real, synthetic)
    real_values, real_weights = _weighted_values(real)
    synthetic_values, synthetic_weights = _weighted_values(synthetic)
    return float(wasserstein_distance(real_values, synthetic_values, real_weights, synthetic_weights))


def _weighted_values(cells: Matrix) -> tuple[np.ndarray, np.ndarray]:
    stored = cells.data if sparse.issparse(cells) else np.asarray(cells)
    nonzero = stored[stored != 0]
    entries = cells.shape[0] * cells.shape[1]
    return np.append(nonzero, 0.0), np.append(np.ones(nonzero.size), float(entries - nonzero.size))


def mmd_blocks(real: Matrix, synthetic: Matrix, *, genes_per_block: int = GENES_PER_BLOCK) -> float:
    """Mean of `gaussian_mmd` over blocks of 20 consecutive genes (100 blocks at the paper's 2000 genes).

    Where 20 does not divide the number of genes the last block is shorter, and counts as much as the others. A block
    without any variation counts 0. Unequal numbers of cells: see `gaussian_mmd`.
    """
    require_same_genes(real, synthetic)
    real, synthetic = dense(real), dense(synthetic)
    starts = range(0, real.shape[1], genes_per_block)
    blocks = (slice(start, start + genes_per_block) for start in starts)
    return float(np.mean([gaussian_mmd(real[:, block], synthetic[:, block]) for block in blocks]))


METRICS = (
    Metric(
        name="kl_divergence",
        title="KL divergence",
        better="lower",
        table=PAPER,
        compute=of_values(kl_divergence),
        sees="How alike the profiles of cells paired by their row number are, each turned into a distribution over "
        "genes by a softmax.",
        blind="Weak: nothing pairs row i with row i, so a constant mean cell beats real cells at it.",
    ),
    Metric(
        name="wasserstein_flat",
        title="Wasserstein distance",
        better="lower",
        table=PAPER,
        compute=of_values(wasserstein_flat),
        sees="Whether the values of the whole matrix, thrown together, have the right distribution.",
        blind="Weak: it does not know which gene or which cell a value belongs to.",
    ),
    Metric(
        name="mmd_blocks",
        title="Block MMD (20 genes a block)",
        better="lower",
        table=PAPER,
        compute=of_values(mmd_blocks),
        sees="Whether each run of 20 neighbouring genes has the right joint distribution, averaged over the runs.",
        blind="Weak: it hardly sees how genes go together; shuffling every gene moves it little from the floor.",
    ),
)
