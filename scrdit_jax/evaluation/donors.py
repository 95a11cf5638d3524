"""Whether synthetic cells give away which donors a model was trained on: an attack on all cells of a donor together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata

from ..errors import BadInput
from ..io.backed import BackedMatrix
from ..io.checking import listed
from .membership import ATTACKS, CALIBRATED, FALSE_POSITIVES, PLAIN, SMALLEST, dealt, roc_auc, true_positive_rate
from .memorisation import TrainingComponents, nearest, taken
from .metrics import Matrix

MEAN, SHARE = AGGREGATES = ("mean", "share")
# Fewer donors on a side say nothing, and so do fewer cells of a donor.
LEAST_DONORS, LEAST_CELLS = 3, 5
# Of a side so many cells are taken, as many of each donor, of whom so many at most.
MOST_CELLS, MOST_DONORS = 10_000, 500
DEALS, RESAMPLES = 10, 1000
# A cell counts in the share of a donor where its score is among the highest tenth of all.
HIGHEST = 0.9
INTERVAL = (0.025, 0.975)


class DonorCells(NamedTuple):
    """Cells (cell, gene) on the log scale, in memory or on a disk, and the `donors` (cell,) str that they are of."""

    x: Matrix | BackedMatrix
    donors: np.ndarray


@dataclass(frozen=True, kw_only=True)
class DonorAttack:
    """How well one score of donors tells those that were trained on from others.

    `auc` of the donors; `low` to `high` are 95 % of those of donors drawn anew with replacement, `chance_low` to
    `chance_high` 95 % of those with members named at random. `found` is the share of members at `false_alarms`: 1 %,
    or, where there are too few others to tell so little, one of them more than there are.
    """

    auc: float
    low: float
    high: float
    chance_low: float
    chance_high: float
    found: float
    false_alarms: float

    @classmethod
    def of(cls, members: np.ndarray, others: np.ndarray, rng: np.random.Generator) -> DonorAttack:
        """From the scores of the donors, (donor,) each."""
        size, count = len(members), len(others)
        above = (members[:, None] > others) + 0.5 * (members[:, None] == others)
        # How often each donor is drawn.
        of_members, of_others = (rng.multinomial(n, np.full(n, 1 / n), RESAMPLES) for n in (size, count))
        drawn = np.einsum("rm,mo,ro->r", of_members, above, of_others, optimize=True) / (size * count)
        ranks = np.tile(rankdata(np.concatenate([members, others])), (RESAMPLES, 1))
        chance = (rng.permuted(ranks, axis=1)[:, :size].sum(axis=1) - size * (size + 1) / 2) / (size * count)
        false_alarms = max(FALSE_POSITIVES, 1 / (count + 1))
        (low, high), (chance_low, chance_high) = (np.quantile(values, INTERVAL) for values in (drawn, chance))
        return cls(
            auc=roc_auc(members, others),
            low=float(low),
            high=float(high),
            chance_low=float(chance_low),
            chance_high=float(chance_high),
            found=true_positive_rate(members, others, false_positives=false_alarms),
            false_alarms=false_alarms,
        )


@dataclass(frozen=True, kw_only=True)
class DonorScores:
    """`attacks[attack][aggregate]` of the synthetic cells and `control[attack][aggregate]`, the AUC where the members'
    own cells are released. `by_donor[attack][aggregate]` are the donors' scores by name, members first: no part of a
    report, as names of donors are nobody's business. `left_out` are donors with too few cells."""

    key: str
    members: int
    others: int
    left_out: int
    attacks: Mapping[str, Mapping[str, DonorAttack]]
    control: Mapping[str, Mapping[str, float]]
    by_donor: Mapping[str, Mapping[str, Mapping[str, float]]] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without the donors' names."""
        return {
            "key": self.key,
            "members": self.members,
            "others": self.others,
            "left_out": self.left_out,
            "attacks": {
                attack: {name: asdict(one) | {"control_auc": self.control[attack][name]} for name, one in found.items()}
                for attack, found in self.attacks.items()
            },
        }


def score_donors(
    released: Matrix, training: DonorCells, held_out: DonorCells, *, key: str, control: Matrix | None = None, seed: int
) -> DonorScores:
    """Attacks on donors by one who has the `released` cells and cells of a donor, and asks if it was trained on.

    Members are the donors of training cells, others those of held-out ones. A cell scores minus the log of its distance
    to the nearest released cell, in the released cells' principal components; with auxiliary cells plus the log of that
    to the nearest of them, which is, up to a factor, the log of the ratio of two densities (van Breugel et al. 2023). A
    donor scores the mean of its cells, the log of their likelihood ratio, or the share of them among the highest tenth.
    The auxiliary cells are those of half the other donors, dealt ten times; each other donor is judged by the half that
    it is not in, and a member by both, so that no one has its own cells among them. `control` are the cells of the
    control, by default the members' own. Raises BadInput where there are too few donors, or one is on both sides.
    """
    rng = np.random.default_rng([seed, 16])
    require_donors(training.donors, held_out.donors, key)
    sides = [_drawn(cells, rng) for cells in (training, held_out)]
    found = _scores(released, sides, np.random.default_rng([seed, 17]), seed)
    own = taken(training.x, sides[0].rows) if control is None else control
    of_control = _scores(own, sides, np.random.default_rng([seed, 17]), seed)
    members, names = len(sides[0].names), [*sides[0].names, *sides[1].names]
    everyone = len(np.unique(training.donors)) + len(np.unique(held_out.donors))

    def each(
        of: Mapping[str, Mapping[str, np.ndarray]], judge: Callable[[np.ndarray], Any]
    ) -> dict[str, dict[str, Any]]:
        return {attack: {name: judge(scores) for name, scores in by.items()} for attack, by in of.items()}

    return DonorScores(
        key=key,
        members=members,
        others=len(names) - members,
        left_out=everyone - len(names),
        attacks=each(found, lambda scores: DonorAttack.of(scores[:members], scores[members:], rng)),
        control=each(of_control, lambda scores: roc_auc(scores[:members], scores[members:])),
        by_donor=each(found, lambda scores: dict(zip(names, scores.tolist(), strict=True))),
    )


class _Side(NamedTuple):
    """Drawn cells (cell, gene) of `names` (donor,), the numbers of their `rows`, and of the donor of each, `codes`."""

    cells: Matrix
    rows: np.ndarray
    codes: np.ndarray
    names: np.ndarray


def _drawn(cells: DonorCells, rng: np.random.Generator) -> _Side:
    """At most MOST_CELLS, as many of each donor, of up to MOST_DONORS that have enough."""
    names, codes = np.unique(cells.donors, return_inverse=True)
    enough = rng.permutation(np.flatnonzero(np.bincount(codes, minlength=len(names)) >= LEAST_CELLS))[:MOST_DONORS]
    most = MOST_CELLS // max(1, len(enough))
    chosen = [rng.permutation(np.flatnonzero(codes == code))[:most] for code in np.sort(enough)]
    rows = np.sort(np.concatenate([*chosen, np.array([], int)]))
    kept, of_rows = np.unique(codes[rows], return_inverse=True)
    return _Side(taken(cells.x, rows), rows, of_rows, names[kept])


def require_donors(members: np.ndarray, others: np.ndarray, key: str) -> None:
    """BadInput where the donors of training cells (cell,) and of others share some, or are too few."""
    if len(both := np.intersect1d(members, others)):
        raise BadInput(
            f"training and held-out cells are of the same donors in {key!r} ({listed(both)}), and cannot be attacked; "
            f"train with --donor-key {key}, which holds out whole donors"
        )
    for side, donors in (("trained on", members), ("held out", others)):
        count = int(np.sum(np.unique(donors, return_counts=True)[1] >= LEAST_CELLS))
        if count < LEAST_DONORS:
            raise BadInput(
                f"{count} donors in {key!r} with {LEAST_CELLS} cells or more are {side}, too few to attack "
                f"({LEAST_DONORS} or more); give cells of more donors, or hold out another share"
            )


def _scores(
    released: Matrix, sides: list[_Side], rng: np.random.Generator, seed: int
) -> dict[str, dict[str, np.ndarray]]:
    """The score of every donor, members first, (donor,) by attack and aggregate."""
    components = TrainingComponents.fit(released, seed=seed)
    members, others = (components.project(side.cells) for side in sides)
    cells = np.concatenate([members, others])
    count = len(sides[0].names), len(sides[1].names)
    codes = np.concatenate([sides[0].codes, count[0] + sides[1].codes])
    near = _logs(nearest(cells, components.project(released)))
    # To the nearest cell of each other donor, (cell, donor).
    to_donors = np.stack([nearest(cells, others[sides[1].codes == donor]) for donor in range(count[1])], axis=1)
    sums = {attack: dict.fromkeys(AGGREGATES, np.zeros(sum(count))) for attack in ATTACKS}
    for _ in range(DEALS):
        halves = dealt(count[1], 2, rng)
        for reference, judged in (halves, halves[::-1]):
            # A member is judged by both halves, by each as often as others are: halves of odd numbers are unequal.
            of_members = np.full(count[0], len(judged) / count[1])
            weight = np.concatenate([of_members, np.isin(np.arange(count[1]), judged)]) / DEALS
            usual = _logs(to_donors[:, reference].min(axis=1))
            for attack, scores in ((PLAIN, -near), (CALIBRATED, usual - near)):
                candidates = weight[codes] > 0
                among = scores >= np.quantile(scores[candidates], HIGHEST)
                for name, values in ((MEAN, scores), (SHARE, among)):
                    found = np.bincount(codes, values) / np.bincount(codes)
                    sums[attack][name] = sums[attack][name] + weight * found
    return sums


def _logs(distance: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(distance, SMALLEST))
