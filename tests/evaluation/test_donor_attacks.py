"""Attacks on donors: generators that are made to give away all, two or none of those that they were trained on."""

import numpy as np
import pytest

from scrdit_jax.errors import BadInput
from scrdit_jax.evaluation import donors
from scrdit_jax.evaluation.donors import AGGREGATES, DonorAttack, DonorCells, score_donors
from scrdit_jax.evaluation.membership import ATTACKS, CALIBRATED, PLAIN


def donor_cells(prefix, count, seed, each=40, genes=10):
    """Cells of donors that differ a little from each other, and their donors."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(count, genes))
    x = np.repeat(centres, each, axis=0) + rng.normal(size=(count * each, genes))
    return DonorCells(x.astype(np.float32), np.repeat([f"{prefix}{i}" for i in range(count)], each))


@pytest.fixture(scope="module")
def sides():
    return donor_cells("member", 12, 1), donor_cells("other", 12, 2)


def noisy(cells, seed, scale=0.05):
    return cells + scale * np.random.default_rng(seed).normal(size=cells.shape).astype(np.float32)


def test_a_generator_that_copies_gives_every_donor_away(sides):
    found = score_donors(noisy(sides[0].x, 3), *sides, key="donor", seed=0)
    assert (found.members, found.others, found.left_out) == (12, 12, 0)
    for attack in ATTACKS:
        for aggregate in AGGREGATES:
            one = found.attacks[attack][aggregate]
            assert one.auc == 1
            assert one.auc > one.chance_high + 0.1
            assert one.found == 1
            assert found.control[attack][aggregate] == 1
    assert one.false_alarms == pytest.approx(1 / 13)


def test_a_generator_that_knows_no_donor_finds_none(sides):
    aucs = []
    for seed in range(12):
        sides = donor_cells("m", 12, 100 + seed), donor_cells("o", 12, 200 + seed)
        others = donor_cells("new", 60, 300 + seed)
        found = score_donors(others.x, *sides, key="donor", seed=seed).attacks[CALIBRATED]["mean"]
        aucs.append(found.auc)
        assert found.chance_low < 0.35 < 0.65 < found.chance_high
    assert np.mean(aucs) == pytest.approx(0.5, abs=0.08)


def test_a_generator_that_copies_two_donors_gives_those_away(sides):
    members, others = sides
    copied = np.isin(members.donors, ["member3", "member7"])
    new = donor_cells("new", 60, 4).x
    released = np.concatenate([new, noisy(members.x[copied], 5)])
    found = score_donors(released, members, others, key="donor", seed=0)
    for attack in (PLAIN, CALIBRATED):
        scores = found.by_donor[attack]["mean"]
        assert set(sorted(scores, key=scores.get)[-2:]) == {"member3", "member7"}
        assert found.attacks[attack]["mean"].auc < 0.85
    assert found.attacks[CALIBRATED]["mean"].found >= 2 / 12
    assert "member3" not in str(found.to_dict())


def test_cells_of_other_donors_are_weighed_by_what_is_usual():
    """Members in dense places, others in sparse ones: distance alone takes the dense for members."""
    rng = np.random.default_rng(6)
    dense, sparse = rng.normal(size=(6, 30, 8)), 4 * rng.normal(size=(6, 30, 8))
    names = np.repeat([f"d{i}" for i in range(12)], 30)
    cells = np.concatenate([dense, sparse]).reshape(-1, 8).astype(np.float32)
    is_member = np.isin(names, [f"d{i}" for i in (0, 1, 2, 3, 4, 6)])
    sides = DonorCells(cells[is_member], names[is_member]), DonorCells(cells[~is_member], names[~is_member])
    released = np.concatenate([rng.normal(size=(200, 8)), 4 * rng.normal(size=(200, 8))]).astype(np.float32)
    found = score_donors(released, *sides, key="donor", seed=0)
    assert found.attacks[PLAIN]["mean"].auc > 0.7
    assert abs(found.attacks[CALIBRATED]["mean"].auc - 0.5) < found.attacks[PLAIN]["mean"].auc - 0.5


def test_donors_are_drawn_alike_and_small_ones_left_out(sides, monkeypatch):
    monkeypatch.setattr(donors, "MOST_CELLS", 12 * 7)
    few = DonorCells(sides[0].x[:403], sides[0].donors[:403])  # 3 cells of the eleventh donor
    found = score_donors(sides[1].x, few, sides[1], key="donor", seed=0)
    assert (found.members, found.others, found.left_out) == (10, 12, 1)
    drawn = donors._drawn(sides[1], np.random.default_rng(0))
    assert set(np.bincount(drawn.codes)) == {7}
    assert np.all(sides[1].donors[drawn.rows] == drawn.names[drawn.codes])


def test_what_cannot_be_asked(sides):
    members, others = sides
    with pytest.raises(BadInput, match=r"are of the same donors in 'd' \(member0, .*; train with --donor-key d"):
        score_donors(others.x, members, members, key="d", seed=0)
    two = DonorCells(others.x[:80], others.donors[:80])
    with pytest.raises(BadInput, match=r"2 donors in 'd' with 5 cells or more are held out, too few .*\(3 or more\)"):
        score_donors(others.x, members, two, key="d", seed=0)
    with pytest.raises(BadInput, match="2 donors in 'd' with 5 cells or more are trained on"):
        score_donors(others.x, two, members, key="d", seed=0)


def test_intervals_hold_what_they_say():
    rng = np.random.default_rng(7)
    inside = chance = 0
    for _ in range(60):
        one = DonorAttack.of(rng.normal(1, 1, 25), rng.normal(size=25), rng)
        inside += one.low <= 0.760 <= one.high  # of two normal distributions one deviation apart: Phi(1 / sqrt 2)
        chance += one.chance_low <= DonorAttack.of(rng.normal(size=25), rng.normal(size=25), rng).auc <= one.chance_high
    assert inside >= 51
    assert chance >= 51
