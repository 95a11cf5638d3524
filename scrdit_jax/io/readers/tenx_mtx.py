"""The folder that Cell Ranger writes: matrix.mtx, barcodes.tsv, features.tsv or genes.tsv, each plain or .gz."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from anndata import AnnData
from scipy import io, sparse

from ...errors import BadInput
from ._reader import Reader, has_suffix
from ._tenx import assemble

MATRIX = (".mtx", ".mtx.gz")


def _sniff(path: Path) -> bool:
    """Whether it is such a folder, or a matrix that is to be given with its folder."""
    return has_suffix(path, *MATRIX) or any((path / f"matrix{suffix}").is_file() for suffix in MATRIX)


def _read(path: Path) -> AnnData:
    if path.is_file():
        raise BadInput(f"{path} holds no names of cells and genes; give its folder, with barcodes.tsv and features.tsv")
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
    return assemble(sparse.csr_matrix(matrix.T), barcodes, names, {"gene_ids": ids, "feature_types": kinds}, path)


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


READER = Reader(formats="a 10x .mtx folder", sniff=_sniff, read=_read)
