"""What the training cells say of new ones' conditions: which categories go together, how often, in what states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from .prior import Prior, fit_prior, given, joined
from .state import StateSpace
from .variables import Variable

Codes = tuple[int, ...]
# Of a prior's rows, one a combination, there are no more; with more combinations those of few cells have a row
# together, that of their cell type. At eight times 72 components 2,048 rows are 5 MB of a checkpoint.
MOST_ROWS, CELLS_OF_A_ROW = 2048, 100


@dataclass(frozen=True, eq=False)
class ConditionTable:
    """The combinations of categories that training cells have: `codes` (combination, variable) int32, and how many
    `cells` (combination,) have each; one empty combination without variables.

    A model that was trained further has those of its former training cells too, after its own: of them `cells` is 0 and
    `former` (combination,) how many there were, which is 0 for the others.

    States of new cells lie in `space` and come from `prior`, of which `prior_rows` (combination,) int32 says which row
    is a combination's (None: each has its own); `space` and `prior` are None where cells have no state.
    `type_variable` names the variable that holds the cell types, None without variables.
    """

    variables: tuple[Variable, ...]
    codes: np.ndarray
    cells: np.ndarray
    type_variable: str | None = None
    space: StateSpace | None = None
    prior: Prior | None = None
    prior_rows: np.ndarray | None = None
    former: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    _numbers: dict[tuple[int, ...], dict[Codes, np.ndarray]] = field(default_factory=dict, repr=False)

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
        order, starts = grouped(codes[:, : len(variables)])
        found, cells = codes[order[starts], : len(variables)].astype(np.int32), np.diff(np.append(starts, len(codes)))
        table = cls(variables, found, cells.astype(np.int64), type_variable, space)
        if not states.shape[1]:
            return table
        which = np.empty(len(codes), np.int64)
        which[order] = np.repeat(np.arange(len(found)), cells)
        rows = None if conditions == "bootstrap" else table.shared_rows()
        which, count = (which, len(found)) if rows is None else (rows[which], int(rows.max()) + 1)
        prior = fit_prior(conditions, states, which, count, seed=seed)
        return cls(variables, found, table.cells, type_variable, space, prior, rows)

    @property
    def type_place(self) -> int:
        """Which of the variables holds the cell types."""
        return next(i for i, variable in enumerate(self.variables) if variable.name == self.type_variable)

    @property
    def weights(self) -> np.ndarray:
        """How many training cells have each combination or, where only former ones do, how many of these."""
        return self.cells + self.former

    @property
    def rows_of_prior(self) -> np.ndarray:
        """Which row of the prior is each combination's, (combination,)."""
        return np.arange(len(self.codes)) if self.prior_rows is None else self.prior_rows

    def after(self, earlier: ConditionTable | None) -> ConditionTable:
        """With the combinations that only `earlier` has, the table of the same model before it was trained further."""
        if earlier is None or not self.variables or (self.prior is None) != (earlier.prior is None):
            return self
        own = set(map(tuple, self.codes.tolist()))
        kept = np.array([i for i, codes in enumerate(earlier.codes.tolist()) if tuple(codes) not in own], np.int64)
        if not len(kept):
            return self
        prior, rows = None, None
        if self.prior and earlier.prior:
            used, place = np.unique(earlier.rows_of_prior[kept], return_inverse=True)
            prior = joined(self.prior, earlier.prior, used)
            rows = np.concatenate([self.rows_of_prior, self.rows_of_prior.max() + 1 + place]).astype(np.int32)
        return replace(
            self,
            codes=np.concatenate([self.codes, earlier.codes[kept]]),
            cells=np.concatenate([self.cells, np.zeros_like(kept)]),
            former=np.concatenate([self.former, earlier.weights[kept]]),
            prior=prior,
            prior_rows=rows,
            _numbers={},
        )

    def _present(self, numbers: np.ndarray) -> np.ndarray:
        """Those of these combinations that training cells have; all, where only former ones have any."""
        present = numbers[self.cells[numbers] > 0]
        return present if len(present) else numbers

    def shared_rows(self) -> np.ndarray | None:
        """Which row of a prior each combination is to have, (combination,) int32; None: each its own.

        The MOST_ROWS combinations of most cells, CELLS_OF_A_ROW at least, have rows of their own, the others of a cell
        type one together: of a few cells nothing is learnt of how they differ from others of their type.
        """
        if len(self.codes) <= MOST_ROWS:
            return None
        largest = np.argsort(-self.cells, kind="stable")[:MOST_ROWS]
        own = np.sort(largest[self.cells[largest] >= CELLS_OF_A_ROW])
        rows = np.full(len(self.codes), -1, np.int32)
        rows[own] = np.arange(len(own))
        others = rows < 0
        types = np.unique(self.codes[others, self.type_place], return_inverse=True)[1]
        rows[others] = len(own) + types.ravel()
        return rows

    def having(self, places: tuple[int, ...]) -> dict[Codes, np.ndarray]:
        """The numbers, ascending, of the combinations that have certain codes at these `places`; by those codes."""
        if places not in self._numbers:
            order, starts = grouped(self.codes[:, places])
            codes = self.codes[order[starts]][:, places].tolist()
            self._numbers[places] = dict(zip(map(tuple, codes), np.split(order, starts[1:]), strict=True))
        return self._numbers[places]

    def seen(self, codes: Sequence[int] | np.ndarray) -> np.ndarray | None:
        """Numbers of the combinations that have the `codes` (variable,), whatever they have where these are -1; None
        where no training cell has them, nor a former one. Former ones count where there are no others."""
        places = tuple(place for place, code in enumerate(codes) if code >= 0)
        found = self.having(places).get(tuple(int(codes[place]) for place in places))
        return None if found is None else self._present(found)

    def nearest(self, codes: Sequence[int], most: int = 3) -> list[tuple[Codes, int]]:
        """What training cells have in the columns that `codes` names, and how many of them: what agrees in most
        columns, of that what most cells have, at `most` so many. -1 in the other columns."""
        named = np.flatnonzero(np.asarray(codes) >= 0)
        order, starts = grouped(self.codes[:, named])
        found = np.full((len(starts), len(self.variables)), -1)
        found[:, named] = self.codes[order[starts]][:, named]
        cells, agreed = np.add.reduceat(self.weights[order], starts), self._agreed(found, codes)
        best = np.lexsort((-cells, -agreed))[:most]
        return [(tuple(found[i].tolist()), int(cells[i])) for i in best if agreed[i] == agreed[best[0]]]

    def alike(self, codes: Sequence[int] | np.ndarray) -> np.ndarray:
        """Numbers of the combinations whose training cells new cells of these `codes` are like: those that have them.

        Where no training cell does, those of the cell type, which says most of a state, that agree in most of the other
        columns; without a cell type, those of all that do. All, for cells without codes.
        """
        same = self.seen(codes)
        if same is not None:
            return same
        numbers = np.arange(len(self.codes))
        if self.type_variable is not None and codes[self.type_place] >= 0:
            of_type = self.having((self.type_place,))
            numbers = of_type.get((int(codes[self.type_place]),), numbers)
        agreed = self._agreed(self.codes[numbers], codes)
        return self._present(numbers[agreed == agreed.max()])

    def _agreed(self, found: np.ndarray, codes: Sequence[int] | np.ndarray) -> np.ndarray:
        """In how many of the columns that `codes` names each row of `found` has the same."""
        wanted = np.asarray(codes)
        return ((found == wanted) & (wanted >= 0)).sum(axis=1)

    def prior_for(self, codes: np.ndarray) -> tuple[Prior, np.ndarray] | None:
        """(the prior of new cells, which of its rows is for those of `codes[r]` (row, variable), (row,) int32)."""
        if self.prior is None:
            return None
        return given(self.prior, [self.alike(row) for row in codes.tolist()], self.weights, self.rows_of_prior)


def grouped(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of `codes` (row, column) in ascending order, and where in that order each distinct one begins."""
    if not codes.shape[1]:
        return np.arange(len(codes)), np.zeros(1, np.int64)
    order = np.lexsort(codes.T[::-1])
    changes = (np.diff(codes[order], axis=0) != 0).any(axis=1)
    return order, np.append(0, 1 + np.flatnonzero(changes))
