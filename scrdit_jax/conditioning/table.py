"""What the training cells say of new ones' conditions: which categories go together, how often, in what states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .prior import Prior, fit_prior, given
from .state import StateSpace
from .variables import Variable


@dataclass(frozen=True, eq=False)
class ConditionTable:
    """The combinations of categories that training cells have: `codes` (combination, variable) int32 in ascending
    order, and how many `cells` (combination,) have each; one empty combination without variables.

    States of new cells lie in `space` and come from `prior`, whose rows are the combinations; both None where cells
    have no state. `type_variable` names the variable that holds the cell types, None without variables.
    """

    variables: tuple[Variable, ...]
    codes: np.ndarray
    cells: np.ndarray
    type_variable: str | None = None
    space: StateSpace | None = None
    prior: Prior | None = None

    @classmethod
    def fit(
        cls,
        variables: tuple[Variable, ...],
        codes: np.ndarray,
        states: np.ndarray,
        *,
        type_variable: str | None,
        space: StateSpace,
        conditions: str,
        seed: int,
    ) -> ConditionTable:
        """Of training cells' `codes` (cell, variable) and `states` (cell, column); `conditions` names the prior."""
        found, which, cells = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
        if not variables:
            found, which, cells = np.zeros((1, 0), np.int32), np.zeros(len(codes), int), np.array([len(codes)])
        prior = None
        if states.shape[1]:
            prior = fit_prior(conditions, states, which.ravel(), len(found), seed=seed)
        return cls(variables, found.astype(np.int32), cells.astype(np.int64), type_variable, space, prior)

    @property
    def type_place(self) -> int:
        """Which of the variables holds the cell types."""
        return next(i for i, variable in enumerate(self.variables) if variable.name == self.type_variable)

    def combinations(self) -> dict[tuple[int, ...], int]:
        """How many training cells have each combination of categories, by code, in ascending order."""
        return {tuple(map(int, codes)): int(count) for codes, count in zip(self.codes, self.cells, strict=True)}

    def alike(self, codes: Sequence[int] | np.ndarray) -> np.ndarray:
        """Numbers of the combinations whose training cells new cells of these `codes` are like: the same combination;
        where no training cell has it, those of the cell type; else all. All, too, for cells without codes."""
        everything = np.arange(len(self.codes))
        if len(codes) < len(self.variables) or not self.variables:
            return everything
        same = [np.flatnonzero((self.codes == np.asarray(codes)).all(axis=1))]
        if self.type_variable is not None:
            same.append(np.flatnonzero(self.codes[:, self.type_place] == codes[self.type_place]))
        return next((numbers for numbers in same if len(numbers)), everything)

    def prior_for(self, codes: np.ndarray) -> Prior | None:
        """The prior of new cells: its row r is for those of `codes[r]` (row, variable)."""
        return None if self.prior is None else given(self.prior, [self.alike(row) for row in codes], self.cells)
