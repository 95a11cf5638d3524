"""What the training cells say of the conditioning variables: which categories go together, how often, at what depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .variables import Variable


@dataclass(frozen=True, eq=False)
class ConditionTable:
    """A row for each training cell: `codes` (cell, variable) int32 of its categories, in the order of `variables`, and
    its `library_size` (cell,) float32.

    `type_variable` is the name of the observed variable that holds the cell types, None without observed variables.
    """

    variables: tuple[Variable, ...]
    codes: np.ndarray
    library_size: np.ndarray
    type_variable: str | None = None

    @cached_property
    def observed(self) -> np.ndarray:
        """Places of the observed variables among all, ascending."""
        return np.flatnonzero([variable.observed for variable in self.variables])

    @cached_property
    def derived(self) -> np.ndarray:
        """Places of the derived variables among all, ascending."""
        return np.flatnonzero([not variable.observed for variable in self.variables])

    @property
    def observed_variables(self) -> tuple[Variable, ...]:
        """The observed variables, in order."""
        return tuple(self.variables[i] for i in self.observed)

    @property
    def type_place(self) -> int:
        """Which of the observed variables holds the cell types."""
        return next(i for i, variable in enumerate(self.observed_variables) if variable.name == self.type_variable)

    def combinations(self) -> dict[tuple[int, ...], int]:
        """How many training cells have each combination of observed categories, by code, in ascending order."""
        found, counts = np.unique(self.codes[:, self.observed], axis=0, return_counts=True)
        return {tuple(map(int, codes)): int(count) for codes, count in zip(found, counts, strict=True)}

    def derived_given(self, observed: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(codes (row, derived variable), shares (row,) that add up to 1) among training cells with these `observed`
        codes; where there are none, among those of the cell type; else among all."""
        known = self.codes[:, self.observed]
        cells = np.ones(len(known), bool)
        tries = [(known == np.asarray(observed)).all(axis=1)]
        if self.type_variable is not None:
            tries.append(known[:, self.type_place] == observed[self.type_place])
        cells = next((same for same in tries if same.any()), cells)
        codes, counts = np.unique(self.codes[cells][:, self.derived], axis=0, return_counts=True)
        return codes, counts / counts.sum()

    def library_sizes(self, fixed: Mapping[int, int]) -> np.ndarray:
        """Sorted library sizes of the training cells with these codes {place: code}.

        Where none has all of them, the first are given up one after another, in the order of `fixed`.
        """
        places, codes = list(fixed), np.array(list(fixed.values()), np.int32)
        known = self.codes[:, places]
        tries = [(known[:, i:] == codes[i:]).all(axis=1) for i in range(len(places) + 1)]
        return np.sort(self.library_size[next(same for same in tries if same.any())])
