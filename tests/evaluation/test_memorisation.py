import numpy as np
import pytest
from scipy import sparse
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA

from scrdit_jax.evaluation import memorisation
from scrdit_jax.evaluation.comparison import REAL, SYNTHETIC
from scrdit_jax.evaluation.memorisation import (
    TrainingComponents,
    copied_share,
    distances,
    nearest,
    score_memorisation,
    training_neighbour_share,
)


def cells(rows, seed, components=6):
    return np.random.default_rng(seed).normal(size=(rows, components))


def test_distances_are_scipys(monkeypatch):
    monkeypatch.setattr(memorisation, "ROWS_AT_ONCE", 3)  # several blocks, and a last short one
    monkeypatch.setattr(memorisation, "OTHERS_AT_ONCE", 4)
    x, y = cells(10, 0) + 5, cells(7, 1) + 5
    np.testing.assert_allclose(distances(x, y), cdist(x, y), atol=1e-6)
    np.testing.assert_allclose(nearest(x, y), cdist(x, y).min(axis=1), atol=1e-6)
    np.testing.assert_array_equal(memorisation.nearest_rows(x, y)[1], cdist(x, y).argmin(axis=1))


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


def test_copies_are_told_from_new_cells_and_from_average_ones():
    training, held_out, new = cells(600, 0), cells(200, 1), cells(150, 2)
    fair = score_memorisation(training, held_out, new, seed=1).values
    copier = score_memorisation(training, held_out, training[:150], seed=1).values
    average = score_memorisation(training, held_out, 0.1 * new, seed=1).values
    assert copier["copied_share"][SYNTHETIC].mean == 1
    assert copier["near_held_out"][SYNTHETIC].mean < 0.2
    assert average["copied_share"][SYNTHETIC].mean > 0.5
    assert average["near_held_out"][SYNTHETIC].mean > 0.5
    for name in (SYNTHETIC, REAL):
        assert fair["copied_share"][name].mean < 0.12
        assert 0.4 < fair["nearest_is_training"][name].mean < 0.6
    assert copier["nearest_is_training"][SYNTHETIC].mean > 0.55
    # The floor is that of held-out cells, whatever is scored; without synthetic cells it stands alone.
    floor = score_memorisation(training, held_out, None, seed=1).values
    assert floor["copied_share"] == {REAL: fair["copied_share"][REAL]} == {REAL: copier["copied_share"][REAL]}
    assert floor["nearest_is_training"] == {REAL: fair["nearest_is_training"][REAL]}
    assert not floor["near_held_out"]


def test_the_components_are_those_of_the_training_cells_alone(monkeypatch):
    monkeypatch.setattr(memorisation, "CELLS_AT_ONCE", 16)
    rng = np.random.default_rng(0)
    training = rng.normal(size=(120, 30)) * np.linspace(3, 0.1, 30)
    held_out = rng.normal(size=(60, 30)) * np.linspace(0.1, 30, 30)  # varies along what training cells hardly have
    exact = PCA(4, svd_solver="full").fit(training)
    for kind in (np.asarray, sparse.csr_matrix):
        found = TrainingComponents.fit(kind(training), components=4)
        for side in (training, held_out):
            np.testing.assert_allclose(
                np.abs(found.project(kind(side))), np.abs(exact.transform(side)), rtol=1e-2, atol=2e-2
            )


def test_many_training_cells_are_drawn_from_for_the_components_and_all_are_measured_to(monkeypatch):
    monkeypatch.setattr(memorisation, "MOST_FITTED", 50)
    training = cells(400, 0, components=20)
    found = TrainingComponents.fit(training, components=3)
    assert found.pca.n_samples_ == 50
    assert found.project(training).shape == (400, 3)
