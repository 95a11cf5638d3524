"""Real cells with types, to learn from and to try on, and what can be asked of other cells with them.

The same is asked of synthetic cells, of real ones (the floor) and of those with their genes shuffled (the control).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .comparison import MINIMUM_CELLS, shuffle_genes
from .markers import MARKERS, Markers, log_fold_changes, rank_correlation
from .metrics import Matrix, dense
from .type_classifiers import (
    LOGISTIC,
    MACRO_F1,
    LabelTransfer,
    f1_of_types,
    predicted_types,
    train_and_test,
)

# Types with fewer real cells on a side are not asked for; rarer ones are filled up.
LEAST_OF_TYPE = 3
RARE, MOST_RARE = 0.05, 4
ALONE, WITH_COPIES, WITH_SYNTHETIC = AUGMENTATIONS = ("real cells alone", "copies added", "synthetic cells added")
AGREEMENT, COMPOSITION = "agreement", "composition"
OVERLAP, RANKS = "overlap", "rank_correlation"


@dataclass(frozen=True, eq=False)
class TypedCells:
    """Cells, (cell, gene) log values, and a type for each; None where none is known."""

    x: Matrix
    types: np.ndarray | None

    def __len__(self) -> int:
        return self.x.shape[0]

    def rows(self, rows: np.ndarray) -> TypedCells:
        """Those cells, by number or mask."""
        return TypedCells(self.x[rows], None if self.types is None else self.types[rows])

    def drawn(self, count: int, rng: np.random.Generator) -> TypedCells:
        """`count` of them at random, or all; dense."""
        few = self.rows(np.sort(rng.permutation(len(self))[:count]))
        return TypedCells(dense(few.x), few.types)

    def shuffled(self, rng: np.random.Generator) -> TypedCells:
        """With each gene permuted across the cells on its own; they keep their types."""
        return TypedCells(shuffle_genes(dense(self.x), rng), self.types)

    def labelled(self, transfer: LabelTransfer) -> TypedCells:
        """Themselves; where they have no types with those that are transferred to them."""
        return TypedCells(self.x, transfer(self.x)) if self.types is None else self


def stratified_halves(types: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of two halves at random that have half of every type each."""
    order = rng.permutation(len(types))
    order = order[np.argsort(types[order], kind="stable")]
    return np.sort(order[::2]), np.sort(order[1::2])


@dataclass(frozen=True, eq=False)
class RealSplit:
    """Real cells with their types: `fit` is learnt from, `test` is what is learnt tried on."""

    fit: TypedCells
    test: TypedCells
    seed: int = 0

    @cached_property
    def names(self) -> list[str]:
        """The types that are asked for: those with three cells or more on either side."""
        there = [dict(zip(*np.unique(side.types, return_counts=True), strict=True)) for side in (self.fit, self.test)]
        return sorted(
            str(name) for name, count in there[0].items()
            if min(count, there[1].get(name, 0)) >= LEAST_OF_TYPE
        )  # fmt: skip

    @cached_property
    def transfer(self) -> LabelTransfer:
        """Types of the cells that are learnt from, given to others by their neighbours."""
        return LabelTransfer(self.fit.x, self.fit.types, seed=self.seed)

    @cached_property
    def rare(self) -> list[str]:
        """Of `names` those with under 5 % of the cells that are learnt from, the rarest first, four at most."""
        shares = {name: float(np.mean(self.fit.types == name)) for name in self.names}
        return sorted((name for name in shares if shares[name] < RARE), key=lambda name: shares[name])[:MOST_RARE]

    @cached_property
    def _markers(self) -> Markers | None:
        """The markers of types of 20 cells or more; None where they are fewer than two."""
        names = [name for name in self.names if np.sum(self.fit.types == name) >= MINIMUM_CELLS]
        return Markers.find(self.fit.x, self.fit.types, names) if len(names) > 1 else None

    @cached_property
    def _tried(self) -> TypedCells:
        return self.test.rows(np.isin(self.test.types, self.names))

    def classified(self, training: TypedCells) -> Mapping[str, Mapping[str, float]]:
        """`train_and_test` of classifiers trained on those cells, on the test cells of `names`."""
        training = training.rows(np.isin(training.types, self.names))
        return train_and_test(training.x, training.types, self._tried.x, self._tried.types, seed=self.seed)

    def recognised(self, cells: TypedCells, given: np.ndarray | None) -> tuple[dict[str, float], np.ndarray]:
        """(scores by name, the types transferred to the cells); without `given` types there is no agreement.

        Agreement is over cells whose given type the cells that are learnt from have too. Composition is the total
        variation distance, 0 to 1, of the shares of transferred types and of types in the cells that are learnt from.
        """
        found = self.transfer(cells.x)
        names = np.unique(self.fit.types)
        shares = (np.mean(types[:, None] == names, axis=0) for types in (found, self.fit.types))
        scores = {COMPOSITION: 0.5 * float(np.abs(np.subtract(*shares)).sum())}
        if given is not None and (known := np.isin(given, names)).any():
            scores[AGREEMENT] = float(np.mean(found[known] == given[known]))
        return scores, found

    def markers_found(self, cells: TypedCells) -> dict[str, dict[str, float]]:
        """`[OVERLAP or RANKS][type]` for each type that has markers.

        Overlap is the share of its 20 markers among the 20 of `cells`; the rank correlation is of log fold changes over
        the markers of all types.
        """
        if (markers := self._markers) is None:
            return {}
        changes = log_fold_changes(cells.x, cells.types, markers.names)
        there = np.argsort(-changes, axis=1, kind="stable")[:, :MARKERS]
        genes = np.unique(markers.genes)
        overlap, ranks = {}, {}
        for k, name in enumerate(markers.names):
            missing = not changes[k].any()
            overlap[name] = 0.0 if missing else float(np.isin(markers.genes[k], there[k]).mean())
            ranks[name] = rank_correlation(markers.expected[k, genes], changes[k, genes])
        return {OVERLAP: overlap, RANKS: ranks}

    def augmented(self, synthetic: TypedCells, rng: np.random.Generator) -> Augmentation | None:
        """F1 of the logistic classifier as rare types get more cells; None without rare types.

        Each rare type is filled up to the median number of cells of all types: with synthetic cells of it, as far as
        there are, and, for comparison, with as many copies of its own.
        """
        if not self.rare:
            return None
        fit = self.fit.rows(np.isin(self.fit.types, self.names))
        wanted = int(np.median([np.sum(fit.types == name) for name in self.names]))
        added, rows, copied = {}, [], []
        for name in self.rare:
            own, there = np.flatnonzero(fit.types == name), np.flatnonzero(synthetic.types == name)
            chosen = rng.permutation(there)[: max(wanted - len(own), 0)]
            added[name] = len(chosen)
            rows.append(chosen)
            copied.append(rng.choice(own, len(chosen)))
        more = synthetic.rows(np.sort(np.concatenate(rows)))
        copies = fit.rows(np.sort(np.concatenate(copied)))
        values = {}
        for name, extra in ((ALONE, None), (WITH_COPIES, copies), (WITH_SYNTHETIC, more)):
            x, types = dense(fit.x), fit.types
            if extra is not None:
                x, types = np.concatenate([x, dense(extra.x)]), np.concatenate([types, extra.types])
            ((_, predicted),) = predicted_types(x, types, self._tried.x, names=(LOGISTIC,), seed=self.seed)
            f1 = f1_of_types(self._tried.types, predicted, self.names)
            values[name] = {MACRO_F1: float(np.mean(list(f1.values()))), **{of: f1[of] for of in self.rare}}
        return Augmentation(added=added, values=values)


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How many cells of each rare type were `added`, and `values[augmentation][MACRO_F1 or type]`, F1 scores."""

    added: Mapping[str, int]
    values: Mapping[str, Mapping[str, float]]


def real_splits(
    training: TypedCells | None, held_out: TypedCells, *, seed: int, repeats: int, max_cells: int
) -> Iterator[tuple[RealSplit, np.random.Generator]]:
    """Training cells to learn from and held-out ones to try on, or halves of those; with random numbers for each."""
    for repeat in range(repeats):
        rng = np.random.default_rng([seed, 21, repeat])
        if training is not None:
            fit, test = training.drawn(max_cells, rng), held_out
        else:
            fit, test = (held_out.rows(rows) for rows in stratified_halves(held_out.types, rng))
        yield RealSplit(fit, test, seed=seed), rng
