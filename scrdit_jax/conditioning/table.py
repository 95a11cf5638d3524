"""What the training cells say of new ones' conditions: which categories go together, how often, in what states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from .prior import Prior, fit_prior, given, joined
from .state import StateSpace
from .variables import Variable


@dataclass(frozen=True, eq=False)
class ConditionTable:
    """The combinations of categories that training cells have: `codes` (combination, variable) int32, and how many
    `cells` (combination,) have each; one empty combination without variables.

    A model that was trained further has those of its former training cells too, after its own: of them `cells` is 0 and
    `former` (combination,) how many there were, which is 0 for the others.

    States of new cells lie in `space` and come from `prior`, whose rows are the combinations; both None where cells
    have no state. `type_variable` names the variable that holds the cell types, None without variables.
    """

    variables: tuple[Variable, ...]
    codes: np.ndarray
    cells: np.ndarray
    type_variable: str | None = None
    space: StateSpace | None = None
    prior: Prior | None = None
    former: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def __post_init__(self) -> None:
        if not len(self.former):
            object.__setattr__(self, "former", np.zeros_like(self.cells))

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

    def after(self, earlier: ConditionTable | None) -> ConditionTable:
        """With the combinations that only `earlier` has, the table of the same model before it was trained further."""
        if earlier is None or not self.variables or (self.prior is None) != (earlier.prior is None):
            return self
        own = set(map(tuple, self.codes.tolist()))
        kept = np.array([i for i, codes in enumerate(earlier.codes.tolist()) if tuple(codes) not in own], np.int64)
        if not len(kept):
            return self
        return replace(
            self,
            codes=np.concatenate([self.codes, earlier.codes[kept]]),
            cells=np.concatenate([self.cells, np.zeros_like(kept)]),
            former=np.concatenate([self.former, (earlier.cells + earlier.former)[kept]]),
            prior=joined(self.prior, earlier.prior, kept) if self.prior and earlier.prior else None,
        )

    def combinations(self, fixed: Mapping[int, int] | None = None) -> dict[tuple[int, ...], int]:
        """How many training cells have each combination of categories, by code, of those that have the `fixed` codes
        {place: code}; where none has, how many former training cells do."""
        numbers = np.arange(len(self.codes))
        for place, code in (fixed or {}).items():
            numbers = numbers[self.codes[numbers, place] == code]
        weights = self.cells + self.former
        return {tuple(map(int, self.codes[i])): int(weights[i]) for i in self._present(numbers)}

    def alike(self, codes: Sequence[int] | np.ndarray) -> np.ndarray:
        """Numbers of the combinations whose training cells new cells of these `codes` are like: the same combination;
        where no training cell has it, those of the cell type; else all. All, too, for cells without codes."""
        everything = np.arange(len(self.codes))
        if len(codes) < len(self.variables) or not self.variables:
            return self._present(everything)
        same = [np.flatnonzero((self.codes == np.asarray(codes)).all(axis=1))]
        if self.type_variable is not None:
            same.append(np.flatnonzero(self.codes[:, self.type_place] == codes[self.type_place]))
        return self._present(next((numbers for numbers in same if len(numbers)), everything))

    def prior_for(self, codes: np.ndarray) -> Prior | None:
        """The prior of new cells: its row r is for those of `codes[r]` (row, variable)."""
        if self.prior is None:
            return None
        return given(self.prior, [self.alike(row) for row in codes], self.cells + self.former)

    def _present(self, numbers: np.ndarray) -> np.ndarray:
        """Those of these combinations that training cells have; all, where only former ones have any."""
        present = numbers[self.cells[numbers] > 0]
        return present if len(present) else numbers
