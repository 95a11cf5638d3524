"""Labels that a model is told beside the cells: cell type by name, and any other column of categories."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
import pandas as pd

from ..errors import BadInput, UnknownCellType
from ..io.backed import Cells, make_cells
from ..io.checking import listed

# One cell shows what it is, not what its kind has in common.
LEAST_CELLS = 2
MOST_NAMES = 4096


@dataclass(frozen=True)
class Variable:
    """A column of labels: its `names` in the input's order, and how many training `cells` bear each."""

    column: str
    names: tuple[str, ...]
    cells: tuple[int, ...]

    def code(self, name: str) -> int:
        """The number of `name`; UnknownCellType, with names that are like it, if the model has not got it."""
        if name not in self.names:
            near = get_close_matches(name, self.names, n=3) or [
                known for known in self.names if name.casefold() in known.casefold()
            ]
            hint = f"did you mean {listed(near)}?" if near else f"there are {listed(self.names)}"
            raise UnknownCellType(f"the model knows no {name!r} in {self.column!r}; {hint}")
        return self.names.index(name)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Variable:
        """The inverse of `to_dict`."""
        return cls(values["column"], tuple(values["names"]), tuple(values["cells"]))


def categorical(cells: Cells, columns: Iterable[str], source: str) -> Cells:
    """The same cells with these columns of obs as categories of words, in the input's order.

    BadInput where a column is not there, lacks labels, or has a label of fewer than LEAST_CELLS cells.
    """
    changed = {}
    for column in columns:
        if column not in cells.obs:
            there = f"obs has {listed(cells.obs.columns)}" if len(cells.obs.columns) else "obs has no columns"
            raise BadInput(f"{source} has no column {column!r} to condition on; {there}")
        labels = cells.obs[column]
        if missing := int(labels.isna().sum()):
            raise BadInput(
                f"{source}: obs[{column!r}] lacks the label of {missing} of {cells.n_obs} cells, and a model is told "
                "every cell's; label them or leave them out"
            )
        names = labels.cat.categories if isinstance(labels.dtype, pd.CategoricalDtype) else np.unique(labels)
        labels = pd.Categorical(labels.astype(str), categories=list(dict.fromkeys(map(str, names))))
        changed[column] = labels.remove_unused_categories()
        counts = changed[column].value_counts()
        rare = counts[counts < LEAST_CELLS]
        if len(rare):
            more = f" (and {len(rare) - 1} more labels)" if len(rare) > 1 else ""
            raise BadInput(
                f"{source}: {rare.index[0]!r} in obs[{column!r}] has 1 cell{more}; a label needs at least "
                f"{LEAST_CELLS} to be learnt: merge it with another, leave it out, or condition on another column"
            )
        if len(counts) > MOST_NAMES:
            raise BadInput(f"{source}: obs[{column!r}] has {len(counts)} different labels; at most {MOST_NAMES} can be")
    if not changed:
        return cells
    return make_cells(cells.X, cells.obs.assign(**changed), cells.var, dict(cells.uns))


def find_variables(training: pd.DataFrame, columns: Iterable[str], source: str) -> tuple[Variable, ...]:
    """The conditions of training cells whose columns are `categorical`; BadInput where a label has none of them."""
    found = []
    for column in columns:
        counts = training[column].value_counts(sort=False)
        if (counts == 0).any():
            name = counts.index[counts.to_numpy() == 0][0]
            raise BadInput(
                f"{source}: all cells of {name!r} in obs[{column!r}] fell to the held-out ones; merge the label with "
                "another, leave it out, or give another --seed or --held-out"
            )
        found.append(Variable(column, tuple(map(str, counts.index)), tuple(map(int, counts))))
    return tuple(found)


def encode(obs: pd.DataFrame, conditions: Sequence[Variable]) -> np.ndarray:
    """(cell, column) int32: the number of each cell's name in each condition, -1 where it is none of them."""
    codes = [
        pd.Categorical(obs[condition.column].astype(str), categories=list(condition.names)).codes
        for condition in conditions
    ]
    return np.stack(codes, axis=1).astype(np.int32) if codes else np.zeros((len(obs), 0), np.int32)
