"""A table of conditions as arrays in a file, and back."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import sparse

from ..conditioning.derived import CellView
from ..conditioning.prior import prior_from_arrays
from ..conditioning.state import StateFit, StateSpace, no_axes
from ..conditioning.table import ConditionTable
from .metadata import DatasetMetadata

PRIOR = "prior_"


def arrays_of(conditions: ConditionTable) -> dict[str, np.ndarray]:
    """As they are saved, without empty arrays, which orbax does not keep. None has an entry for each training cell,
    but those of a bootstrap."""
    prior = {} if conditions.prior is None else conditions.prior._asdict()
    arrays = {PRIOR + name: array for name, array in prior.items()}
    arrays |= {"combinations": conditions.codes, "combination_cells": conditions.cells}
    if conditions.prior_rows is not None:
        arrays["combination_prior_rows"] = conditions.prior_rows
    if conditions.former.any():
        arrays["former_cells"] = conditions.former
    if conditions.space is not None:
        arrays["axes"] = conditions.space.alone.axes
    return {name: array for name, array in arrays.items() if array.size}


def conditions_of(arrays: Mapping[str, np.ndarray], metadata: DatasetMetadata) -> ConditionTable:
    """The inverse of `arrays_of`."""
    codes = arrays.get("combinations", np.zeros((1, 0), np.int32))
    axes = arrays.get("axes", no_axes(len(metadata.genes)))
    prior = {name[len(PRIOR) :]: array for name, array in arrays.items() if name.startswith(PRIOR)}
    return ConditionTable(
        metadata.variables, codes, arrays["combination_cells"], metadata.type_variable,
        StateSpace(metadata.state, axes), prior_from_arrays(prior) if prior else None,
        arrays.get("combination_prior_rows"),
        arrays.get("former_cells", np.zeros(0, np.int64)),
    )  # fmt: skip


def conditions_of_format_2(cells: Mapping[str, np.ndarray], metadata: DatasetMetadata) -> ConditionTable:
    """From what former formats kept of each training cell, its labels and library size: the distribution of both."""
    sizes, genes = cells["library_size"], len(metadata.genes)
    # Nothing but the library size is asked for, so that the cells' values do not matter.
    fit = StateFit(np.zeros(len(sizes), bool), genes, {}, counts=metadata.normalization.were_counts, seed=0)
    fit.update(CellView(sparse.csr_matrix((len(sizes), genes), dtype=np.float32), sizes))
    space, states = fit.finish()
    return ConditionTable.fit(
        metadata.variables,
        cells["labels"] if metadata.variables else np.zeros((len(sizes), 0), np.int32),
        states,
        type_variable=metadata.type_variable,
        space=space,
        conditions="prior",
        seed=0,
    )
