"""Small cells for the tests of reading and preparing."""

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse


@pytest.fixture
def counts() -> anndata.AnnData:
    """60 cells x 45 genes of raw counts, CSR, with two cell types and a column of gene identifiers."""
    random = np.random.default_rng(1)
    means = random.gamma(0.6, 3.0, size=45) + 0.05
    depth = random.gamma(5.0, 0.2, size=(60, 1))
    matrix = random.poisson(means * depth).astype(np.float32)
    matrix[:, 0] += 1
    obs = pd.DataFrame(
        {"cell_type": pd.Categorical(["alpha", "beta", "beta"] * 20)}, index=[f"cell{i}" for i in range(60)]
    )
    var = pd.DataFrame({"gene_ids": [f"ENSG{j}" for j in range(45)]}, index=[f"G{j}" for j in range(45)])
    return anndata.AnnData(sparse.csr_matrix(matrix), obs=obs, var=var)


@pytest.fixture
def small() -> anndata.AnnData:
    """3 cells x 2 genes, dense."""
    matrix = np.array([[1, 0], [2, 5], [0, 3]], dtype=np.float32)
    return anndata.AnnData(matrix, obs=pd.DataFrame(index=["a", "b", "c"]), var=pd.DataFrame(index=["G1", "G2"]))
