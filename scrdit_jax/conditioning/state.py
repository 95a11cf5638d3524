"""The state of a cell: a few numbers, standardised, that say what a network is conditioned on beside categories."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from ..registry import DERIVED
from .derived import CellView, column_names, turned_to

# States are rounded to this many parts of a deviation: far below the noise a network is trained with, far above what
# differs between machines.
PARTS = 1024
LIBRARY_SIZE = "library-size"
# Axes fit the cells they were found in: along the twelfth, 2,000 training cells vary 1.6 times as much as new ones. So
# what states new cells have is learnt from training cells that are measured along axes found without them, a fold at a
# time. With many cells it matters not.
FOLDS, MOST_CELLS_IN_FOLDS = 5, 20_000
# Principal axes are fitted on so many values of the training cells at most; all cells are then projected on them.
MOST_VALUES = 1 << 27
# Where these would be fewer cells than genes, of so many cells at most: finding axes takes cells^2 x genes.
MOST_CELLS_OF_MANY_GENES = 4096


@dataclass(frozen=True)
class StateColumn:
    """A number of a cell's state: `name` as a column of obs, the kind of derived number that it is (`source`), and the
    mean and deviation of the training cells. A network is given those that it is `conditioned` on."""

    name: str
    source: str
    center: float
    scale: float
    conditioned: bool = True


@dataclass(frozen=True, eq=False)
class StateSpace:
    """What a cell's state is made of: its `columns`, those that a network is conditioned on first, and the axes along
    which n of them are measured, in order: `axes[0]` (gene + 1, n) float32, and, where there are more, those that were
    found without each fold of the training cells. The last row of each is where the mean cell lies, which is
    subtracted. None of it is of a single cell."""

    columns: tuple[StateColumn, ...]
    axes: np.ndarray

    @cached_property
    def kinds(self) -> dict[str, int]:
        """How many columns there are of each kind, in order."""
        sources = [column.source for column in self.columns]
        return {kind: sources.count(kind) for kind in dict.fromkeys(sources)}

    def states(self, x: sparse.csr_matrix, library_size: np.ndarray) -> np.ndarray:
        """(cell, column) float32 of cells `x` (cell, gene) on the log scale."""
        return self._along(0, CellView(x, library_size))

    def states_apart(self, x: sparse.csr_matrix, library_size: np.ndarray) -> np.ndarray:
        """`states` of all training cells, in order, along axes that were found without them."""
        folds, states = folds_of(x.shape[0], len(self.axes)), np.empty((x.shape[0], len(self.columns)), np.float32)
        for fold in np.unique(folds):
            rows = folds == fold
            states[rows] = self._along(fold, CellView(x[rows], library_size[rows]))
        return states

    def _along(self, fold: int, block: CellView) -> np.ndarray:
        return standardise(raw_columns(self.kinds, self.axes[fold], block), self.columns)

    @property
    def alone(self) -> StateSpace:
        """Without the axes of the folds."""
        return StateSpace(self.columns, self.axes[:1])

    @property
    def digest(self) -> str:
        """sha256 over all of it."""
        return hashlib.sha256(repr(self.columns).encode() + np.ascontiguousarray(self.axes).tobytes()).hexdigest()


def no_axes(genes: int) -> np.ndarray:
    """The axes of states that are measured along none."""
    return np.zeros((1, genes + 1, 0), np.float32)


def folds_of(cells: int, sets: int) -> np.ndarray:
    """For each of so many training cells which of `sets` sets of axes was found without it; 0 where there is one."""
    return 1 + np.arange(cells) % (sets - 1) if sets > 1 else np.zeros(cells, np.int64)


def raw_columns(kinds: Mapping[str, int], axes: np.ndarray, block: CellView) -> np.ndarray:
    """(cell, column) float64: the derived numbers of so many of each kind, before they are standardised; along one set
    of `axes` (gene + 1, n)."""
    found, first = [np.zeros((block.x.shape[0], 0))], 0
    for kind, count in kinds.items():
        if DERIVED[kind].axes is None:
            found.append(DERIVED[kind].columns(block, axes[:-1, :0]))
        else:
            some = axes[:, first : first + count]
            found.append(DERIVED[kind].columns(block, some[:-1]) - some[-1])
            first += count
    return np.concatenate(found, axis=1)


def standardise(raw: np.ndarray, columns: Sequence[StateColumn]) -> np.ndarray:
    """(raw - center) / scale, rounded; (cell, column) float32."""
    centers = np.array([column.center for column in columns])
    scales = np.array([column.scale for column in columns])
    return (np.round((raw - centers) / scales * PARTS) / PARTS).astype(np.float32)


def reproduced(
    cells: np.ndarray, folds: np.ndarray, axes: Sequence[np.ndarray], means: np.ndarray, least: float
) -> int:
    """Of how many of the first axes the variance of `cells` (cell, gene) that they were found without is `least` or
    more of the variance of those that they were found in; 1 or more.

    `axes[0]` (gene, n) were found in all cells, `axes[f]` in those of mean `means[f]` (gene,), without fold f; all,
    where there are no others.
    """
    n = axes[0].shape[1]
    if len(axes) == 1 or not least:
        return n
    apart = np.empty((len(cells), n))
    for fold in range(1, len(axes)):
        aside = folds == fold
        apart[aside] = (cells[aside] - means[fold]) @ turned_to(axes[fold], axes[0])
    below = np.flatnonzero(apart.var(axis=0) < least * (cells @ axes[0]).var(axis=0))
    return max(1, int(below[0])) if len(below) else n


class StateFit:
    """A `StateSpace` of cells that come in blocks: `fit` on the rows of `sample`, `update` by all, then `space`."""

    def __init__(
        self,
        held_out: np.ndarray,
        genes: int,
        wanted: Mapping[str, int],
        *,
        counts: bool,
        seed: int,
        least_reproduced: float = 0.0,
    ) -> None:
        """Of cells of so many `genes`, of which those not `held_out` (cell,) decide.

        `wanted` says how many of each kind a network is conditioned on; kinds that only raw `counts` have are left out
        of others. Where the cells were raw `counts`, their library size is a column in any case: new cells need one.
        Where axes are found without each fold of the cells too, `least_reproduced` says how many are kept.
        """
        self._kinds = {kind: count for kind, count in wanted.items() if counts or not DERIVED[kind].counts}
        self._unconditioned = int(counts and LIBRARY_SIZE not in self._kinds)
        if counts:
            self._kinds.setdefault(LIBRARY_SIZE, 1)
        self._least_reproduced = least_reproduced
        self._cells, self._training = len(held_out), np.flatnonzero(~held_out)
        self.sample = np.zeros(0, np.int64)
        if any(DERIVED[kind].axes is not None for kind in self._kinds):
            order = np.random.default_rng(seed).permutation(self._training)
            most = MOST_VALUES // genes
            if most < genes:
                most = min(most, MOST_CELLS_OF_MANY_GENES)
            self.sample = np.sort(order[: max(most, 2)])
        self._axes = no_axes(genes)
        self._raw, self._seen = np.zeros((0, 0)), 0

    @property
    def reads_values(self) -> bool:
        """Whether `update` looks at the values of the cells, and not at their library sizes alone."""
        return any(kind != LIBRARY_SIZE for kind in self._kinds)

    def fit(self, cells: np.ndarray) -> None:
        """Find the axes in the rows of `sample`, (cell, gene)."""
        along = [kind for kind in self._kinds if DERIVED[kind].axes is not None]
        folds, centres, found = np.zeros(len(cells), np.int64), [], []
        if len(cells) >= FOLDS * 2 and len(self._training) <= MOST_CELLS_IN_FOLDS:
            folds = folds_of(len(self._training), FOLDS + 1)[np.searchsorted(self._training, self.sample)]
        for fold in range(FOLDS + 1 if folds.any() else 1):
            some = cells[folds != fold] if fold else cells
            centres.append(some.mean(axis=0, dtype=np.float64))
            found.append([DERIVED[kind].axes(some, self._kinds[kind]) for kind in along])
        means = np.stack(centres)
        for i, kind in enumerate(along):
            kept = reproduced(cells, folds, [of_set[i] for of_set in found], means, self._least_reproduced)
            self._kinds[kind] = kept
            for of_set in found:
                of_set[i] = of_set[i][:, :kept]
        turned = [[turned_to(axes, first) for axes, first in zip(of_set, found[0], strict=True)] for of_set in found]
        axes = np.stack([np.concatenate(of_set, axis=1) for of_set in turned])
        self._axes = np.concatenate([axes, np.einsum("sg,sgn->sn", means, axes)[:, None]], axis=1, dtype=np.float32)

    def update(self, block: CellView) -> None:
        """Take in the next rows, held-out ones too."""
        raw = raw_columns(self._kinds, self._axes[0], block)
        if not self._seen:
            self._raw = np.empty((self._cells, raw.shape[1]))
        self._raw[self._seen : self._seen + len(raw)] = raw
        self._seen += len(raw)

    def finish(self) -> tuple[StateSpace, np.ndarray]:
        """The space, and the states (cell, column) float32 of all rows."""
        names = [(name, kind) for kind, count in self._kinds.items() for name in column_names(kind, count)]
        columns, conditioned = [], len(names) - self._unconditioned
        states = np.empty((self._cells, len(names)), np.float32)
        for i, (name, kind) in enumerate(names):
            known = self._raw[self._training, i]
            center, scale = float(np.float32(known.mean())), float(np.float32(known.std()))
            columns.append(StateColumn(name, kind, center, scale if scale > 1e-6 else 1.0, i < conditioned))
            states[:, i : i + 1] = standardise(self._raw[:, i : i + 1], columns[-1:])
        return StateSpace(tuple(columns), self._axes), states
