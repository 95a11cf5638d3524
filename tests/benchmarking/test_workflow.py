"""scanpy's workflow on real and synthetic cells: what is found, matched, turned and refused."""

import json

import anndata
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy import sparse

pytest.importorskip("scanpy")
pytest.importorskip("igraph")

from benchmarks.fidelity import scanpy_workflow, workflow
from scrdit_jax.checkpoint import load_model

pytestmark = pytest.mark.usefixtures("small")


def counted(cells=120, genes=60, seed=0, *, types=3):
    """Raw counts of a few types far apart, their names in obs."""
    means = np.random.default_rng(5).gamma(0.5, 4.0, size=(types, genes)) + 0.1
    rng = np.random.default_rng(seed)
    of = rng.integers(0, types, size=cells)
    obs = pd.DataFrame({"type": np.array(["A", "B", "C"])[of]}, index=[f"cell{seed}-{i}" for i in range(cells)])
    x = sparse.csr_matrix(rng.poisson(means[of]).astype(np.float32))
    return anndata.AnnData(x, obs=obs, var=pd.DataFrame(index=[f"GENE{i}" for i in range(genes)]))


@pytest.mark.slow
def test_clusters_are_the_types_and_two_samples_of_the_same_cells_are_mixed():
    cells, found = workflow.apart(counted(), 0, places=False)
    assert cells.obs["leiden"].nunique() == found["clusters"] >= 3
    assert found["ari"] > 0.5
    same = workflow.together(counted(), counted(seed=1), 0, places=False)[1]
    assert same["cells"] == 240
    assert 0.85 < same["neighbours"] < 1.15
    assert same["least"] > 0.7
    assert same["one_sided"] == 0
    other = counted(seed=1)
    other.X = sparse.csr_matrix(other.X[:, ::-1])  # the same numbers in other genes
    apart = workflow.together(counted(), other, 0, places=False)[1]
    assert apart["neighbours"] < 0.2
    assert apart["one_sided"] > 0.8


@pytest.mark.slow
def test_a_type_that_is_never_made_is_named():
    whole, part = counted(cells=300), counted(cells=500, seed=1)
    part = part[part.obs["type"] != "B"].copy()
    found = workflow.together(whole, part, 0, places=False)[1]
    assert found["least_type"] == "B"
    assert found["least"] < 0.3 * found["neighbours"]


@pytest.mark.slow
def test_clusters_of_both_sides_have_the_same_names_and_types_lie_in_the_same_places():
    real, synthetic = (scanpy_workflow.run_workflow(counted(seed=seed), places=False) for seed in (0, 1))
    names = scanpy_workflow.matched_clusters(real, synthetic)
    assert len(set(names.values())) == len(names)
    for cluster, name in names.items():
        if name not in set(real.obs["leiden"]):
            continue
        there, here = (side.obs["type"][side.obs["leiden"] == of].mode()[0]
                       for side, of in ((real, name), (synthetic, cluster)))  # fmt: skip
        assert there == here
    rng = np.random.default_rng(0)
    types = np.repeat(["A", "B", "C"], 40)
    places = np.array([[0, 0], [5, 0], [0, 9]])[np.repeat([0, 1, 2], 40)] + rng.normal(0, 0.1, (120, 2))
    mirrored = places @ np.array([[0, -1], [-1, 0]]) + 7
    turned = scanpy_workflow.turned_like(mirrored, types, places, types)
    np.testing.assert_allclose(turned, places, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny", "labelled"])
def test_the_command(name, tiny_run, labelled_run, tiny_cells, labelled_cells, tmp_path):
    run, cells = {"tiny": (tiny_run, tiny_cells), "labelled": (labelled_run, labelled_cells)}[name]
    cells.write_h5ad(tmp_path / "cells.h5ad")
    words = (run.path, "--real", tmp_path / "cells.h5ad", "--seeds", 1, "--out", tmp_path / "out")
    words += ("--marker", load_model(run).metadata.genes[0]) if name == "labelled" else ()
    result = CliRunner().invoke(workflow.main, list(map(str, words)))
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "out" / "workflow.json").read_text())
    assert {name: len(rows) for name, rows in found["rows"].items()} == dict.fromkeys(
        ("real", "synthetic", "joint", "floor"), 1
    )
    assert found["rows"]["real"][0]["cells"] == 90
    assert "## Together with held-out cells" in (tmp_path / "out" / "workflow.md").read_text()
    for picture in ("workflow", "joint"):
        assert (tmp_path / "out" / f"{picture}.png").read_bytes().startswith(b"\x89PNG")


def test_what_a_user_gets_wrong_is_one_line(tiny_run, tiny_cells, tmp_path):
    counted().write_h5ad(tmp_path / "other.h5ad")
    tiny_cells.write_h5ad(tmp_path / "cells.h5ad")
    logged = tiny_cells.copy()
    logged.X = sparse.csr_matrix(np.log1p(logged.X.toarray()) / 3)
    logged.write_h5ad(tmp_path / "log.h5ad")
    for words, message in (
        (("--real", "other.h5ad"), "was trained on other cells"),
        (("--real", "log.h5ad"), "was trained on other cells"),
        (("--real", "cells.h5ad", "--marker", "CD3D"), "has no gene CD3D; name markers among its 24 genes"),
        (("--real", "cells.h5ad:colour"), "no column 'colour'"),
    ):
        given = [str(tmp_path / word) if ".h5ad" in word else word for word in words]
        result = CliRunner().invoke(workflow.main, [str(tiny_run.path), *given, "--out", str(tmp_path / "out")])
        assert result.exit_code == 2, result.output
        assert message in result.output
        assert len(result.output.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
