"""How much synthetic cells vary along the directions in which real cells do, from the widest to the narrowest."""

from __future__ import annotations

import numpy as np

from ...extras import optional
from ._distances import PRINCIPAL_COMPONENTS
from ._matrices import ratio
from ._metric import SPECTRUM, Metric, Pair

# Principal components from 1, first and last.
BLOCKS = ((1, 5), (6, 15), (16, 30), (31, PRINCIPAL_COMPONENTS))


def variance_ratios(real: np.ndarray, synthetic: np.ndarray, *, seed: int = 0) -> tuple[float, ...]:
    """Variance of synthetic over that of real cells, (cell, gene), summed over each of BLOCKS of real components.

    Components of one half of the real cells are held against the variance of the other half, in turn, and the variances
    of both turns added: along components that are fitted to them, cells vary more than any others would. So 1 is best
    without a floor. NaN where there are no such components, the cells of a half or the genes being too few.
    """
    order = np.random.default_rng([seed, 12]).permutation(len(real))
    first, second = order[: len(order) // 2], order[len(order) // 2 :]
    components = min(PRINCIPAL_COMPONENTS, len(first) - 1, real.shape[1])
    if components < 1:
        return (float("nan"),) * len(BLOCKS)
    sums = np.zeros((2, components))
    for fitted, measured in ((first, second), (second, first)):
        pca = optional("sklearn.decomposition").PCA(components, svd_solver="randomized", random_state=seed)
        pca.fit(real[fitted])
        sums += [pca.transform(side).var(axis=0, dtype=np.float64) for side in (real[measured], synthetic)]
    of_real, of_synthetic = sums
    blocks = (slice(first - 1, last) for first, last in BLOCKS)
    return tuple(ratio(of_synthetic[block].sum(), of_real[block].sum()) for block in blocks)


def _of_pair(pair: Pair) -> tuple[float, ...]:
    return variance_ratios(pair.real, pair.synthetic, seed=pair.seed)


def _metric(number: int) -> Metric:
    first, last = BLOCKS[number]
    return Metric(
        name=f"variance_pcs_{first}_{last}",
        title=f"Variance, PCs {first}-{last} (ratio)",
        better="1",
        table=SPECTRUM,
        compute=lambda pair: pair.once(_of_pair)[number],
        sees=f"Whether cells vary as much as real ones along real components {first} to {last}: "
        + ("types and programmes." if first == 1 else "below 1 they are too smooth there, above 1 too noisy."),
        blind="The shape of that variation, and variation that real cells do not have.",
    )


METRICS = tuple(map(_metric, range(len(BLOCKS))))
