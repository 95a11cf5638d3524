import numpy as np
import pytest
from scipy import sparse
from scipy.stats import pearsonr

from scrdit_jax.evaluation.comparison import REAL, SHUFFLED, SYNTHETIC
from scrdit_jax.evaluation.markers import Markers, log_fold_changes, score_markers

TYPES = np.array(["B", "T", "B", "NK", "T", "T", "NK", "B"])
CELLS = np.where(np.random.default_rng(0).random((8, 6)) < 0.4, 0, np.random.default_rng(1).gamma(2, 1, (8, 6)))


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
def test_log_fold_changes_are_counted_cell_by_cell(kind):
    found = log_fold_changes(kind(CELLS), TYPES, ["T", "B"])
    for row, name in enumerate(["T", "B"]):
        for gene in range(6):
            inside = [CELLS[i, gene] for i in range(8) if TYPES[i] == name]
            outside = [CELLS[i, gene] for i in range(8) if TYPES[i] != name]
            assert found[row, gene] == pytest.approx(sum(inside) / len(inside) - sum(outside) / len(outside))


def test_a_type_that_is_missing_or_alone_has_no_changes():
    assert not log_fold_changes(CELLS, TYPES, ["monocyte"]).any()
    assert not log_fold_changes(CELLS, ["B"] * 8, ["B"]).any()


def test_markers_are_the_largest_changes_largest_first():
    markers = Markers.find(CELLS, TYPES, ["T", "B"], count=2)
    np.testing.assert_array_equal(markers.expected, log_fold_changes(CELLS, TYPES, ["T", "B"]))
    for changes, genes in zip(markers.expected, markers.genes, strict=True):
        assert list(changes[genes]) == sorted(changes, reverse=True)[:2]


def test_what_is_kept_looks_at_the_markers_alone(monkeypatch):
    expected = np.array([[1.0, 2, 3, 9], [4, 3, 2, 9]])
    found = np.array([[1.5, 2, 2.5, -9], [3, 3, 2.5, -9]])
    markers = Markers(("a", "b"), expected, np.array([[0, 1, 2], [0, 1, 2]]))

    def kept(changes):
        monkeypatch.setattr("scrdit_jax.evaluation.markers.log_fold_changes", lambda *_: changes)
        return markers.kept(np.zeros((1, 4)), ["a"])

    correlation, error = kept(found)
    assert error == pytest.approx((0.5 + 0 + 0.5 + 1 + 0 + 0.5) / 6)
    assert correlation == pytest.approx(pearsonr([1, 2, 3, 4, 3, 2], [1.5, 2, 2.5, 3, 3, 2.5])[0])
    assert kept(np.zeros_like(expected)) == (0.0, 2.5)
    assert kept(expected) == (pytest.approx(1), 0.0)


def typed_cells(rows, seed, wrong=False):
    """Three types, each with 10 of 60 genes high; `wrong`: with those of the next type."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 3, rows)
    level = (np.arange(60)[None, :] // 10 == (codes[:, None] + wrong) % 3) * 2.0
    return np.maximum(level + rng.normal(0.5, 0.5, (rows, 60)), 0).astype(np.float32), np.array(["A", "B", "C"])[codes]


def test_markers_are_scored_between_floor_and_control():
    real, good, bad = typed_cells(200, 0), typed_cells(150, 1), typed_cells(150, 2, wrong=True)
    scores = score_markers(*real, *good, repeats=3)
    assert scores.types == ("A", "B", "C")
    assert scores.cells_per_side == 100
    for name in (SYNTHETIC, REAL):
        assert scores.values["correlation"][name].mean > 0.95
        assert scores.values["error"][name].mean < 0.15
    assert scores.values["correlation"][SHUFFLED].mean < 0.5
    assert scores.values["error"][SHUFFLED].mean > 0.5
    wrong = score_markers(*real, *bad, repeats=3).values
    assert wrong["correlation"][SYNTHETIC].mean < 0
    assert wrong["error"][SYNTHETIC].mean > 1
    assert wrong["error"][REAL] == scores.values["error"][REAL]


def test_a_type_that_is_left_out_costs_its_markers_and_one_type_has_none():
    (real, types), (made, made_types) = typed_cells(200, 0), typed_cells(300, 1)
    only = made_types != "C"
    whole = score_markers(real, types, made, made_types, repeats=2).values["error"][SYNTHETIC].mean
    part = score_markers(real, types, made[only], made_types[only], repeats=2).values["error"][SYNTHETIC].mean
    assert part > 3 * whole
    assert score_markers(real, np.full(200, "A"), made, made_types) is None
