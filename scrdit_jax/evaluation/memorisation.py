"""Whether synthetic cells lie nearer to the training cells than cells that were never trained on do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..extras import optional
from ..io.backed import BackedMatrix
from .comparison import REAL, SYNTHETIC, Estimate, halves
from .metrics import PRINCIPAL_COMPONENTS, Matrix, dense, distances

# At once: rows that distances are taken of, those they are taken to, and cells that are made dense.
ROWS_AT_ONCE, OTHERS_AT_ONCE, CELLS_AT_ONCE = 512, 1 << 14, 1 << 12
MOST_FITTED = 5000
MOST_GROUPS = 20
# What new cells of the same distribution score as `copied_share`.
SHARE = 0.05
COPIED, NEAREST, NEAR_HELD_OUT = "copied_share", "nearest_is_training", "near_held_out"


@dataclass(frozen=True, eq=False)
class TrainingComponents:
    """Principal components of the training cells alone: fitted with held-out cells too, they would favour copies."""

    pca: Any

    @classmethod
    def fit(
        cls, training: Matrix | BackedMatrix, *, components: int = PRINCIPAL_COMPONENTS, seed: int = 0
    ) -> TrainingComponents:
        """From up to 5,000 training cells (cell, gene), drawn at random; genes are centred, not scaled."""
        rows = np.sort(np.random.default_rng(seed).permutation(training.shape[0])[:MOST_FITTED])
        cells = dense(taken(training, rows))
        components = min(components, cells.shape[0] - 1, cells.shape[1])
        pca = optional("sklearn.decomposition").PCA(components, svd_solver="randomized", random_state=seed)
        return cls(pca.fit(cells))

    def project(self, cells: Matrix | BackedMatrix) -> np.ndarray:
        """Components (cell, component) of any cells with the same genes; those on the disk are read in blocks."""
        starts = range(0, cells.shape[0], CELLS_AT_ONCE)
        return np.concatenate([self.pca.transform(dense(cells[start : start + CELLS_AT_ONCE])) for start in starts])


def taken(cells: Matrix | BackedMatrix, rows: np.ndarray) -> Matrix:
    """Those rows of `cells`, by their numbers, which ascend, in memory."""
    return cells.take(rows) if isinstance(cells, BackedMatrix) else cells[rows]


def nearest(cells: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Distance of each cell to the nearest of `others`, (cell,); memory does not grow with either."""
    return nearest_rows(cells, others)[0]


def nearest_rows(cells: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the distance of each cell to the nearest of `others`, the row number of that one), both (cell,)."""
    found, where = np.full(len(cells), np.inf), np.zeros(len(cells), np.intp)
    for start in range(0, len(cells), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        for first in range(0, len(others), OTHERS_AT_ONCE):
            block = distances(cells[rows], others[first : first + OTHERS_AT_ONCE])
            least = block.argmin(axis=1)
            distance = block[np.arange(len(block)), least]
            nearer = distance < found[rows]
            where[rows] = np.where(nearer, first + least, where[rows])
            found[rows] = np.where(nearer, distance, found[rows])
    return found, where


def training_neighbour_share(
    cells: np.ndarray, training: np.ndarray, held_out: np.ndarray, rng: np.random.Generator
) -> float:
    """Share of `cells` whose nearest real neighbour is a training cell, at equal numbers of training and held-out ones.

    0.5 for new cells of the same distribution, more where training cells are copied; less in `TrainingComponents`,
    which set training cells apart from all others (0.11 on PBMC 3k), so that held-out cells' own share is the measure.
    All are (cell, component) in one space. The training cells are dealt at random into as many groups of the size of
    `held_out` as they fill, 20 at most, and the share is the mean over groups; a cell equally far from both counts a
    half. With g groups a perfect copier scores 0.5 + 0.5 / g, its original being in one of them; `copied_share` sees
    copies better.
    """
    size = min(len(held_out), len(training))
    groups = rng.permutation(len(training))[: len(training) // size * size].reshape(-1, size)[:MOST_GROUPS]
    held = nearest(cells, held_out[rng.permutation(len(held_out))[:size]])[:, None]
    trained = np.stack([nearest(cells, training[group]) for group in groups], axis=1)
    return float(np.mean((trained < held) + 0.5 * (trained == held)))


def copied_share(cells: np.ndarray, training: np.ndarray, held_out: np.ndarray, *, share: float = SHARE) -> float:
    """Share of `cells` nearer to some training cell than all but `share` of the held-out cells are.

    `share` is what new cells of the same distribution score; copies score 1. So do cells that are too average, since
    training cells lie closest in the middle: read it beside `near_held_out`.
    """
    return _share_below(nearest(cells, training), nearest(held_out, training), share)


def _share_below(distance: np.ndarray, of_held_out: np.ndarray, share: float = SHARE) -> float:
    return float(np.mean(distance < np.quantile(of_held_out, share)))


@dataclass(frozen=True, kw_only=True)
class MemorisationScores:
    """`values[score][candidate]`, the candidates "synthetic" and "real vs real", over repeated halvings.

    `copied_share` and `nearest_is_training` are the functions' of those names; `near_held_out` is `copied_share` with
    held-out cells in the place of the training cells: it tells cells that are too average, and so near to all real
    ones, from copies, and has no floor but 0.05.
    """

    training_cells: int
    held_out_cells: int
    values: Mapping[str, Mapping[str, Estimate]]


def score_memorisation(
    training: np.ndarray, held_out: np.ndarray, synthetic: np.ndarray | None, *, seed: int = 0, repeats: int = 5
) -> MemorisationScores:
    """Scores of synthetic cells, and of held-out ones in their place, in `TrainingComponents` (cell, component).

    In each repeat the held-out cells are halved: one half stands beside the training cells, the other takes the
    generator's place. Without synthetic cells there is the floor alone.
    """
    to_training = nearest(held_out, training)
    candidates = {REAL: None} if synthetic is None else {SYNTHETIC: nearest(synthetic, training), REAL: None}
    found: dict[str, dict[str, list[float]]] = {COPIED: {}, NEAREST: {}, NEAR_HELD_OUT: {}}
    for repeat in range(repeats):
        rng = np.random.default_rng([seed, 8, repeat])
        half, other = halves(len(held_out), rng)
        group_seed = int(rng.integers(2**31))
        for name, distance in candidates.items():
            cells = synthetic if name == SYNTHETIC else held_out[other]
            distance = to_training[other] if distance is None else distance
            groups = np.random.default_rng(group_seed)
            share = training_neighbour_share(cells, training, held_out[half], groups)
            found[COPIED].setdefault(name, []).append(_share_below(distance, to_training[half]))
            found[NEAREST].setdefault(name, []).append(share)
        if synthetic is not None:
            near = copied_share(synthetic, held_out[half], held_out[other])
            found[NEAR_HELD_OUT].setdefault(SYNTHETIC, []).append(near)
    values = {score: {name: Estimate.of(v) for name, v in by_name.items()} for score, by_name in found.items()}
    return MemorisationScores(training_cells=len(training), held_out_cells=len(held_out), values=values)
