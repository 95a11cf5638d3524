"""How planted effects are scored: tests on counts of known difference, counts of what was found, pictures of it."""

import anndata
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy import sparse, stats

from benchmarks.simulate import __main__ as command
from benchmarks.simulate import differential, figures, integration
from benchmarks.simulate.tables import table
from scrdit_jax.errors import OutputExists

CHANGED, GENES = 5, 240


@pytest.fixture(scope="module")
def cells():
    """800 cells x 240 genes in two groups and four batches; the first five are three times as high in the second."""
    random = np.random.default_rng(0)
    group, batch = np.arange(800) % 2, np.arange(800) // 2 % 4
    mean = np.where(np.arange(GENES)[None] < CHANGED, 1 + 2 * group[:, None], 1.0)
    counts = sparse.csr_matrix(random.poisson(mean).astype(np.int32))
    obs = pd.DataFrame(
        {
            "group": pd.Categorical.from_codes(group, ["group_1", "group_2"]),
            "batch": pd.Categorical.from_codes(batch, [f"batch_{i + 1}" for i in range(4)]),
            "library_size": 1000.0,
        },
        index=[f"c{i}" for i in range(800)],
    )
    values = counts.astype(np.float32).log1p()
    return anndata.AnnData(
        values, obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(GENES)]), layers={"counts": counts}
    )


@pytest.mark.slow
@pytest.mark.parametrize("test", ["t-test", "wilcoxon", "pseudobulk-t"])
def test_changed_genes_are_found_and_others_are_not(cells, test):
    p = differential.p_values(cells, test)
    found = differential.discoveries(p)
    assert found[:CHANGED].all()
    assert found[CHANGED:].mean() < 0.06
    assert stats.kstest(p[CHANGED:], "uniform").pvalue > 1e-3


def test_a_gene_that_few_cells_express_is_not_tested(cells):
    rare = cells.copy()
    rare.layers["counts"] = sparse.csr_matrix(rare.layers["counts"].toarray() * (np.arange(GENES)[None] != 7))
    assert np.flatnonzero(np.isnan(differential.p_values(rare, "pseudobulk-t"))).tolist() == [7]


def test_pseudobulks_are_sums_of_samples(cells):
    sums, samples = differential.pseudobulks(cells)
    assert sums.shape == (8, GENES)
    assert sums.to_numpy().sum() == cells.layers["counts"].sum()
    chosen = (cells.obs["group"] == "group_2") & (cells.obs["batch"] == "batch_3")
    np.testing.assert_array_equal(
        sums.loc["group_2_batch_3"], np.asarray(cells.layers["counts"][chosen.to_numpy()].sum(axis=0)).ravel()
    )
    assert samples.loc["group_2_batch_3"].tolist() == ["group_2", "batch_3"]


def test_depths_of_samples_are_not_moved_by_the_genes_that_change():
    random = np.random.default_rng(0)
    depth = np.array([1.0, 2.0, 0.5, 1.0])
    rate = np.tile(random.uniform(50, 200, GENES), (4, 1)) * depth[:, None]
    rate[2:, : GENES // 5] *= 8
    sums = random.poisson(rate)
    factors = differential.size_factors(sums)
    np.testing.assert_allclose(factors, depth, rtol=0.03)
    none_in_all = np.array([[4, 0], [0, 12]])
    np.testing.assert_allclose(differential.size_factors(none_in_all), [0.5, 1.5])


def test_depths_of_samples_are_those_of_pydeseq2(cells):
    preprocessing = pytest.importorskip("pydeseq2.preprocessing")
    sums, _ = differential.pseudobulks(cells)
    np.testing.assert_allclose(
        differential.size_factors(sums.to_numpy()), preprocessing.deseq2_norm(sums.to_numpy())[1], rtol=1e-12
    )


def test_scores_count_genes():
    p = np.array([1e-6, 1e-6, 0.9, 1e-5, 0.5, np.nan])
    change, mean = np.array([1.2, -1.2, 1.2, 0.0, 0.0, 0.6]), np.array([1.0, 0.01, 1.0, 1.0, 1.0, 1.0])
    row = differential.score(p, change, mean)
    assert (row["found"], row["false"], row["null"], row["null_below_level"], row["planted"]) == (3, 1, 2, 1, 4)
    assert differential.power([row], 1.0, True) == 0.5
    assert differential.power([row, row], 1.0, False) == 1
    assert differential.power([row], 0.5, True) == 0
    assert np.isnan(differential.power([row], 2.0, True))


def test_uniform_p_values_are_uniform():
    p = (np.arange(1000) + 0.5) / 1000
    assert differential.uniformity(p)["below_level"] == pytest.approx(0.05)
    assert differential.uniformity(p)["ks"] < 1e-3
    assert differential.uniformity(p**2)["ks"] > 0.2


def test_zeros_beside_those_of_real_genes():
    mean = np.exp(np.linspace(np.log(0.01), np.log(20), 500))
    real = mean, np.exp(-mean)
    assert integration.off_relation(*real, real)["median_size"] < 0.003
    assert integration.off_relation(mean, np.exp(-mean) + 0.1, real)["median"] == pytest.approx(0.1, abs=0.003)
    counts = sparse.csr_matrix(np.array([[0, 2], [1, 2]]))
    np.testing.assert_allclose(integration.zeros(counts), [[0.5, 2.0], [0.5, 0.0]])


def test_pictures_and_tables_of_few_numbers():
    found = differential.score(np.array([1e-6, 0.5]), np.full(2, 0.6), np.ones(2))
    rows = [{"test": test, "seed": 0, "cells": size, **found} for test in differential.TESTS for size in (50, 100)]
    p = {"none": {test: np.linspace(0.01, 1, 50) for test in differential.TESTS}}
    random = np.random.default_rng(0)
    points = {way: random.random((30, 2)) for way in ("one way", "other")}
    batch, types = np.resize(["a", "b"], 30).astype(str), np.resize(["x", "y", "z"], 30).astype(str)
    scores = {"one way": dict.fromkeys(("ilisi", "clisi", "batch_silhouette", "type_silhouette", "type_accuracy"), 1.0)}
    real = random.random(50), random.random(50)
    for picture in (
        figures.power_picture(rows),
        figures.calibration_picture(p | {"other": p["none"]}),
        figures.zeros_picture(real, {"one": real, "two": real}),
        figures.integration_picture(
            points | {"other": points["one way"]}, batch, types, scores | {"other": scores["one way"]}
        ),
    ):
        assert picture.startswith(b"\x89PNG")
    text = table(
        {
            "differential": rows, "zeros": {"one": {"median": 0.01, "median_size": 0.02}}, "integration": scores,
            "calibration": {"none": {test: differential.uniformity(each) for test, each in p["none"].items()}},
            "doublets": {"share": 0.1, "auc": 0.9},
        }
    )  # fmt: skip
    assert "| t-test of cells | 50 | 0.50 | nan | nan | 0.000 |" in text
    assert "AUC of Scrublet's score 0.900" in text


def test_a_column_that_is_not_there_is_one_line(tmp_path):
    result = CliRunner().invoke(
        command.main, ["pbmc3k", "--data", "pbmc3k", "--label", "kind", "--out", str(tmp_path / "out")]
    )
    assert result.exit_code == 2
    assert "no column 'kind'" in result.output or "not installed" in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_a_part_is_measured_once(tmp_path):
    made = []

    def make():
        made.append(1)
        return {"auc": 0.5}, {"t-test/none": np.arange(3.0), "types": np.array(["B cells", "NK"])}

    path = tmp_path / "parts" / "one.npz"
    for _ in range(2):
        plain, arrays = command.kept(path, ["run", "data"], make)
        assert plain == {"auc": 0.5}
        np.testing.assert_array_equal(arrays["t-test/none"], np.arange(3.0))
        assert arrays["types"].tolist() == ["B cells", "NK"]
    assert len(made) == 1
    with pytest.raises(OutputExists, match="another --out"):
        command.kept(path, ["other", "data"], make)
