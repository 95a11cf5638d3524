"""Whether synthetic cells give away which cells a model was trained on: attacks by distance, and how much they find."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from .comparison import Estimate, halves
from .memorisation import TrainingComponents, nearest
from .metrics import Matrix, distances

PLAIN, CALIBRATED = ATTACKS = ("plain", "calibrated")
FALSE_POSITIVES = 0.01
MOST_CANDIDATES = 2000
# One in a hundred of a few hundred cells is a matter of luck; over so many draws it is less of one.
REPEATS = 40
SMALLEST = np.finfo(np.float64).tiny


def roc_auc(members: np.ndarray, others: np.ndarray) -> float:
    """Share of pairs of which the member has the higher score, ties as halves: the area under the ROC curve."""
    ranks = rankdata(np.concatenate([members, others]))[: len(members)]
    return float((ranks.sum() - len(members) * (len(members) + 1) / 2) / (len(members) * len(others)))


def true_positive_rate(members: np.ndarray, others: np.ndarray, *, false_positives: float = FALSE_POSITIVES) -> float:
    """Share of members above the score that this share of new non-members is expected to be above.

    Carlini et al. 2022: an attack that is sure of a few cells is one, whatever its AUC. Of n others the highest score
    is one that a new one is above with probability 1 / (n + 1), the second highest with 2 / (n + 1), and so on; between
    those the share is interpolated. So chance is `false_positives`, however few the others are.
    """
    highest = np.sort(others)[::-1]
    place = false_positives * (len(others) + 1) - 1
    first = int(np.floor(place))
    above = [0.0 if i < 0 else float((members > highest[i]).mean()) for i in (first, min(first + 1, len(others) - 1))]
    return above[0] + (place - first) * (above[1] - above[0])


@dataclass(frozen=True, kw_only=True)
class MembershipScores:
    """`auc[attack]` and `tpr[attack]` (at 1 % false positives) for "plain" and "calibrated", over repeated draws.

    0.5 and 0.01 where nothing is given away. `candidates` are the non-members of each draw. Draws share cells, so their
    deviation is not that of the mean.
    """

    released: int
    candidates: int
    auc: Mapping[str, Estimate]
    tpr: Mapping[str, Estimate]


def score_membership(
    released: Matrix, training: Matrix, held_out: Matrix, *, seed: int = 0, repeats: int = REPEATS
) -> MembershipScores:
    """Attacks on training cells by one who has the `released` synthetic cells; all are (cell, gene) log values.

    Candidates are training cells (members) and half the held-out cells (others), 2,000 each at most; which half is
    drawn anew in every repeat. A candidate scores the higher the nearer it lies to a released cell (Chen et al. 2020),
    in the released cells' principal components: those of training cells would favour members. Calibrated, that distance
    is divided by the one to the nearest cell of a reference, the other half of the held-out cells, so that cells in
    dense places are not taken for members (van Breugel et al. 2023: the ratio of two densities).
    """
    components = TrainingComponents.fit(released, seed=seed)
    rng = np.random.default_rng([seed, 14])

    def placed(cells: Matrix, most: int) -> np.ndarray:
        return components.project(cells[np.sort(rng.permutation(cells.shape[0])[:most])])

    there = components.project(released)
    members, others = placed(training, MOST_CANDIDATES), placed(held_out, 2 * MOST_CANDIDATES)
    to_released = nearest(members, there), nearest(others, there)
    to_others = distances(members, others), distances(others, others)
    auc: dict[str, list[float]] = {attack: [] for attack in ATTACKS}
    tpr: dict[str, list[float]] = {attack: [] for attack in ATTACKS}
    for _ in range(repeats):
        reference, candidates = halves(len(others), rng)
        distance = to_released[0], to_released[1][candidates]
        usual = to_others[0][:, reference].min(axis=1), to_others[1][np.ix_(candidates, reference)].min(axis=1)
        for attack in ATTACKS:
            by = usual if attack == CALIBRATED else (1.0, 1.0)
            scores = [-own / np.maximum(of_place, SMALLEST) for own, of_place in zip(distance, by, strict=True)]
            auc[attack].append(roc_auc(*scores))
            tpr[attack].append(true_positive_rate(*scores))
    return MembershipScores(
        released=len(there),
        candidates=len(candidates),
        auc={attack: Estimate.of(values) for attack, values in auc.items()},
        tpr={attack: Estimate.of(values) for attack, values in tpr.items()},
    )
