"""Clusters of cells: k-means in the first 20 principal components."""

from __future__ import annotations

import warnings

import numpy as np
from scipy.cluster.vq import kmeans2, vq

from ._cells import CELLS_FOR_EACH, PREFIX, CellView, Derived

CLUSTER = f"{PREFIX}cluster"
RESTARTS = 5
ITERATIONS = 50
# A cluster of fewer training cells goes to its neighbours: nothing of it could be learnt.
LEAST_CELLS = 8


def find(cells: CellView, count: int) -> dict[str, np.ndarray]:
    """`count` clusters, the best of five starts, the largest first; one for 24 training cells at most.

    Clusters of under 8 cells are dissolved.
    """
    clusters = min(count, len(cells.training) // CELLS_FOR_EACH)
    if clusters < 2 or not cells.scores.size:
        return {CLUSTER: np.zeros(len(cells.scores), np.int64)}
    known = cells.scores[cells.sample]
    return {CLUSTER: vq(cells.scores, _largest_first(known, _k_means(known, clusters, cells.rng)))[0]}


def _k_means(scores: np.ndarray, clusters: int, rng: np.random.Generator) -> np.ndarray:
    """Centres of the start with the least sum of squared distances; fewer than `clusters` where some are empty."""
    best, least = scores[:1], np.inf
    for _ in range(RESTARTS):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an empty cluster is left out
            centres, codes = kmeans2(scores, clusters, iter=ITERATIONS, minit="++", seed=rng)
        centres = centres[np.unique(codes)]
        error = float(np.square(vq(scores, centres)[1]).sum())
        if error < least:
            best, least = centres, error
    return best


def _largest_first(scores: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Centres without those of too few cells, one after another, and in the order of their cells."""
    while True:
        counts = np.bincount(vq(scores, centres)[0], minlength=len(centres))
        if len(centres) == 1 or np.min(counts) >= LEAST_CELLS:
            return centres[np.argsort(-counts, kind="stable")]
        centres = np.delete(centres, np.argmin(counts), axis=0)


DERIVED = Derived("clusters", find, coarse=True)
