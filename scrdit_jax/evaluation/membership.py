"""Whether synthetic cells give away which cells a model was trained on: attacks by distance, and how much they find."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import rankdata

from ..io.backed import BackedMatrix
from .comparison import SYNTHETIC, Estimate, halves
from .memorisation import TrainingComponents, nearest, taken
from .metrics import Matrix, distances

PLAIN, CALIBRATED = ATTACKS = ("plain", "calibrated")
FALSE_POSITIVES = 0.01
MOST_CANDIDATES = 2000
# One in a hundred of a few hundred cells is a matter of luck; over so many draws it is less of one.
REPEATS = 40
SMALLEST = np.finfo(np.float64).tiny
# Beside synthetic cells: other held-out cells, which give no training cell away, and training cells, which do.
FLOOR, CONTROL = "held-out cells released", "training cells released"
RELEASES = (SYNTHETIC, FLOOR, CONTROL)
# How often held-out cells are dealt anew for the floor, of whom at most so many are released.
DEALS, MOST_DEALT = 5, 2000


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


@dataclass
class _Found:
    """What the draws of an attack found, each; `candidates` are the non-members of the last."""

    auc: dict[str, list[float]] = field(default_factory=lambda: {attack: [] for attack in ATTACKS})
    tpr: dict[str, list[float]] = field(default_factory=lambda: {attack: [] for attack in ATTACKS})
    candidates: int = 0

    def scores(self, released: int) -> MembershipScores:
        """Mean and deviation over the draws."""
        return MembershipScores(
            released=released,
            candidates=self.candidates,
            auc={attack: Estimate.of(values) for attack, values in self.auc.items()},
            tpr={attack: Estimate.of(values) for attack, values in self.tpr.items()},
        )


def dealt(cells: int | np.ndarray, parts: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Row numbers of so many cells, dealt at random into `parts`; or of cells of these donors (cell,), a donor's cells
    all to one part, where there are as many donors as parts."""
    groups = np.unique(cells) if isinstance(cells, np.ndarray) else np.array([])
    if len(groups) < parts:
        order = rng.permutation(len(cells) if isinstance(cells, np.ndarray) else cells)
        return [np.sort(part) for part in np.array_split(order, parts)]
    members: list[list[np.ndarray]] = [[] for _ in range(parts)]
    sizes = np.zeros(parts, int)
    for group in rng.permutation(groups):
        rows = np.flatnonzero(cells == group)
        # The first donors go to one part each, so that none is empty; the others to the smallest.
        part = int(np.argmin(sizes))
        members[part].append(rows)
        sizes[part] += len(rows)
    return [np.sort(np.concatenate(rows)) for rows in members]


def score_membership(
    released: Matrix,
    training: Matrix | BackedMatrix,
    held_out: Matrix,
    *,
    donors: np.ndarray | None = None,
    seed: int = 0,
    repeats: int = REPEATS,
) -> MembershipScores:
    """Attacks on training cells by one who has the `released` synthetic cells; all are (cell, gene) log values.

    Candidates are training cells (members) and half the held-out cells (others), 2,000 each at most; which half is
    drawn anew in every repeat. A candidate scores the higher the nearer it lies to a released cell (Chen et al. 2020),
    in the released cells' principal components: those of training cells would favour members. Calibrated, that distance
    is divided by the one to the nearest cell of a reference, the other half of the held-out cells, so that cells in
    dense places are not taken for members (van Breugel et al. 2023: the ratio of two densities). Where whole `donors`
    (held-out cell,) were held out, the halves have different ones: a member has none of its donor's in the reference.
    """
    components = TrainingComponents.fit(released, seed=seed)
    found = _Found()
    rng = np.random.default_rng([seed, 14])
    _attack(found, components, (released, training, held_out), donors, rng, repeats)
    return found.scores(released.shape[0])


def score_floor(
    training: Matrix | BackedMatrix,
    held_out: Matrix,
    *,
    donors: np.ndarray | None = None,
    seed: int = 0,
    repeats: int = REPEATS,
) -> MembershipScores:
    """What the attacks of `score_membership` find where nothing is given away: a third of the held-out cells, 2,000 at
    most, is released, and the others are candidates and reference; dealt five times."""
    rng, found, size = np.random.default_rng([seed, 15]), _Found(), 0
    for _ in range(DEALS):
        apart, *others = dealt(held_out.shape[0] if donors is None else donors, 3, rng)
        rest, apart = np.sort(np.concatenate(others)), np.sort(rng.permutation(apart)[:MOST_DEALT])
        components, size = TrainingComponents.fit(held_out[apart], seed=seed), len(apart)
        sides = held_out[apart], training, held_out[rest]
        _attack(found, components, sides, None if donors is None else donors[rest], rng, max(1, repeats // DEALS))
    return found.scores(size)


def score_control(
    training: Matrix | BackedMatrix,
    held_out: Matrix,
    count: int,
    *,
    donors: np.ndarray | None = None,
    seed: int = 0,
    repeats: int = REPEATS,
) -> MembershipScores:
    """What they find where `count` training cells, or all, are released as they are: these are asked for."""
    rows = np.sort(np.random.default_rng([seed, 19]).permutation(training.shape[0])[:count])
    copies = taken(training, rows)
    return score_membership(copies, copies, held_out, donors=donors, seed=seed, repeats=repeats)


def score_releases(
    released: Matrix,
    training: Matrix | BackedMatrix,
    held_out: Matrix,
    *,
    donors: np.ndarray | None = None,
    seed: int = 0,
    repeats: int = REPEATS,
) -> dict[str, MembershipScores]:
    """`score_membership` of each of RELEASES: of the synthetic cells, and what the same attacks find elsewhere."""
    count = released.shape[0]
    return {
        SYNTHETIC: score_membership(released, training, held_out, donors=donors, seed=seed, repeats=repeats),
        FLOOR: score_floor(training, held_out, donors=donors, seed=seed, repeats=repeats),
        CONTROL: score_control(training, held_out, count, donors=donors, seed=seed, repeats=repeats),
    }


def _attack(
    found: _Found,
    components: TrainingComponents,
    sides: tuple[Matrix, Matrix | BackedMatrix, Matrix],
    donors: np.ndarray | None,
    rng: np.random.Generator,
    repeats: int,
) -> None:
    """Add to `found` what the attacks find in so many draws, with `sides` released, trained on and held out."""
    released, training, held_out = sides

    def drawn(cells: Matrix | BackedMatrix, most: int) -> np.ndarray:
        return np.sort(rng.permutation(cells.shape[0])[:most])

    there = components.project(released)
    members = components.project(taken(training, drawn(training, MOST_CANDIDATES)))
    rows = drawn(held_out, 2 * MOST_CANDIDATES)
    others = components.project(held_out[rows])
    to_released = nearest(members, there), nearest(others, there)
    to_others = distances(members, others), distances(others, others)
    for _ in range(repeats):
        if donors is None:
            reference, candidates = halves(len(others), rng)
        else:
            reference, candidates = dealt(donors[rows], 2, rng)
        found.candidates = len(candidates)
        distance = to_released[0], to_released[1][candidates]
        usual = to_others[0][:, reference].min(axis=1), to_others[1][np.ix_(candidates, reference)].min(axis=1)
        for attack in ATTACKS:
            by = usual if attack == CALIBRATED else (1.0, 1.0)
            scores = [-own / np.maximum(of_place, SMALLEST) for own, of_place in zip(distance, by, strict=True)]
            found.auc[attack].append(roc_auc(*scores))
            found.tpr[attack].append(true_positive_rate(*scores))
