import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scrdit_jax.config import DataConfig
from scrdit_jax.data.normalizing import Normalization, normalize, normalize_like
from scrdit_jax.data.statistics import CellStatistics
from scrdit_jax.errors import BadInput

FORMS = [np.asarray, sparse.csr_matrix]


def dense(adata) -> np.ndarray:
    return adata.X.toarray() if sparse.issparse(adata.X) else adata.X


def slow_log1p(matrix: np.ndarray, target_sum: float) -> np.ndarray:
    result = np.zeros(matrix.shape)
    for i, row in enumerate(matrix):
        for j, value in enumerate(row):
            result[i, j] = np.log(1 + target_sum * float(value) / sum(float(v) for v in row))
    return result


def with_matrix(matrix, form=np.asarray) -> anndata.AnnData:
    matrix = np.asarray(matrix, dtype=np.float32)
    obs = pd.DataFrame(index=[f"c{i}" for i in range(matrix.shape[0])])
    return anndata.AnnData(form(matrix), obs=obs, var=pd.DataFrame(index=[f"G{j}" for j in range(matrix.shape[1])]))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("matrix", "expected"),
    [([[0, 3], [1, 0]], True), ([[0, 0.5]], False), ([[0, -1]], False), ([[0, 0]], False), ([[2e6, 1]], True)],
)
def test_looks_like_counts(form, matrix, expected):
    assert CellStatistics.of_all(form(np.array(matrix, dtype=np.float32))).are_counts is expected


@pytest.mark.parametrize("form", FORMS)
def test_counts_are_normalised(counts, form):
    matrix = dense(counts)
    counts.X = form(matrix)
    result, decided = normalize(counts, DataConfig(target_sum=500))
    np.testing.assert_allclose(dense(result), slow_log1p(matrix, 500), rtol=2e-6)
    assert (decided.method, decided.target_sum, decided.were_counts) == ("log1p", 500, True)
    assert "raw counts recognised" in decided.sentence
    assert result.X.dtype == result.obs["library_size"].dtype == np.float32
    assert sparse.issparse(result.X) == (form is sparse.csr_matrix)
    np.testing.assert_array_equal(result.obs["library_size"], matrix.sum(1))
    np.testing.assert_array_equal(dense(counts), matrix)
    assert "library_size" not in counts.obs


@pytest.mark.parametrize("form", FORMS)
def test_log_scale_is_left_alone(form):
    adata = with_matrix([[0, 1.5], [2, 0.25]], form)
    result, decided = normalize(adata, DataConfig())
    np.testing.assert_array_equal(dense(result), dense(adata))
    assert (decided.method, decided.target_sum, decided.were_counts) == ("none", None, False)
    np.testing.assert_array_equal(result.obs["library_size"], [1.5, 2.25])


def test_forced():
    adata = with_matrix([[0.5, 1.5], [2, 0.25]])
    result, decided = normalize(adata, DataConfig(normalize="log1p"))
    np.testing.assert_allclose(result.X, slow_log1p(adata.X, 1e4), rtol=1e-6)
    assert (decided.method, decided.were_counts) == ("log1p", False)
    counts = with_matrix([[1, 2], [3, 4]])
    result, decided = normalize(counts, DataConfig(normalize="none"))
    np.testing.assert_array_equal(result.X, counts.X)
    assert "they look like raw counts" in decided.sentence


@pytest.mark.parametrize("form", FORMS)
def test_cells_without_expression_are_dropped(form):
    result, decided = normalize(with_matrix([[0, 0], [1, 3], [0, 0]], form), DataConfig())
    assert list(result.obs_names) == ["c1"]
    assert decided.sentence.endswith("; 2 cells without any expression were dropped")
    assert np.isfinite(dense(result)).all()
    with pytest.raises(BadInput, match="cells: every value is zero"):
        normalize(with_matrix([[0, 0]], form), DataConfig(), source="cells")


@pytest.mark.parametrize("form", FORMS)
def test_negative_values_are_refused(form):
    adata = with_matrix([[0, 1.5], [2, -0.25]], form)
    for method, rule in {"auto": "neither counts nor log1p", "none": "neither", "log1p": "counts cannot be"}.items():
        message = rf"lung: the value of cell 'c1', gene 'G1' is -0.25; {rule}.*give raw counts or log-normalised"
        with pytest.raises(BadInput, match=message):
            normalize(adata, DataConfig(normalize=method), source="lung")


def test_other_cells_follow_what_was_recorded():
    counts, logs = with_matrix([[1, 3], [2, 2]]), with_matrix([[0.5, 3], [2, 2]])
    from_counts = Normalization("log1p", 100.0, True, "")
    forced = Normalization("log1p", 100.0, False, "")
    from_logs = Normalization("none", None, False, "")
    left_counts = Normalization("none", None, True, "")
    normalised = lambda adata: slow_log1p(adata.X, 100)  # noqa: E731
    for adata, recorded, expected in [
        (counts, from_counts, normalised(counts)),
        (logs, from_counts, logs.X),
        (logs, forced, normalised(logs)),
        (logs, from_logs, logs.X),
        (counts, left_counts, counts.X),
    ]:
        result, _ = normalize_like(adata, recorded, source="other")
        np.testing.assert_allclose(result.X, expected, rtol=1e-6)
    with pytest.raises(BadInput, match="other holds raw counts, but the model was trained on log-scale"):
        normalize_like(counts, from_logs, source="other")


def test_normalization_round_trip():
    decided = Normalization("log1p", 1e4, True, "said")
    assert Normalization.from_dict(decided.to_dict()) == decided
