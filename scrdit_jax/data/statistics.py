"""Sums over cells and genes that preparing rests on, each of a block of rows, and added up.

    sum(map(GeneMoments.of, blocks))      as    GeneMoments.of(all rows)

so that one pass over cells on a disk yields all that does not depend on the pass before it. float64 throughout.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import NamedTuple

import numpy as np
from scipy import sparse

from ..io import checking
from ..io.backed import Cells
from ..io.checking import Matrix, SourceDigest, require_finite, row_blocks, stored

# exp() of more overflows float32, and no log of an expression is near it: such values were never on a log scale.
LARGEST_LOG = 80.0
PSEUDO_CELLS = 10.0


@dataclass(frozen=True)
class CellStatistics:
    """Of each cell, from all of its values: their `library_size` (cell,) float64, and three masks (cell,).

    `whole`: all values are non-negative whole numbers; `expressed`: one at least is not zero; `negative`: one is below.
    """

    library_size: np.ndarray
    whole: np.ndarray
    expressed: np.ndarray
    negative: np.ndarray

    @classmethod
    def of(cls, block: Matrix) -> CellStatistics:
        """The statistics of the rows of `block`."""
        values = block.data if sparse.issparse(block) else block
        library_size = np.asarray(block.sum(axis=1, dtype=np.float64)).ravel()
        whole = ~_rows_with((values < 0) | (values != np.floor(values)), block)
        return cls(library_size, whole, _rows_with(values != 0, block), _rows_with(values < 0, block))

    @classmethod
    def join(cls, parts: Sequence[CellStatistics]) -> CellStatistics:
        """Those of the cells of all parts, in order."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))

    @classmethod
    def of_all(cls, x: Matrix) -> CellStatistics:
        """Of all rows of `x`, in one pass."""
        return cls.join([cls.of(block) for block in row_blocks(x)])

    @property
    def are_counts(self) -> bool:
        """Whether all values are non-negative whole numbers and not all are zero."""
        return bool(self.whole.all() and self.expressed.any())

    def __getitem__(self, mask: np.ndarray) -> CellStatistics:
        """Those of the cells of a mask."""
        return CellStatistics(*(getattr(self, name)[mask] for name in self.__dataclass_fields__))


def survey(cells: Cells, source: str) -> tuple[str, CellStatistics]:
    """The digest of checked `cells` and the statistics of each, in one pass; BadInput where a value is not finite."""
    digest, parts, first = SourceDigest(cells), [], 0
    for block in row_blocks(cells.X):
        require_finite(block, cells.obs_names[first : first + block.shape[0]], cells.var_names, source)
        digest.update(block)
        parts.append(CellStatistics.of(block))
        first += block.shape[0]
    return digest.hexdigest(), CellStatistics.join(parts)


@dataclass(frozen=True)
class GeneMoments:
    """Of each gene over `cells` cells its `mean` and the sum of `squares` of deviations from it, (gene,) each."""

    cells: int
    mean: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, genes: np.ndarray, shape: tuple[int, int]) -> GeneMoments:
        """Of a block of this (cell, gene) shape with these `values` of these `genes`, and zeros."""
        cells, n_genes = shape
        mean = np.bincount(genes, weights=values, minlength=n_genes) / cells
        squares = np.bincount(genes, weights=(values - mean[genes]) ** 2, minlength=n_genes)
        zeros = cells - np.bincount(genes, minlength=n_genes)
        return cls(cells, mean, squares + zeros * mean**2)

    def __add__(self, other: GeneMoments) -> GeneMoments:
        """Of the cells of both (Chan, Golub & LeVeque 1983, eq. 2.1): no digits are lost where little varies."""
        cells = self.cells + other.cells
        apart = other.mean - self.mean
        mean = self.mean + apart * (other.cells / cells)
        return GeneMoments(cells, mean, self.squares + other.squares + apart**2 * (self.cells * other.cells / cells))

    def __getitem__(self, genes: np.ndarray) -> GeneMoments:
        """Those of the genes of these numbers."""
        return GeneMoments(self.cells, self.mean[genes], self.squares[genes])

    @property
    def variance(self) -> np.ndarray:
        """Of the population (divided by n), (gene,)."""
        return self.squares / self.cells


@dataclass(frozen=True)
class SelectionStatistics:
    """What genes are chosen by, of each gene: in how many cells it is `expressing`, whether a value is `large` (above
    LARGEST_LOG), and the moments of x (`logs`) and of exp(x) - 1 (`linear`)."""

    expressing: np.ndarray
    large: np.ndarray
    logs: GeneMoments
    linear: GeneMoments

    @classmethod
    def of(cls, block: Matrix) -> SelectionStatistics:
        """Of a block of cells on the natural log scale."""
        values, genes, shape = *stored(block), block.shape
        large = np.zeros(shape[1], dtype=bool)
        large[genes[values > LARGEST_LOG]] = True
        with np.errstate(over="ignore", invalid="ignore"):
            linear = GeneMoments.of(np.expm1(values).astype(np.float64), genes, shape)
        logs = GeneMoments.of(values.astype(np.float64), genes, shape)
        return cls(np.bincount(genes[values > 0], minlength=shape[1]), large, logs, linear)

    @classmethod
    def of_all(cls, x: Matrix) -> SelectionStatistics:
        """Of all rows of `x`, in one pass."""
        return reduce(add, map(cls.of, row_blocks(x)))

    def __add__(self, other: SelectionStatistics) -> SelectionStatistics:
        """Of the cells of both."""
        with np.errstate(invalid="ignore"):
            linear = self.linear + other.linear
        return SelectionStatistics(
            self.expressing + other.expressing, self.large | other.large, self.logs + other.logs, linear
        )


@dataclass(frozen=True)
class ValueSums:
    """Over the values that are not zero: their `total`, and of each gene how many cells are `expressing` it, the `sums`
    of values, the `least` (inf where there is none) and the `greatest`."""

    cells: int
    total: float
    expressing: np.ndarray
    sums: np.ndarray
    least: np.ndarray
    greatest: np.ndarray

    @classmethod
    def of(cls, block: Matrix) -> ValueSums:
        """Of a block of cells on the log scale."""
        (data, genes), (cells, n_genes) = stored(block), block.shape
        values = data.astype(np.float64)
        least, greatest = np.full(n_genes, np.inf), np.zeros(n_genes)
        np.minimum.at(least, genes, values)
        np.maximum.at(greatest, genes, values)
        expressing = np.bincount(genes, minlength=n_genes)
        sums = np.bincount(genes, weights=values, minlength=n_genes)
        return cls(cells, float(np.sum(values)), expressing, sums, least, greatest)

    @classmethod
    def of_all(cls, x: Matrix) -> ValueSums:
        """Of all rows of `x`, in one pass."""
        return reduce(add, map(cls.of, row_blocks(x)))

    def __add__(self, other: ValueSums) -> ValueSums:
        """Of the cells of both."""
        return ValueSums(
            self.cells + other.cells,
            self.total + other.total,
            self.expressing + other.expressing,
            self.sums + other.sums,
            np.minimum(self.least, other.least),
            np.maximum(self.greatest, other.greatest),
        )

    def centres(self, zero_value: float) -> Centres:
        """What squares are taken about, a zero counting as `zero_value` in the mean of all entries."""
        there = int(self.expressing.sum())
        zeros = self.cells * len(self.expressing) - there
        overall = self.sums.sum() / max(there, 1)
        genes = (self.sums + PSEUDO_CELLS * overall) / (self.expressing + PSEUDO_CELLS)
        mean = (self.total + zeros * zero_value) / (zeros + there)
        return Centres(mean, zeros * (zero_value - mean) ** 2, overall, genes)


class Centres(NamedTuple):
    """The `mean` of all entries and the `zeros`' sum of squares about it; of expressed values the mean `overall` and
    those of `genes` (gene,), drawn towards it as if PSEUDO_CELLS more had been seen."""

    mean: float
    zeros: float
    overall: float
    genes: np.ndarray


@dataclass(frozen=True)
class ValueSquares:
    """Sums of squared deviations from Centres: of all entries from `mean`, of expressed values from `overall` and, of
    each gene, from `genes` (gene,). A second pass, since E[x^2] - E[x]^2 loses its digits where little varies."""

    mean: float
    overall: float
    genes: np.ndarray

    @classmethod
    def before(cls, centres: Centres) -> ValueSquares:
        """Before the first cell: the zeros of all are known."""
        return cls(centres.zeros, 0.0, np.zeros(len(centres.genes)))

    @classmethod
    def of(cls, block: Matrix, centres: Centres) -> ValueSquares:
        """Of the expressed values in a block of cells on the log scale."""
        data, genes = stored(block)
        values = data.astype(np.float64)
        of_genes = np.bincount(genes, weights=(values - centres.genes[genes]) ** 2, minlength=block.shape[1])
        mean = float(np.sum((values - centres.mean) ** 2))
        return cls(mean, float(np.sum((values - centres.overall) ** 2)), of_genes)

    @classmethod
    def of_all(cls, blocks: Iterable[Matrix], centres: Centres) -> ValueSquares:
        """Of all blocks."""
        return reduce(add, (cls.of(block, centres) for block in blocks), cls.before(centres))

    def __add__(self, other: ValueSquares) -> ValueSquares:
        """Of the cells of both."""
        return ValueSquares(self.mean + other.mean, self.overall + other.overall, self.genes + other.genes)


def reblocked(parts: Iterable[sparse.csr_matrix]) -> Iterator[sparse.csr_matrix]:
    """The rows of all parts in blocks like those of `row_blocks`, so that sums over them are the same to the bit."""
    waiting: sparse.csr_matrix | None = None
    for part in parts:
        waiting = part if waiting is None else sparse.vstack([waiting, part], format="csr")
        while waiting.shape[0] >= checking.ROWS_PER_BLOCK:
            yield waiting[: checking.ROWS_PER_BLOCK]
            waiting = waiting[checking.ROWS_PER_BLOCK :]
    if waiting is not None and waiting.shape[0]:
        yield waiting


def _rows_with(mask: np.ndarray, block: Matrix) -> np.ndarray:
    """(row,) bool: whether the mask over the (stored) values of `block` is true for one of the row's."""
    if not sparse.issparse(block):
        return mask.any(axis=1)
    rows = np.zeros(block.shape[0], dtype=bool)
    rows[np.repeat(np.arange(len(rows)), np.diff(block.indptr))[mask]] = True
    return rows
