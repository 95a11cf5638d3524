"""What the .h5 and the folders of Cell Ranger have in common: features of several types, symbols that repeat."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from anndata.utils import make_index_unique
from scipy import sparse

from ...errors import BadInput
from ..checking import listed, with_notes

EXPRESSION = "Gene Expression"


def assemble(matrix: sparse.csr_matrix, barcodes, names, columns: dict, path: Path) -> AnnData:
    """The cells x genes of `matrix`, with the features of type "Gene Expression" only and names that are unique."""
    for count, given, what in zip(matrix.shape, (barcodes, names), ("barcodes", "features"), strict=True):
        if len(given) != count:
            raise BadInput(
                f"{path}: the matrix has {count} {what}, but {len(given)} are named; fetch or write it again"
            )
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
