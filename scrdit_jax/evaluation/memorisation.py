"""Whether synthetic cells lie nearer to the training cells than cells that were never trained on do."""

from __future__ import annotations

import numpy as np

ROWS_AT_ONCE = 512


def distances(cells: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Euclidean distance of each cell to every one of `others`, (cells, others) float64; both are (cell, component)."""
    cells, others = cells.astype(np.float64), others.astype(np.float64)
    found = np.empty((len(cells), len(others)))
    squares = np.square(others).sum(axis=1)
    for start in range(0, len(cells), ROWS_AT_ONCE):
        block = cells[start : start + ROWS_AT_ONCE]
        squared = np.square(block).sum(axis=1)[:, None] + squares - 2 * block @ others.T
        found[start : start + ROWS_AT_ONCE] = np.sqrt(np.maximum(squared, 0))
    return found


def training_neighbour_share(
    cells: np.ndarray, training: np.ndarray, held_out: np.ndarray, rng: np.random.Generator
) -> float:
    """Share of `cells` whose nearest real neighbour is a training cell, at equal numbers of training and held-out ones.

    0.5 for new cells of the same distribution, more where training cells are copied. All are (cell, component) in one
    space, fitted on real cells. The training cells are dealt at random into as many groups of the size of `held_out`
    as they fill, and the share is the mean over groups; a cell equally far from both counts a half. With g groups a
    perfect copier scores 0.5 + 0.5 / g, its original being in one of them: see `copied_share` for what sees it better.
    """
    size = min(len(held_out), len(training))
    groups = len(training) // size
    order = rng.permutation(len(training))[: groups * size]
    held = distances(cells, held_out[rng.permutation(len(held_out))[:size]]).min(axis=1)[:, None]
    trained = distances(cells, training[order]).reshape(len(cells), groups, size).min(axis=2)
    return float(np.mean((trained < held) + 0.5 * (trained == held)))


def copied_share(cells: np.ndarray, training: np.ndarray, held_out: np.ndarray, *, share: float = 0.05) -> float:
    """Share of `cells` nearer to some training cell than all but `share` of the held-out cells are.

    `share` is what new cells of the same distribution score; copies score 1. So do cells that are too average, since
    training cells lie closest in the middle: read it beside the other scores.
    """
    threshold = np.quantile(distances(held_out, training).min(axis=1), share)
    return float(np.mean(distances(cells, training).min(axis=1) < threshold))
