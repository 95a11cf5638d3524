"""What Cell Ranger writes: the .h5 of its versions 2 and 3, and the folder with matrix.mtx."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from anndata import AnnData
from anndata.utils import make_index_unique
from scipy import io, sparse

from ..errors import BadInput
from .checking import listed, with_notes

EXPRESSION = "Gene Expression"


def read_h5(path: Path) -> AnnData:
    """Cells x genes of a 10x .h5; of version 3 only the features of type "Gene Expression"."""
    with h5py.File(path) as file:
        if "matrix" in file:
            return _version_3(file["matrix"], path)
        genomes = [group for group in file.values() if isinstance(group, h5py.Group) and "gene_names" in group]
        if genomes:
            return _version_2(genomes, path)
        remedy = "rename it to .h5ad" if "obs" in file and "var" in file else "give what Cell Ranger wrote"
        raise BadInput(f"{path} is no 10x .h5 (neither a group 'matrix' nor a genome in it); {remedy}")


def is_mtx_folder(path: Path) -> bool:
    """Whether `matrix.mtx` or `matrix.mtx.gz` lies in this folder."""
    return any((path / name).is_file() for name in ("matrix.mtx", "matrix.mtx.gz"))


def read_mtx(path: Path) -> AnnData:
    """Cells x genes of a 10x folder: matrix.mtx, barcodes.tsv, features.tsv or genes.tsv, each plain or .gz."""
    features = _names(path, "features.tsv", "genes.tsv")
    barcodes = _names(path, "barcodes.tsv")[0]
    matrix = io.mmread(_present(path, "matrix.mtx"))
    if matrix.shape != (len(features), len(barcodes)):
        raise BadInput(
            f"{path}: matrix.mtx is {matrix.shape[0]} x {matrix.shape[1]}, but there are {len(features)} genes and "
            f"{len(barcodes)} barcodes; it must be genes x barcodes, all three from the same run"
        )
    ids, names = features[0], features[min(1, features.shape[1] - 1)]
    kinds = features[2] if features.shape[1] > 2 else None
    return _assemble(sparse.csr_matrix(matrix.T), barcodes, names, {"gene_ids": ids, "feature_types": kinds}, path)


def _version_3(group: h5py.Group, path: Path) -> AnnData:
    features = group["features"]
    columns = {"gene_ids": _text(features["id"]), "feature_types": _text(features["feature_type"])}
    if "genome" in features:
        columns["genome"] = _text(features["genome"])
    return _assemble(_matrix(group), _text(group["barcodes"]), _text(features["name"]), columns, path)


def _version_2(genomes: list[h5py.Group], path: Path) -> AnnData:
    barcodes = _text(genomes[0]["barcodes"])
    if any(not np.array_equal(_text(genome["barcodes"]), barcodes) for genome in genomes):
        named = listed(genome.name.strip("/") for genome in genomes)
        raise BadInput(f"{path} holds genomes with different cells ({named}); split it into one file a genome")
    matrix = sparse.hstack([_matrix(genome) for genome in genomes], format="csr")
    columns = {
        "gene_ids": np.concatenate([_text(genome["genes"]) for genome in genomes]),
        "genome": np.concatenate([np.repeat(genome.name.strip("/"), len(genome["genes"])) for genome in genomes]),
    }
    names = np.concatenate([_text(genome["gene_names"]) for genome in genomes])
    return _assemble(matrix, barcodes, names, columns, path)


def _matrix(group: h5py.Group) -> sparse.csr_matrix:
    # Stored genes x cells by columns, which is cells x genes by rows.
    n_genes, n_cells = (int(n) for n in group["shape"][:])
    matrix = sparse.csr_matrix((group["data"][:], group["indices"][:], group["indptr"][:]), shape=(n_cells, n_genes))
    matrix.check_format(full_check=True)
    return matrix


def _assemble(matrix: sparse.csr_matrix, barcodes, names, columns: dict, path: Path) -> AnnData:
    columns = {name: np.asarray(column) for name, column in columns.items() if column is not None}
    obs, var = pd.DataFrame(index=list(barcodes)), pd.DataFrame(columns, index=list(names))
    notes = []
    if "feature_types" in var:
        expression = (var["feature_types"] == EXPRESSION).to_numpy()
        if not expression.any():
            kinds = listed(sorted(set(var["feature_types"])))
            raise BadInput(f"{path} has no features of type {EXPRESSION!r}, only {kinds}; give the run's gene matrix")
        if not expression.all():
            matrix, var = matrix[:, np.flatnonzero(expression)], var[expression]
            notes.append(f"{len(var)} of {len(expression)} features are {EXPRESSION!r}; the others were left out")
    if not var.index.is_unique:
        # Symbols repeat in every 10x reference (the identifiers do not); suffixes are what scanpy gives them.
        repeated = var.index[var.index.duplicated()]
        notes.append(
            f"{len(repeated)} repeated gene symbols (first: {repeated[0]!r}) were made unique by adding -1, ..."
        )
        var.index = make_index_unique(var.index)
    return with_notes(AnnData(matrix, obs=obs, var=var), notes)


def _text(dataset: h5py.Dataset) -> np.ndarray:
    return np.array([value.decode() if isinstance(value, bytes) else str(value) for value in dataset[:]], dtype=object)


def _present(folder: Path, *names: str) -> Path:
    for candidate in (folder / (name + suffix) for name in names for suffix in ("", ".gz")):
        if candidate.is_file():
            return candidate
    raise BadInput(f"{folder} has matrix.mtx but not {' or '.join(names)} (plain or .gz); put it beside the matrix")


def _names(folder: Path, *names: str) -> pd.DataFrame:
    path = _present(folder, *names)
    try:
        return pd.read_csv(path, sep="\t", header=None, dtype=str, keep_default_na=False, quoting=3)
    except pd.errors.EmptyDataError:
        raise BadInput(f"{path} is empty; it must hold one name a line") from None
