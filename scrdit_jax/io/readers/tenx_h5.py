"""The .h5 that Cell Ranger's versions 2 and 3 write; of version 3 only the features of type "Gene Expression"."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from anndata import AnnData
from scipy import sparse

from ...errors import BadInput
from ..backed import StoredRows
from ..checking import listed
from ..damage import foreign
from ..hdf5 import open_hdf5
from ..hierarchy import require_readable, two_counts
from ..rows import require_parts
from ._reader import Reader, has_suffix
from ._tenx import assemble


def _read(path: Path) -> AnnData:
    with open_hdf5(path) as file, foreign():
        require_readable(file, path)
        if "matrix" in file:
            return _version_3(file["matrix"], path)
        genomes = [group for group in file.values() if isinstance(group, h5py.Group) and "gene_names" in group]
        if genomes:
            return _version_2(genomes, path)
        remedy = "rename it to .h5ad" if "obs" in file and "var" in file else "give what Cell Ranger wrote"
        raise BadInput(f"{path} is no 10x .h5 (neither a group 'matrix' nor a genome in it); {remedy}")


def _version_3(group: h5py.Group, path: Path) -> AnnData:
    features = group["features"]
    columns = {"gene_ids": _text(features["id"]), "feature_types": _text(features["feature_type"])}
    if "genome" in features:
        columns["genome"] = _text(features["genome"])
    return assemble(_matrix(group, path), _text(group["barcodes"]), _text(features["name"]), columns, path)


def _version_2(genomes: list[h5py.Group], path: Path) -> AnnData:
    barcodes = _text(genomes[0]["barcodes"])
    if any(not np.array_equal(_text(genome["barcodes"]), barcodes) for genome in genomes):
        named = listed(genome.name.strip("/") for genome in genomes)
        raise BadInput(f"{path} holds genomes with different cells ({named}); split it into one file a genome")
    matrix = sparse.hstack([_matrix(genome, path) for genome in genomes], format="csr")
    columns = {
        "gene_ids": np.concatenate([_text(genome["genes"]) for genome in genomes]),
        "genome": np.concatenate([np.repeat(genome.name.strip("/"), len(genome["genes"])) for genome in genomes]),
    }
    names = np.concatenate([_text(genome["gene_names"]) for genome in genomes])
    return assemble(matrix, barcodes, names, columns, path)


def _matrix(group: h5py.Group, path: Path) -> sparse.csr_matrix:
    # Stored genes x cells by columns, which is cells x genes by rows.
    n_genes, n_cells = two_counts(group["shape"][:], f"{path}: the shape of {group.name}")
    require_parts(group, path)
    return StoredRows(group, (n_cells, n_genes), path)[:]


def _text(dataset: h5py.Dataset) -> np.ndarray:
    if not isinstance(dataset, h5py.Dataset) or len(dataset.shape) != 1:
        raise ValueError(f"{dataset.name} is no list of names")
    return np.array([value.decode() if isinstance(value, bytes) else str(value) for value in dataset[:]], dtype=object)


READER = Reader(formats="10x .h5", sniff=lambda path: has_suffix(path, ".h5", ".hdf5"), read=_read)
