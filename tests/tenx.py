"""Cells as 10x Genomics' Cell Ranger writes them."""

import gzip
import io

import h5py
import numpy as np
import scipy.io
from scipy import sparse


def write_h5(cells, path):
    """filtered_feature_bc_matrix.h5, version 3."""
    matrix = sparse.csc_matrix(cells.X.T.astype(np.int32))
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        for name in ("data", "indices", "indptr"):
            group[name] = getattr(matrix, name)
        group["shape"] = matrix.shape
        group["barcodes"] = cells.obs_names.to_numpy().astype("S")
        features = group.create_group("features")
        features["id"] = features["name"] = cells.var_names.to_numpy().astype("S")
        features["feature_type"] = np.array(["Gene Expression"] * cells.n_vars, "S")
        features["genome"] = np.array(["GRCh38"] * cells.n_vars, "S")


def write_folder(cells, path, end):
    """Matrix, features and barcodes in a new folder; packed where `end` is ".gz", and not where it is ""."""
    matrix = io.BytesIO()
    scipy.io.mmwrite(matrix, sparse.coo_matrix(cells.X.T.astype(np.int32)))
    path.mkdir()
    for name, content in (
        ("matrix.mtx", matrix.getvalue()),
        ("features.tsv", "".join(f"{name}\t{name}\tGene Expression\n" for name in cells.var_names).encode()),
        ("barcodes.tsv", "".join(f"{name}\n" for name in cells.obs_names).encode()),
    ):
        (path / f"{name}{end}").write_bytes(gzip.compress(content) if end else content)
