"""What derived variables are found from: principal-component scores and numbers of expressed genes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.linalg import eigh

from ...io.backed import BackedMatrix
from ...io.checking import Matrix, row_blocks
from ...registry import DERIVED

PREFIX = "scrdit_"
COMPONENTS = 20
# One cluster or bin for so many training cells at most.
CELLS_FOR_EACH = 24
# Principal axes are fitted on so many values of the training cells at most; all cells are then projected on them.
MOST_VALUES = 1 << 27


class CellView(NamedTuple):
    """What is known of all cells: PC `scores` (cell, component) float64 and expressed `genes` (cell,).

    `training` (n,) are the rows of the training cells, which alone decide; `sample` those of them that the axes were
    fitted on. `rng` is the one generator of all variables, in the order in which they are asked for.
    """

    scores: np.ndarray
    genes: np.ndarray
    training: np.ndarray
    sample: np.ndarray
    rng: np.random.Generator


@dataclass(frozen=True)
class Derived:
    """A kind of derived variable.

    `find(cells, count)` gives codes (cell,) from 0 on by the name of their column, which begins with `scrdit_`;
    `count` is what was asked for. `title` names the categories in sentences, in the plural. Cells of one category of a
    `coarse` variable have library sizes of their own.
    """

    title: str
    find: Callable[[CellView, int], dict[str, np.ndarray]]
    coarse: bool = False


def is_derived(column: str) -> bool:
    """Whether `column` of obs is named as those that `derive` gives."""
    return column.startswith(PREFIX)


def derive(
    x: Matrix, held_out: np.ndarray, wanted: Mapping[str, int], *, seed: int
) -> dict[str, dict[str, pd.Categorical]]:
    """For each kind in `wanted` its variables: a category, a number in words, for each cell of `x`, by column.

    `x` is (cell, gene) on the log scale, `held_out` (cell,) bool. Training cells alone decide; for few of them there
    are fewer categories. Raises BadConfig for a kind there is not, or a count it cannot have.
    """
    derivation = Derivation(held_out, x.shape[1], wanted, seed=seed)
    sample = derivation.sample
    derivation.fit((x.take(sample) if isinstance(x, BackedMatrix) else x[sample]).toarray())
    for block in row_blocks(x):
        derivation.update(block)
    return derivation.variables()


class Derivation:
    """`derive` for cells that come in blocks: `fit` on the rows of `sample`, `update` by all, then `variables`."""

    def __init__(self, held_out: np.ndarray, genes: int, wanted: Mapping[str, int], *, seed: int) -> None:
        """Of cells of so many `genes`; the other arguments are those of `derive`."""
        self._wanted, self._rng, self._training = wanted, np.random.default_rng(seed), np.flatnonzero(~held_out)
        most = max(MOST_VALUES // genes, max(wanted.values()) * CELLS_FOR_EACH)
        self.sample = np.sort(self._rng.permutation(self._training)[:most])
        self._scores: list[np.ndarray] = []
        self._expressed: list[np.ndarray] = []

    def fit(self, cells: np.ndarray) -> None:
        """Find the principal axes of the rows of `sample`, (cell, gene)."""
        self._scores_of = _projection(cells)

    def update(self, block: Matrix) -> None:
        """Take in the next rows, held-out ones too."""
        self._scores.append(self._scores_of(_dense(block)))
        self._expressed.append(np.asarray((block > 0).sum(axis=1)).ravel())

    def variables(self) -> dict[str, dict[str, pd.Categorical]]:
        """What `derive` returns, once all rows were taken in."""
        scores, expressed = np.concatenate(self._scores), np.concatenate(self._expressed)
        cells = CellView(scores, expressed, self._training, self.sample, self._rng)
        return {
            kind: {column: _categories(codes) for column, codes in DERIVED[kind].find(cells, count).items()}
            for kind, count in self._wanted.items()
        }


def equally_frequent(values: np.ndarray, training: np.ndarray, most: int) -> np.ndarray:
    """For each of `values` (cell,) the number of its bin, of which those of `training` have equally many cells."""
    known = values[training]
    bins = max(1, min(most, len(known) // CELLS_FOR_EACH))
    edges = np.unique(np.quantile(known, np.arange(1, bins) / bins, method="lower"))
    return np.searchsorted(edges[edges < known.max()], values)


def _projection(cells: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A function: cells (cell, gene) -> scores (cell, component) along the principal axes of `cells`, largest first."""
    mean = cells.mean(axis=0)
    axes = principal_axes(cells - mean, min(COMPONENTS, len(cells) - 1, cells.shape[1] - 1))
    return lambda block: ((block - mean) @ axes).astype(np.float64)


def principal_axes(centred: np.ndarray, components: int) -> np.ndarray:
    """(gene, component): unit vectors along which `centred` (cell, gene) varies most; fewer where it does not vary."""
    cells, genes = centred.shape
    if components < 1:
        return np.zeros((genes, 0), centred.dtype)
    gram = centred.T @ centred if genes <= cells else centred @ centred.T
    values, vectors = eigh(gram, subset_by_index=[len(gram) - components, len(gram) - 1])
    kept = values > 1e-6 * max(values[-1], 1e-30)
    vectors = vectors[:, kept] if genes <= cells else centred.T @ vectors[:, kept]
    return (vectors / np.linalg.norm(vectors, axis=0))[:, ::-1]


def _categories(codes: np.ndarray) -> Any:
    return pd.Categorical.from_codes(codes, pd.Index([str(i) for i in range(codes.max() + 1)]))


def _dense(block: Matrix) -> np.ndarray:
    return block.toarray() if hasattr(block, "toarray") else np.asarray(block)
