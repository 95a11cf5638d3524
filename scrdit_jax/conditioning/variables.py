"""Conditioning variables: columns of obs with categories."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from ..config.checks import shown
from ..errors import BadInput, UnknownCellType
from ..io.backed import Cells, make_cells
from ..io.checking import listed
from ..records import checked

# One cell shows what it is, not what its category has in common.
LEAST_CELLS = 2
MOST_CATEGORIES = 4096
REMEDY = "merge it with another, leave its cells out"


@dataclass(frozen=True)
class Variable:
    """A column `name` of obs with its `categories`, in order, and the `counts` of training cells in each."""

    name: str
    categories: tuple[str, ...]
    counts: tuple[int, ...]

    @cached_property
    def _codes(self) -> dict[str, int]:
        return {name: code for code, name in enumerate(self.categories)}

    def code(self, category: str) -> int:
        """The number of `category`; UnknownCellType, with those like it, if the model does not know it."""
        if category not in self._codes:
            near = get_close_matches(category, self.categories, n=3) or [
                known for known in self.categories if category.casefold() in known.casefold()
            ]
            hint = f"did you mean {listed(near)}?" if near else f"there are {listed(self.categories)}"
            raise UnknownCellType(f"the model knows no {shown(category)} in {self.name!r}; {hint}")
        return self._codes[category]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Variable:
        """The inverse of `to_dict`."""
        return checked(cls(values["name"], tuple(values["categories"]), tuple(values["counts"])))


def categorical(cells: Cells, columns: Iterable[str], source: str, *, known: Sequence[Variable] = ()) -> Cells:
    """The same cells with these columns of obs as categories of words, in the input's order.

    BadInput where a column is not there, lacks labels, or has a label of fewer than LEAST_CELLS cells that is none of
    the categories of a `known` variable.
    """
    learnt = {variable.name: variable.categories for variable in known}
    changed = {column: _checked(cells, column, source, learnt.get(column, ())) for column in columns}
    if not changed:
        return cells
    table: Any = cells  # anndata allows tables on the disk, which these are not
    return make_cells(table.X, table.obs.assign(**changed), table.var, dict(table.uns))


def _checked(cells: Cells, column: str, source: str, learnt: Sequence[str]) -> pd.Categorical:
    if column not in cells.obs:
        there = f"obs has {listed(cells.obs.columns)}" if len(cells.obs.columns) else "obs has no columns"
        raise BadInput(f"{source} has no column {column!r} to condition on; {there}")
    labels = cells.obs[column]
    if missing := int(labels.isna().sum()):
        raise BadInput(
            f"{source}: obs[{column!r}] lacks the label of {missing} of {cells.n_obs} cells, and a model needs "
            "every cell's; label them or leave them out"
        )
    labels = labels if isinstance(labels.dtype, pd.CategoricalDtype) else labels.astype("category")
    names = list(dict.fromkeys(map(str, labels.cat.categories)))
    found: Any = pd.Categorical.from_codes(_codes_of(labels, names), categories=pd.Index(names))
    found = found.remove_unused_categories()
    counts = found.value_counts()
    if len(counts) * LEAST_CELLS > cells.n_obs and not learnt:
        raise BadInput(
            f"{source}: obs[{column!r}] has {len(counts)} different labels for {cells.n_obs} cells; a label needs at "
            f"least {LEAST_CELLS} to be learnt: condition on a column that groups cells"
        )
    rare = counts[(counts < LEAST_CELLS) & ~counts.index.isin(list(learnt))]
    if len(rare):
        raise BadInput(
            f"{source}: {_some(list(rare.index), column)} has 1 cell; a label needs at least {LEAST_CELLS} to be "
            f"learnt: {REMEDY}, or condition on another column"
        )
    if len(counts) > MOST_CATEGORIES:
        raise BadInput(
            f"{source}: obs[{column!r}] has {len(counts)} different labels; at most {MOST_CATEGORIES} can be"
        )
    return found


def find_variables(training: pd.DataFrame, columns: Iterable[str], input_name: str) -> tuple[Variable, ...]:
    """The variables in categorical `columns` of the training cells; BadInput where a category has none of them."""
    found = []
    for column in columns:
        counts = training[column].value_counts(sort=False)
        if (counts == 0).any():
            lost = list(counts.index[counts.to_numpy() == 0])
            raise BadInput(
                f"{input_name}: all cells of {_some(lost, column)} fell to the held-out ones; {REMEDY}, or give "
                "another --seed or --held-out"
            )
        found.append(Variable(column, tuple(map(str, counts.index)), tuple(map(int, counts))))
    return tuple(found)


def _some(names: Sequence[str], column: str) -> str:
    """The first of these labels, and how many more there are."""
    more = f", as each of {len(names) - 1} more of the column's labels," if len(names) > 1 else ""
    return f"{names[0]!r} in obs[{column!r}]{more}"


def _codes_of(labels: pd.Series, categories: Sequence[str]) -> Any:
    """(cell,) int32: the number of each label, as a word, among these categories; -1 where it is none of them."""
    codes = {name: code for code, name in enumerate(categories)}
    if not isinstance(labels.dtype, pd.CategoricalDtype):
        labels = labels.astype("category")
    # The last is for cells without a label, whose code is -1.
    own = [codes.get(str(name), -1) for name in labels.cat.categories] + [-1]
    return np.array(own, np.int32)[labels.cat.codes]


def extended(variables: Sequence[Variable], training: pd.DataFrame, input_name: str) -> tuple[Variable, ...]:
    """A model's `variables` for further training cells, whose categories are in columns of this table: the model's
    first, so that their numbers stay, then the new ones. Counts are of these cells. BadInput where a new category has
    none of them."""
    result = []
    for variable in variables:
        labels = training[variable.name]
        new = [name for name in map(str, labels.cat.categories) if name not in variable.categories]
        of_new = labels.cat.set_categories(new).to_frame()
        find_variables(of_new, [variable.name], input_name)
        categories = (*variable.categories, *new)
        counts = labels.value_counts(sort=False).reindex(categories, fill_value=0)
        result.append(Variable(variable.name, categories, tuple(map(int, counts))))
    return tuple(result)


def encode(obs: pd.DataFrame, variables: Sequence[Variable]) -> np.ndarray:
    """(cell, variable) int32: the number of each cell's category, -1 where it has none of them."""
    codes = [_codes_of(obs[variable.name], variable.categories) for variable in variables]
    return np.stack(codes, axis=1) if codes else np.zeros((len(obs), 0), np.int32)
