"""Whether the genes that set a cell type apart do so in synthetic cells too. Matrices are (cells, genes) log values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .metrics import Matrix, gene_means, pearson

MARKERS = 20


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


def top_markers(changes: np.ndarray, count: int = MARKERS) -> np.ndarray:
    """The `count` genes of the largest log fold change of each type, (type, count) column numbers, largest first."""
    return np.argsort(-changes, axis=1, kind="stable")[:, :count]


def markers_kept(expected: np.ndarray, found: np.ndarray, markers: np.ndarray) -> tuple[float, float]:
    """(Pearson correlation, mean absolute difference) of `found` and `expected` log fold changes at the markers.

    Over all (type, marker) pairs together; the correlation is 0 where one side is constant.
    """
    x, y = (np.take_along_axis(changes, markers, axis=1).ravel() for changes in (expected, found))
    return pearson(x, y), float(np.abs(x - y).mean())
