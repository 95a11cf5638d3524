import numpy as np
import pytest
from scipy.spatial.distance import cdist

from scrdit_jax.evaluation import memorisation
from scrdit_jax.evaluation.memorisation import copied_share, distances, training_neighbour_share


def cells(rows, seed, components=6):
    return np.random.default_rng(seed).normal(size=(rows, components))


def test_distances_are_scipys(monkeypatch):
    monkeypatch.setattr(memorisation, "ROWS_AT_ONCE", 3)  # several blocks, and a last short one
    x, y = cells(10, 0) + 5, cells(7, 1) + 5
    np.testing.assert_allclose(distances(x, y), cdist(x, y), atol=1e-6)


def test_the_neighbour_share_is_counted_by_hand_for_one_group():
    held_out, training = np.array([[0.0], [10.0]]), np.array([[1.0], [8.0]])
    new = np.array([[0.2], [0.9], [8.5], [9.5], [0.5]])  # held out, training, training, held out, halfway
    found = training_neighbour_share(new, training, held_out, np.random.default_rng(0))
    assert found == pytest.approx((0 + 1 + 1 + 0 + 0.5) / 5)


def test_new_cells_score_chance_and_copies_do_not():
    training, held_out, new = cells(300, 0), cells(300, 1), cells(400, 2)
    rng = np.random.default_rng(3)
    assert 0.42 < training_neighbour_share(new, training, held_out, rng) < 0.58
    copies = training + 1e-3 * cells(300, 4)
    assert training_neighbour_share(copies, training, held_out, rng) > 0.99
    assert copied_share(copies, training, held_out) == 1
    assert copied_share(new, training, held_out) < 0.1


def test_a_copier_of_three_groups_scores_a_half_and_a_sixth():
    training, held_out = cells(900, 0), cells(300, 1)
    found = training_neighbour_share(training, training, held_out, np.random.default_rng(2))
    assert found == pytest.approx(0.5 + 0.5 / 3, abs=0.04)


def test_held_out_cells_themselves_have_the_share_that_was_set():
    training, held_out = cells(200, 0), cells(400, 1)
    assert copied_share(held_out, training, held_out, share=0.1) == pytest.approx(0.1, abs=1 / 400)
