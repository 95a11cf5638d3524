"""Whether the genes that set a cell type apart do so in synthetic cells too. Matrices are (cell, gene) log values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from .comparison import CANDIDATES, MINIMUM_CELLS, Estimate, halves, shuffle_genes
from .metrics import Matrix, gene_means, pearson

MARKERS = 20
CORRELATION, ERROR = "correlation", "error"


def log_fold_changes(cells: Matrix, types: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """Mean log value of each gene in cells of a type less that in all others, (name, gene) for each of `names`.

    In units of the data's own logarithm: the log fold change of geometric means of 1 + value. A type without cells, or
    with all of them, has 0: whoever leaves a type out has not kept what sets it apart.
    """
    types, changes = np.asarray(types, dtype=str), np.zeros((len(names), cells.shape[1]))
    for row, name in enumerate(names):
        inside = types == name
        if inside.any() and not inside.all():
            changes[row] = gene_means(cells[inside]) - gene_means(cells[~inside])
    return changes


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's, with mean ranks for ties; 0 where one side is constant."""
    return pearson(rankdata(x), rankdata(y))


@dataclass(frozen=True, eq=False)
class Markers:
    """Of each cell type of `names` the log fold change of every gene, `expected` (type, gene), and the `genes` that
    mark it, (type, marker) column numbers, the largest change first."""

    names: tuple[str, ...]
    expected: np.ndarray
    genes: np.ndarray

    @classmethod
    def find(cls, cells: Matrix, types: Sequence[str], names: Sequence[str], *, count: int = MARKERS) -> Markers:
        """The `count` genes of the largest log fold change of each type."""
        expected = log_fold_changes(cells, types, names)
        return cls(tuple(names), expected, np.argsort(-expected, axis=1, kind="stable")[:, :count])

    def kept(self, cells: Matrix, types: Sequence[str]) -> tuple[float, float]:
        """(Pearson correlation, mean absolute difference) of other cells' changes and the expected, at the markers.

        Over all (type, marker) pairs together; the correlation is 0 where one side is constant.
        """
        changes = log_fold_changes(cells, types, self.names)
        x, y = (np.take_along_axis(side, self.genes, axis=1).ravel() for side in (self.expected, changes))
        return pearson(x, y), float(np.abs(x - y).mean())


@dataclass(frozen=True, kw_only=True)
class MarkerScores:
    """`values["correlation" or "error"][candidate]` of the markers of `types`, over repeated splits."""

    types: tuple[str, ...]
    cells_per_side: int
    values: Mapping[str, Mapping[str, Estimate]]


def score_markers(
    real: np.ndarray,
    real_types: np.ndarray,
    synthetic: np.ndarray,
    synthetic_types: np.ndarray,
    *,
    seed: int = 0,
    repeats: int = 5,
) -> MarkerScores | None:
    """How far synthetic cells, the other half of the real ones and that half shuffled keep the markers of one half.

    Types are those with 20 real cells or more; None where they are fewer than two. Every side has the same number of
    cells, half the real ones at most.
    """
    names, counts = np.unique(real_types, return_counts=True)
    names = [str(name) for name in names[counts >= MINIMUM_CELLS]]
    if len(names) < 2:
        return None
    size, found = min(len(real) // 2, len(synthetic)), []
    for repeat in range(repeats):
        rng = np.random.default_rng([seed, 5, repeat])
        reference, other = halves(len(real), rng, size=size)
        drawn = rng.permutation(len(synthetic))[:size]
        markers = Markers.find(real[reference], real_types[reference], names)
        found.append(
            (
                markers.kept(synthetic[drawn], synthetic_types[drawn]),
                markers.kept(real[other], real_types[other]),
                markers.kept(shuffle_genes(real[other], rng), real_types[other]),
            )
        )
    values = {
        score: {name: Estimate.of([scores[c][k] for scores in found]) for c, name in enumerate(CANDIDATES)}
        for k, score in enumerate((CORRELATION, ERROR))
    }
    return MarkerScores(types=tuple(names), cells_per_side=size, values=values)
