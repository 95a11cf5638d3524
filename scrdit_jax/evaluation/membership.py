"""Whether synthetic cells give away which cells a model was trained on: attacks by distance, and how much they find."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from .comparison import Estimate, halves
from .memorisation import TrainingComponents, nearest
from .metrics import Matrix

PLAIN, CALIBRATED = ATTACKS = ("plain", "calibrated")
FALSE_POSITIVES = 0.01
MOST_CANDIDATES = 2000
SMALLEST = np.finfo(np.float64).tiny


def roc_auc(members: np.ndarray, others: np.ndarray) -> float:
    """Share of pairs of which the member has the higher score, ties as halves: the area under the ROC curve."""
    ranks = rankdata(np.concatenate([members, others]))[: len(members)]
    return float((ranks.sum() - len(members) * (len(members) + 1) / 2) / (len(members) * len(others)))


def true_positive_rate(members: np.ndarray, others: np.ndarray, *, false_positives: float = FALSE_POSITIVES) -> float:
    """Share of members above the lowest score that no more than this share of the others are above.

    Carlini et al. 2022: an attack that is sure of a few cells is one, whatever its AUC. With n others chance is about
    (floor(share n) + 1) / (n + 1).
    """
    allowed = int(false_positives * len(others))
    return float((members > np.sort(others)[len(others) - 1 - allowed]).mean())


@dataclass(frozen=True, kw_only=True)
class MembershipScores:
    """`auc[attack]` and `tpr[attack]` (at 1 % false positives) for "plain" and "calibrated", over repeated draws.

    0.5 and about 0.01 where nothing is given away. `candidates` are as many members as others in each draw.
    """

    released: int
    candidates: int
    auc: Mapping[str, Estimate]
    tpr: Mapping[str, Estimate]


def score_membership(
    released: Matrix, training: Matrix, held_out: Matrix, *, seed: int = 0, repeats: int = 5
) -> MembershipScores:
    """Attacks on training cells by one who has the `released` synthetic cells; all are (cell, gene) log values.

    Candidates are training cells (members) and half the held-out cells (others), equally many, 2,000 each at most,
    drawn anew in every repeat. A candidate scores the higher the nearer it lies to a released cell (Chen et al. 2020),
    in the released cells' principal components: those of training cells would favour members. Calibrated, that distance
    is divided by the one to the nearest cell of a reference, the other half of the held-out cells, so that cells in
    dense places are not taken for members (van Breugel et al. 2023: the ratio of two densities).
    """
    components = TrainingComponents.fit(released, seed=seed)
    rng = np.random.default_rng([seed, 14])
    rows = rng.permutation(training.shape[0])[: repeats * MOST_CANDIDATES]
    there = components.project(released)
    members, others = components.project(training[np.sort(rows)]), components.project(held_out)
    to_released = nearest(members, there), nearest(others, there)
    auc: dict[str, list[float]] = {attack: [] for attack in ATTACKS}
    tpr: dict[str, list[float]] = {attack: [] for attack in ATTACKS}
    for _ in range(repeats):
        reference, candidates = halves(len(others), rng)
        size = min(len(candidates), len(members), MOST_CANDIDATES)
        rows, candidates = rng.permutation(len(members))[:size], candidates[:size]
        distance = to_released[0][rows], to_released[1][candidates]
        usual = nearest(members[rows], others[reference]), nearest(others[candidates], others[reference])
        for attack in ATTACKS:
            by = usual if attack == CALIBRATED else (1.0, 1.0)
            scores = [-own / np.maximum(of_place, SMALLEST) for own, of_place in zip(distance, by, strict=True)]
            auc[attack].append(roc_auc(*scores))
            tpr[attack].append(true_positive_rate(*scores))
    return MembershipScores(
        released=len(there),
        candidates=size,
        auc={attack: Estimate.of(values) for attack, values in auc.items()},
        tpr={attack: Estimate.of(values) for attack, values in tpr.items()},
    )
