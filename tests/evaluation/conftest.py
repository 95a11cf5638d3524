import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from threadpoolctl import threadpool_limits

from scrdit_jax.evaluation import metrics, plots


def typed_cells(rows, seed, genes=60):
    """Two cell types of log values as CSR, half of them zero, genes named."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 2, rows)
    level = np.where((np.arange(genes) % 2)[None, :] == kind[:, None], 1.5, 0.2) * rng.gamma(8, 1 / 8, (rows, 1))
    values = np.maximum(rng.normal(level, 0.6), 0).astype(np.float32)
    return anndata.AnnData(
        sparse.csr_matrix(values),
        obs=pd.DataFrame({"cell_type": np.array(["T cell", "B cell"])[kind]}, index=[f"c{i}" for i in range(rows)]),
        var=pd.DataFrame(index=[f"GENE{j}" for j in range(genes)]),
    )


@pytest.fixture
def make_cells():
    return typed_cells


@pytest.fixture
def real():
    return typed_cells(101, 0)


@pytest.fixture
def synthetic():
    cells = typed_cells(140, 1)
    cells.uns["scrdit"] = {"solver": "ddim", "steps": np.int64(20), "eta": np.float32(0.5), "note": "<script>&"}
    return cells


@pytest.fixture
def no_forest(monkeypatch):
    """A classifier that costs nothing, where the forest is not what is tested."""

    def first_component_auc(real_pcs, synthetic_pcs, *, seed):
        return float((synthetic_pcs[:, :1] > real_pcs[:, 0]).mean())

    monkeypatch.setattr(metrics.leading, "random_forest_auc", first_component_auc)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A forest, a t-SNE and pictures of the least size, and no threads that wait for each other."""
    monkeypatch.setattr(metrics.leading, "FOREST_TREES", 8)
    monkeypatch.setattr(plots, "TSNE_ITERATIONS", 250)
    monkeypatch.setattr(plots, "DOTS_PER_INCH", 50)
    with threadpool_limits(1):
        yield
