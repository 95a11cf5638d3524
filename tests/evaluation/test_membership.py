"""Attacks on training cells, and what many synthetic cells reach: against sklearn, brute force, and by hand."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import ks_2samp
from sklearn.metrics import roc_auc_score, roc_curve

from scrdit_jax.evaluation.coverage import coverage, distinct_cells, nearer_than, recall_of_many
from scrdit_jax.evaluation.membership import (
    ATTACKS,
    CONTROL,
    FLOOR,
    RELEASES,
    dealt,
    roc_auc,
    score_membership,
    score_releases,
    true_positive_rate,
)
from scrdit_jax.evaluation.metrics.neighbours import Blocks, recall


def cells(rows, seed, genes=12):
    """Of one distribution: dense in the middle, with a wide rim."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, genes)) * rng.gamma(2, 1, (rows, 1))


def test_auc_is_sklearns_and_found_members_lie_on_sklearns_curve():
    rng = np.random.default_rng(0)
    members, others = np.round(rng.normal(0.5, 1, 300), 1), np.round(rng.normal(0, 1, 249), 1)  # with ties
    labels, scores = np.repeat([1, 0], [300, 249]), np.concatenate([members, others])
    assert roc_auc(members, others) == pytest.approx(roc_auc_score(labels, scores))
    # A new one is above the 25th highest of 249 in 25 of 250 cases.
    _, true, thresholds = roc_curve(labels, scores, drop_intermediate=False)
    expected = true[thresholds > np.sort(others)[-25]].max()
    assert true_positive_rate(members, others, false_positives=0.1) == pytest.approx(expected)


@pytest.mark.parametrize("others", [30, 99, 136, 1000])
def test_chance_finds_the_share_of_members_that_it_may_be_wrong_about(others):
    rng = np.random.default_rng(1)
    found = [true_positive_rate(rng.normal(size=500), rng.normal(size=others)) for _ in range(4000)]
    assert np.mean(found) == pytest.approx(0.01, abs=4 * np.std(found) / 4000**0.5)
    assert np.std(found) < 0.02


def test_copies_give_their_cells_away_and_new_cells_do_not():
    training, held_out = cells(300, 1), cells(300, 2)
    copies = score_membership(training + 1e-3 * cells(300, 3), training, held_out)
    new = score_membership(cells(2000, 4), training, held_out)
    assert (new.released, new.candidates) == (2000, 150)
    for attack in ATTACKS:
        assert copies.auc[attack].mean > 0.99
        assert copies.tpr[attack].mean > 0.95
        assert new.auc[attack].mean == pytest.approx(0.5, abs=0.06)
        assert new.tpr[attack].mean < 0.06


def test_calibration_finds_copies_among_cells_in_sparse_places():
    """Half the released cells are new and dense, half are copies, a little off: distance alone takes dense for near."""
    training, held_out = cells(400, 5), cells(400, 6)
    released = np.concatenate([training + 0.8 * cells(400, 7), cells(400, 8)])
    found = score_membership(released, training, held_out)
    assert found.auc["calibrated"].mean > found.auc["plain"].mean + 0.02


def test_a_cell_that_is_in_the_reference_too_is_no_division_by_zero():
    training = cells(60, 9)
    found = score_membership(training, training, np.concatenate([training[:20]] * 2))
    assert all(np.isfinite(found.auc[attack].mean) for attack in ATTACKS)


def test_coverage_is_counted_cell_by_cell_and_only_grows():
    real, synthetic = cells(40, 10), 2 * cells(90, 11)
    radius = np.sort(cdist(real, real), axis=1)[:, 5]  # the first is the cell itself
    expected = {n: (cdist(real, synthetic[:n]).min(axis=1) <= radius).mean() for n in (10, 50, 90)}
    assert coverage(real, synthetic, (10, 50, 90)) == pytest.approx(expected)
    assert coverage(real, real + 1e-9, (40,)) == {40: 1.0}
    assert coverage(real[:3], real[:3], (3,)) == {3: 1.0}


def test_recall_of_many_is_that_of_the_metric():
    real, synthetic = cells(50, 14), cells(90, 15)
    expected = {n: recall(Blocks.of(real, synthetic[:n])) for n in (20, 90)}
    assert recall_of_many(real, synthetic, (20, 90)) == pytest.approx(expected)
    assert 0 < min(expected.values()) < max(expected.values()) < 1


def test_distinct_cells_and_the_sign_of_nearness():
    few = cells(6, 12)
    assert distinct_cells(few[[0, 1, 1, 5, 0]]) == 3
    distances = np.random.default_rng(13).gamma(2, 1, 200)
    assert nearer_than(distances / 2, distances) == pytest.approx(ks_2samp(distances / 2, distances).statistic)
    assert nearer_than(distances * 2, distances) == pytest.approx(-ks_2samp(distances * 2, distances).statistic)
    assert nearer_than(distances, distances) == 0


def test_floor_and_control_stand_on_either_side_of_a_generator():
    training, held_out = cells(300, 16), cells(300, 17)
    found = score_releases(cells(600, 18), training, held_out, repeats=10)
    assert {name: one.released for name, one in found.items()} == dict(zip(RELEASES, (600, 100, 300), strict=True))
    for attack in ATTACKS:
        assert found[FLOOR].auc[attack].mean == pytest.approx(0.5, abs=0.06)
        assert found[FLOOR].tpr[attack].mean < 0.06
        assert found[CONTROL].auc[attack].mean > 0.99
        assert found[CONTROL].tpr[attack].mean > 0.95
        assert abs(found["synthetic"].auc[attack].mean - 0.5) < 0.08
    alone = score_membership(cells(600, 18), training, held_out, repeats=10)
    assert found["synthetic"] == alone
    # Of many training cells only so many are released as there are synthetic ones; those are looked for.
    few = score_releases(cells(80, 19), training, held_out, repeats=5)[CONTROL]
    assert few.released == 80
    assert few.auc["plain"].mean > 0.99


def test_donors_of_held_out_cells_are_never_on_two_sides():
    rng = np.random.default_rng(20)
    donors = rng.choice(list("abcdefg"), 200, p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05])
    for parts in (2, 3):
        rows = dealt(donors, parts, rng)
        assert sorted(np.concatenate(rows)) == list(range(200))
        sides = [set(donors[part]) for part in rows]
        assert sum(map(len, sides)) == 7
        assert min(map(len, rows)) > 20
    assert [len(part) for part in dealt(np.repeat(["a", "b"], 30), 3, rng)] == [20, 20, 20]


def test_donors_that_are_alike_are_no_membership():
    """Cells of a donor lie together: a reference with the candidates' own donors would make members of all others."""
    rng = np.random.default_rng(21)
    centres = 3 * rng.normal(size=(60, 12))
    of = np.repeat(np.arange(60), 20)
    x = centres[of] + 0.5 * rng.normal(size=(1200, 12))
    training, held_out, released = x[of < 20], x[(of >= 20) & (of < 40)], x[of >= 40]
    names = of[(of >= 20) & (of < 40)]
    apart = score_membership(released, training, held_out, donors=names, repeats=20).auc["calibrated"].mean
    mixed = score_membership(released, training, held_out, repeats=20).auc["calibrated"].mean
    assert mixed < 0.3 or mixed > 0.7
    assert abs(apart - 0.5) < 0.15
