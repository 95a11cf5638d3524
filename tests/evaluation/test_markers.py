import numpy as np
import pytest
from scipy import sparse
from scipy.stats import pearsonr

from scrdit_jax.evaluation.markers import log_fold_changes, markers_kept, top_markers

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
    np.testing.assert_array_equal(top_markers(np.array([[0.1, 3, -5, 2], [4, 0, 1, 0]]), 2), [[1, 3], [0, 2]])


def test_markers_kept_looks_at_the_markers_alone():
    expected = np.array([[1.0, 2, 3, 9], [4, 3, 2, 9]])
    found = np.array([[1.5, 2, 2.5, -9], [3, 3, 2.5, -9]])
    markers = np.array([[0, 1, 2], [0, 1, 2]])
    correlation, error = markers_kept(expected, found, markers)
    assert error == pytest.approx((0.5 + 0 + 0.5 + 1 + 0 + 0.5) / 6)
    assert correlation == pytest.approx(pearsonr([1, 2, 3, 4, 3, 2], [1.5, 2, 2.5, 3, 3, 2.5])[0])
    assert markers_kept(expected, np.zeros_like(expected), markers) == (0.0, 2.5)
    assert markers_kept(expected, expected, markers) == (pytest.approx(1), 0.0)
