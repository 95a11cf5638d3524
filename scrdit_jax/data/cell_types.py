"""The cells of the cell types that are asked for."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from ..config import DataConfig
from ..errors import BadInput, UnknownCellType
from ..io.backed import Cells
from ..io.checking import listed

DEFAULT_KEY = "cell_type"


class TypedCells(NamedTuple):
    """Which cells are of the types asked for, (cell,) bool, and their `types`; the column that holds these (None: not
    known), and sentences about it."""

    chosen: np.ndarray
    types: pd.Categorical | None = None
    key: str | None = None
    notes: tuple[str, ...] = ()


def cells_of_types(cells: Cells, config: DataConfig, source: str) -> TypedCells:
    """The cells of the types that `config` names; all, without names. BadInput or UnknownCellType."""
    key, everything = config.cell_type_key or DEFAULT_KEY, np.ones(cells.n_obs, dtype=bool)
    if config.cell_type_key is None and not config.cell_types:
        if key not in cells.obs or cells.obs[key].dtype.kind in "biufc":
            return TypedCells(everything)
        if missing := int(cells.obs[key].isna().sum()):
            return TypedCells(everything, notes=(f"obs[{key!r}] lacks {missing} labels; cell types were not used",))
    if key not in cells.obs:
        there = f"obs has {listed(cells.obs.columns)}" if len(cells.obs.columns) else "obs has no columns"
        raise BadInput(f"{source} has no column {key!r} for cell types; {there}: pass one as --cell-type-key")
    if missing := int(cells.obs[key].isna().sum()):
        raise BadInput(
            f"{source}: obs[{key!r}] lacks the label of {missing} of {cells.n_obs} cells; label them or leave them out"
        )
    labels = cells.obs[key].astype(str)
    there = sorted(labels.unique())
    # Categories that differ may read the same: 1 and "1".
    order = dict.fromkeys(map(str, cells.obs[key].cat.categories)) if cells.obs[key].dtype == "category" else there
    for name in config.cell_types:
        if name not in there:
            raise UnknownCellType(f"{source} has no cell type {name!r} in obs[{key!r}]; there are {listed(there)}")
    chosen = labels.isin(config.cell_types).to_numpy() if config.cell_types else everything
    notes = [f"{int(chosen.sum())} of {cells.n_obs} cells are {listed(config.cell_types)}"] * bool(config.cell_types)
    used = set(labels[chosen].unique())
    types = pd.Categorical(labels[chosen], categories=[name for name in order if name in used])
    return TypedCells(chosen, types, key, tuple(notes))


def counted(labels: pd.Series) -> dict[str, int]:
    """How many cells have each label, of those that have any, in the order of the labels."""
    return {str(name): int(n) for name, n in labels.value_counts().sort_index().items() if n}
