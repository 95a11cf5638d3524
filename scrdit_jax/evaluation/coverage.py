"""How much of the real cells many synthetic ones reach, and how many of those are cells of their own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import ks_2samp

from ..extras import optional
from .memorisation import nearest
from .metrics import Matrix, dense
from .metrics import distances as distances_between

NEIGHBOURS = 5
CELLS_AT_ONCE = 1 << 12


def coverage(
    real: np.ndarray, synthetic: np.ndarray, numbers: Sequence[int], *, neighbours: int = NEIGHBOURS
) -> dict[int, float]:
    """Share of real cells with one of the first N synthetic cells within the distance to their k-th real neighbour.

    For each N of `numbers`, ascending, both (cell, component). Recall by the real cells' own radii (Naeem et al. 2020,
    eq. 8), which do not shrink as N grows, as those of Kynkaanniemi et al. 2019 do: with many cells it ends at 1 unless
    something is never made. k = `neighbours`, fewer where there are fewer cells.
    """
    k = min(neighbours, len(real) - 1)
    within = distances_between(real, real)
    np.fill_diagonal(within, np.inf)
    radius = np.partition(within, k - 1, axis=1)[:, k - 1]
    least, start, found = np.full(len(real), np.inf), 0, {}
    for number in numbers:
        least = np.minimum(least, nearest(real, synthetic[start:number]))
        start, found[int(number)] = number, float((least <= radius).mean())
    return found


def recall_of_many(
    real: np.ndarray, synthetic: np.ndarray, numbers: Sequence[int], *, neighbours: int = NEIGHBOURS
) -> dict[int, float]:
    """Share of real cells that lie within the distance of one of the first N synthetic cells to its k-th synthetic one.

    For each N of `numbers`, both (cell, component). Recall as in Kynkaanniemi et al. 2019; see metrics.neighbours. The
    radii shrink as N grows: cells that are drawn around few places leave what lies between them out.
    """
    neighbors, found = optional("sklearn.neighbors"), {}
    for number in numbers:
        some, k = synthetic[:number], min(neighbours, number - 1)
        radius = neighbors.NearestNeighbors(n_neighbors=k, algorithm="brute").fit(some).kneighbors()[0][:, -1]
        reached = np.zeros(len(real), bool)
        for start in range(0, len(some), CELLS_AT_ONCE):
            rows = slice(start, start + CELLS_AT_ONCE)
            reached |= (distances_between(real, some[rows]) <= radius[rows]).any(axis=1)
        found[int(number)] = float(reached.mean())
    return found


def distinct_cells(cells: Matrix) -> int:
    """How many different cells there are among them, to the bit."""
    starts = range(0, cells.shape[0], CELLS_AT_ONCE)
    blocks = (dense(cells[start : start + CELLS_AT_ONCE]) for start in starts)
    return len({hash(cell.tobytes()) for block in blocks for cell in block})


def nearer_than(cells: np.ndarray, held_out: np.ndarray) -> float:
    """Kolmogorov-Smirnov statistic of two samples of distances to the nearest training cell, with a sign, -1 to 1.

    0 where cells keep the distance that `held_out` cells have; above 0 they lie nearer, below 0 farther.
    """
    found = ks_2samp(cells, held_out, method="asymp")  # its p-value is not asked for
    return float(found.statistic * found.statistic_sign)
