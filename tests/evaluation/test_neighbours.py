"""Scores of neighbours, transport and the spectrum against brute force, and by hand."""

from itertools import permutations

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from scrdit_jax.evaluation import metrics
from scrdit_jax.evaluation.comparison import compare
from scrdit_jax.evaluation.metrics import spectrum
from scrdit_jax.evaluation.metrics.neighbours import Blocks

NAMES = ("nearest_neighbour_accuracy", "mixing", "precision", "recall", "wasserstein_2_pca")


def normal(rows, seed, columns=4):
    return np.random.default_rng(seed).normal(size=(rows, columns))


def test_distances_are_scipys_and_no_cell_is_its_own_neighbour():
    x, y = normal(9, 0) + 5, normal(6, 1) + 5
    blocks = Blocks.of(x, y)
    np.testing.assert_allclose(blocks.across, cdist(x, y), atol=1e-6)
    assert np.isinf(np.diag(blocks.real)).all()
    assert np.isinf(np.diag(blocks.synthetic)).all()


@pytest.mark.parametrize("apart", [0.0, 1.0, 30.0])
def test_the_accuracy_is_that_of_sklearns_classifier_left_one_out(apart):
    x, y = normal(40, 0), normal(40, 1) + apart
    cells, sides = np.concatenate([x, y]), np.repeat([0, 1], 40)
    expected = (cross_val_predict(KNeighborsClassifier(1), cells, sides, cv=LeaveOneOut()) == sides).mean()
    assert metrics.nearest_neighbour_accuracy(Blocks.of(x, y)) == pytest.approx(expected)
    if apart == 30:
        assert expected == 1


def test_one_distribution_scores_a_half_copies_zero_and_ties_a_half():
    x = normal(800, 2)
    assert metrics.nearest_neighbour_accuracy(Blocks.of(x, normal(800, 3))) == pytest.approx(0.5, abs=0.04)
    assert metrics.nearest_neighbour_accuracy(Blocks.of(x, x + 1e-6)) == 0
    line = np.arange(8.0)[:, None]
    assert metrics.nearest_neighbour_accuracy(Blocks.of(line[::2], line[1::2])) == 0
    assert metrics.nearest_neighbour_accuracy(Blocks.of(np.zeros((3, 1)), np.zeros((3, 1)))) == 0.5


def test_mixing_is_the_inverse_simpson_index_of_the_nearest_cells():
    x, y = normal(30, 0), normal(20, 1) + 0.5
    cells, is_real = np.concatenate([x, y]), np.arange(50) < 30
    expected = []
    for i in range(50):
        nearest = sorted((j for j in range(50) if j != i), key=lambda j: np.linalg.norm(cells[i] - cells[j]))[:7]
        share = np.mean(is_real[nearest])
        expected.append(1 / (share**2 + (1 - share) ** 2))
    assert metrics.mixing(Blocks.of(x, y), neighbours=7) == pytest.approx(np.mean(expected))
    assert metrics.mixing(Blocks.of(x, normal(30, 1) + 50), neighbours=7) == 1
    assert metrics.mixing(Blocks.of(normal(800, 2), normal(800, 3))) == pytest.approx(1.94, abs=0.02)
    assert metrics.mixing(Blocks.of(x[:1], y[:1])) == 1  # the one other cell


def slow_precision(real, synthetic, k):
    hits = 0
    for cell in synthetic:
        inside = False
        for i, centre in enumerate(real):
            others = sorted(np.linalg.norm(centre - other) for j, other in enumerate(real) if j != i)
            inside |= np.linalg.norm(cell - centre) <= others[k - 1]
        hits += inside
    return hits / len(synthetic)


def test_precision_and_recall_are_the_definition_and_each_others_mirror():
    x, y = normal(25, 4), 1.5 * normal(20, 5)
    blocks, mirrored = Blocks.of(x, y), Blocks.of(y, x)
    for k in (1, 3):
        assert metrics.precision(blocks, neighbours=k) == pytest.approx(slow_precision(x, y, k))
        assert metrics.recall(blocks, neighbours=k) == pytest.approx(slow_precision(y, x, k))
        assert metrics.recall(blocks, neighbours=k) == metrics.precision(mirrored, neighbours=k)


def test_precision_and_recall_by_hand():
    real = np.array([[0.0], [1.0], [10.0], [11.0]])  # each has a neighbour at 1
    synthetic = np.array([[0.5], [1.5], [1.9], [5.0]])  # radii 1, 0.4, 0.4, 3.1
    blocks = Blocks.of(real, synthetic)
    assert metrics.precision(blocks, neighbours=1) == 3 / 4  # not the one at 5
    assert metrics.recall(blocks, neighbours=1) == 2 / 4  # 0 and 1, by the one at 0.5
    assert metrics.precision(blocks, neighbours=5) == 1  # of all others there are
    assert np.isnan(metrics.precision(Blocks.of(real[:1], synthetic)))


def test_transport_is_the_best_of_all_pairings():
    x, y = normal(6, 6), normal(6, 7) + 1
    expected = min(np.mean(np.sum((x - y[list(order)]) ** 2, axis=1)) for order in permutations(range(6)))
    assert metrics.wasserstein_2(x, y) == pytest.approx(np.sqrt(expected))
    assert metrics.wasserstein_2(x, x[::-1]) == pytest.approx(0, abs=1e-6)
    shift = np.array([3.0, 4.0, 0.0, 0.0])
    assert metrics.wasserstein_2(x, x[::-1] + shift) == pytest.approx(5)  # whole clouds move as one


def test_transport_draws_the_same_cells_of_the_larger_side_for_a_seed():
    x, y = normal(30, 8), normal(50, 9)
    found = [metrics.wasserstein_2(x, y, seed=seed, most=20) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]


def test_variance_ratios_are_those_of_the_made_up_spectrum(monkeypatch):
    monkeypatch.setattr(spectrum, "BLOCKS", ((1, 2), (3, 6), (7, 50)))
    widths = np.array([9.0, 8.0, 3.0, 2.5, 2.2, 2.0, 0.1, 0.1])
    turn = np.linalg.qr(normal(8, 10, columns=8))[0]
    real = normal(4000, 11, columns=8) * widths @ turn + 3
    factors = np.array([1, 1, 0.5, 0.5, 0.5, 0.5, 2, 2])
    synthetic = normal(4000, 12, columns=8) * widths * factors @ turn + 3
    found = metrics.variance_ratios(real, synthetic)
    np.testing.assert_allclose(found, [1, 0.25, 4], rtol=0.1)


def test_real_cells_have_the_variance_of_real_cells_where_components_are_noise():
    ratios = [metrics.variance_ratios(normal(160, s, 120), normal(160, 100 + s, 120), seed=s) for s in range(4)]
    np.testing.assert_allclose(np.mean(ratios, axis=0), 1, atol=0.06)  # fitted to all of them: 0.5 and less


def test_components_that_are_not_there_have_no_variance():
    found = metrics.variance_ratios(normal(30, 13, 9), normal(30, 14, 9))
    assert np.isfinite(found[:2]).all()
    assert np.isnan(found[2:]).all()
    assert np.isnan(metrics.variance_ratios(normal(2, 15), normal(2, 16))).all()


def test_the_scores_of_a_pair_share_what_they_compute(monkeypatch):
    calls = []
    of = Blocks.of
    monkeypatch.setattr(Blocks, "of", lambda *sides: calls.append(1) or of(*sides))
    x = np.abs(normal(60, 17, 70)).astype(np.float32)
    y = np.abs(normal(60, 18, 70)).astype(np.float32)
    found = compare(x, y, seed=0, names=NAMES)
    assert len(calls) == 1
    blocks = of(*metrics.joint_pcs(x, y))
    assert found["precision"] == metrics.precision(blocks)
    sides = (side[:, :30] for side in metrics.joint_pcs(x, y))
    assert found["wasserstein_2_pca"] == metrics.wasserstein_2(*sides)
