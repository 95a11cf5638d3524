"""Scores of nearest neighbours and of transport: they see single cells, where others see the cloud as a whole."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from ._distances import distances
from ._metric import NEIGHBOURS, Metric, Pair

MANIFOLD_NEIGHBOURS = 5
MIXED_NEIGHBOURS = 30
TRANSPORT_COMPONENTS = 30
# The assignment takes time with the cube of these.
MOST_TRANSPORTED = 1000


class Blocks(NamedTuple):
    """Distances within the real cells, within the synthetic cells, and of each real cell to each synthetic one.

    The first two have infinity on the diagonal: a cell is no neighbour of its own.
    """

    real: np.ndarray
    synthetic: np.ndarray
    across: np.ndarray

    @classmethod
    def of(cls, real: np.ndarray, synthetic: np.ndarray) -> Blocks:
        """From two matrices (cell, component)."""
        within = distances(real, real), distances(synthetic, synthetic)
        for block in within:
            np.fill_diagonal(block, np.inf)
        return cls(*within, distances(real, synthetic))


def _blocks(pair: Pair) -> Blocks:
    return Blocks.of(*pair.pcs)


def nearest_neighbour_accuracy(blocks: Blocks) -> float:
    """Share of all cells whose nearest other cell is of their own side, 0 to 1; a tie counts a half.

    The leave-one-out accuracy of the 1-nearest-neighbour classifier (Lopez-Paz & Oquab 2017). Two samples of one
    distribution score 0.5 where both have equally many cells; cells that stand apart 1; copies of the real cells 0.
    """
    sides = ((blocks.real, blocks.across), (blocks.synthetic, blocks.across.T))
    found = []
    for within, across in sides:
        own, other = within.min(axis=1), across.min(axis=1)
        found.append((own < other) + 0.5 * (own == other))
    return float(np.concatenate(found).mean())


def precision(blocks: Blocks, *, neighbours: int = MANIFOLD_NEIGHBOURS) -> float:
    """Share of synthetic cells that lie within some real cell's distance to its k-th nearest other real cell.

    Kynkaanniemi et al. 2019, eq. 1 and 2, k = `neighbours`, fewer where there are fewer cells.
    """
    return _within(blocks.real, blocks.across, neighbours)


def recall(blocks: Blocks, *, neighbours: int = MANIFOLD_NEIGHBOURS) -> float:
    """Share of real cells that lie within some synthetic cell's distance to its k-th nearest other synthetic cell."""
    return _within(blocks.synthetic, blocks.across.T, neighbours)


def _within(around: np.ndarray, to_others: np.ndarray, neighbours: int) -> float:
    k = min(neighbours, len(around) - 1)
    if k < 1:
        return float("nan")
    radius = np.partition(around, k - 1, axis=1)[:, k - 1]
    return float((to_others <= radius[:, None]).any(axis=0).mean())


def mixing(blocks: Blocks, *, neighbours: int = MIXED_NEIGHBOURS) -> float:
    """Mean over all cells of the inverse Simpson index of sides among the k nearest other cells, 1 to 2.

    The local inverse Simpson's index (LISI) of Korsunsky et al. 2019, every neighbour counting as much: 1 / sum p^2
    with p the share of each side. k = `neighbours`, fewer where there are fewer cells. Two samples of one distribution
    and size score 2 - O(1 / k).
    """
    found = []
    for within, across in ((blocks.real, blocks.across), (blocks.synthetic, blocks.across.T)):
        both = np.concatenate([within, across], axis=1)
        k = min(neighbours, both.shape[1] - 1)
        nearest = np.argpartition(both, k - 1, axis=1)[:, :k]
        own = np.mean(nearest < within.shape[1], axis=1)
        found.append(1 / (own**2 + (1 - own) ** 2))
    return float(np.concatenate(found).mean())


def wasserstein_2(real: np.ndarray, synthetic: np.ndarray, *, seed: int = 0, most: int = MOST_TRANSPORTED) -> float:
    """W2 = sqrt(min over pairings of the mean of |x - y|^2) of two samples (cell, component), in units of the values.

    Exact, by optimal assignment, for equally many cells a side: those of the smaller one, `most` at most, drawn at
    random from a side that has more. It falls as samples grow, by n^(-1 / dimensions) at worst.
    """
    size = min(len(real), len(synthetic), most)
    rng = np.random.default_rng([seed, 11])
    real, synthetic = (side if len(side) == size else side[rng.permutation(len(side))[:size]]
                       for side in (real, synthetic))  # fmt: skip
    squared = np.square(distances(real, synthetic))
    return float(np.sqrt(squared[linear_sum_assignment(squared)].mean()))


def _transport(pair: Pair) -> float:
    return wasserstein_2(*(side[:, :TRANSPORT_COMPONENTS] for side in pair.pcs), seed=pair.seed)


METRICS = (
    Metric(
        name="nearest_neighbour_accuracy",
        title="1-nearest-neighbour accuracy",
        better="0.5",
        table=NEIGHBOURS,
        compute=lambda pair: nearest_neighbour_accuracy(pair.once(_blocks)),
        sees="Whether a cell's nearest cell, by the first 50 principal components, is of its own side: 0.5 is chance, "
        "1 is two clouds apart, and below 0.5 the synthetic cells crowd around single real ones.",
        blind="What is far from any neighbour: a type that is missing costs no more than its share of cells.",
    ),
    Metric(
        name="mixing",
        title="Mixing, 30 neighbours (LISI)",
        better="2",
        table=NEIGHBOURS,
        compute=lambda pair: mixing(pair.once(_blocks)),
        sees="Whether both sides are mixed in the neighbourhood of every cell: 2 is evenly, 1 is each side for itself; "
        "the floor is a little below 2.",
        blind="What goes wrong within a neighbourhood: see the nearest neighbour alone.",
    ),
    Metric(
        name="precision",
        title="Precision (k = 5)",
        better="higher",
        table=NEIGHBOURS,
        compute=lambda pair: precision(pair.once(_blocks)),
        sees="Which share of the synthetic cells lies where real cells lie: within one's distance to its fifth "
        "neighbour.",
        blind="What is missing: a generator of one good cell has 1, and cells that are too average score above the "
        "floor.",
    ),
    Metric(
        name="recall",
        title="Recall (k = 5)",
        better="higher",
        table=NEIGHBOURS,
        compute=lambda pair: recall(pair.once(_blocks)),
        sees="Which share of the real cells lies where synthetic cells lie: types and extremes that are left out.",
        blind="How often each is made, and cells that no real one resembles, which widen what is covered.",
    ),
    Metric(
        name="wasserstein_2_pca",
        title="PCA-30 W2",
        better="lower",
        table=NEIGHBOURS,
        compute=_transport,
        sees="How far cells have to be moved, in log values, to turn one cloud into the other: the whole distribution "
        "in 30 principal components, in units that can be understood.",
        blind="Small differences: most of it is the distance between samples of one distribution. See the floor.",
    ),
)
