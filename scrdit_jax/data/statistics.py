"""Sums over cells and genes that preparing rests on, each of a block of rows, and added up.

    sum(map(GeneStatistics.of, blocks))      as    GeneStatistics.of(all rows)

so that one pass over cells on a disk yields all that they are prepared by. float64 throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy import sparse

from ..io import checking
from ..io.backed import Cells, to_log_scale
from ..io.checking import Matrix, SourceDigest, canonical, require_finite, row_blocks

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


class Survey(NamedTuple):
    """What one pass over cells finds: their digest, the statistics of each, those of the genes over training cells, and
    the sum that each cell was scaled to for these, before the logarithm (None: left as it was)."""

    digest: str
    cells: CellStatistics
    genes: GeneStatistics
    target_sum: float | None


def survey(
    cells: Cells,
    training: np.ndarray,
    target_sum_of: Callable[[CellStatistics], float | None],
    *,
    linear: bool,
    source: str,
) -> Survey:
    """Go through checked `cells` once. BadInput where a value is not finite.

    The genes' statistics are over those cells of the mask `training` (cell,) that express anything, on the log scale.
    Whether they are brought there is decided by the first block, which `target_sum_of` is given the statistics of: who
    finds later that it was wrong has to go through the cells again. `linear` as GeneStatistics.
    """
    digest, parts = SourceDigest(cells), []
    target_sum: float | None = None

    def on_log_scale() -> Iterator[sparse.csr_matrix]:
        nonlocal target_sum
        first = 0
        for block in row_blocks(cells.X):
            here = slice(first, first := first + block.shape[0])
            require_finite(block, cells.obs_names[here], cells.var_names, source)
            block = canonical(sparse.csr_matrix(block, dtype=np.float32))
            digest.update(block)
            found = CellStatistics.of(block)
            if not parts:
                target_sum = target_sum_of(found)
            parts.append(found)
            wanted = training[here] & (found.library_size > 0)
            rows = block[wanted]
            if target_sum is not None:
                to_log_scale(rows, (target_sum / found.library_size[wanted]).astype(np.float32))
            yield rows

    genes = GeneStatistics.of_blocks(reblocked(on_log_scale()), cells.n_vars, linear=linear)
    return Survey(digest.hexdigest(), CellStatistics.join(parts), genes, target_sum)


@dataclass(frozen=True)
class GeneMoments:
    """Of each gene over `cells` cells, a number or (gene,), its `mean` and the sum of `squares` of deviations from it,
    (gene,) each."""

    cells: int | np.ndarray
    mean: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, cells: np.ndarray) -> GeneMoments:
        """Of `values` in the order of their genes, of which `cells` (gene,) have one each."""
        mean = _divided(_sums(values, cells), cells)
        return cls(cells, mean, _sums((values - np.repeat(mean, cells)) ** 2, cells))

    def __add__(self, other: GeneMoments) -> GeneMoments:
        """Of the cells of both (Chan, Golub & LeVeque 1983, eq. 2.1): no digits are lost where little varies."""
        cells = self.cells + other.cells
        apart, share = other.mean - self.mean, _divided(other.cells, cells)
        return GeneMoments(
            cells, self.mean + apart * share, self.squares + other.squares + apart**2 * (self.cells * share)
        )

    def __getitem__(self, genes: np.ndarray) -> GeneMoments:
        """Those of the genes of these numbers."""
        cells = self.cells[genes] if isinstance(self.cells, np.ndarray) else self.cells
        return GeneMoments(cells, self.mean[genes], self.squares[genes])

    def among(self, cells: int) -> GeneMoments:
        """Those over so many `cells`, of which the others have zeros."""
        zeros = cells - self.cells
        nothing = np.zeros_like(self.mean)
        return replace(self + GeneMoments(zeros, nothing, nothing), cells=cells)

    def about(self, centre: float | np.ndarray) -> np.ndarray:
        """Sums of squared deviations from `centre`, a number or (gene,)."""
        return self.squares + self.cells * (self.mean - centre) ** 2

    @property
    def sums(self) -> np.ndarray:
        """The sum of each gene's values."""
        return self.mean * self.cells

    @property
    def variance(self) -> np.ndarray:
        """Of the population (divided by n), (gene,)."""
        return self.squares / self.cells


@dataclass(frozen=True)
class GeneStatistics:
    """What genes are chosen by and a model starts from, of each gene over `cells` cells on the natural log scale: the
    moments of the `values` of those that express it, the `least` (inf where there is none) and the `greatest` of these,
    and, where wanted, the moments of exp(x) - 1 over all cells (`linear`)."""

    cells: int
    values: GeneMoments
    least: np.ndarray
    greatest: np.ndarray
    linear: GeneMoments | None = None

    @classmethod
    def of(cls, block: Matrix, *, linear: bool = True) -> GeneStatistics:
        """Of a block of cells."""
        (n, genes), by_gene = block.shape, canonical(sparse.csr_matrix(block)).tocsc()
        cells = np.diff(by_gene.indptr).astype(np.int64)
        least, greatest = np.full(genes, np.inf), np.zeros(genes)
        if by_gene.nnz:
            starts = by_gene.indptr[:-1][cells > 0]
            least[cells > 0] = np.minimum.reduceat(by_gene.data, starts)
            greatest[cells > 0] = np.maximum.reduceat(by_gene.data, starts)
        exponentials = None
        if linear:
            with np.errstate(over="ignore", invalid="ignore"):
                exponentials = GeneMoments.of(np.expm1(by_gene.data).astype(np.float64), cells).among(n)
        return cls(n, GeneMoments.of(by_gene.data.astype(np.float64), cells), least, greatest, exponentials)

    @classmethod
    def of_blocks(cls, blocks: Iterable[Matrix], genes: int, *, linear: bool = True) -> GeneStatistics:
        """Of all blocks, of so many genes; of no cells where there is none."""
        found = [cls.of(sparse.csr_matrix((0, genes), dtype=np.float32), linear=linear)]
        for block in blocks:
            found = [found[0] + cls.of(block, linear=linear)]
        return found[0]

    @classmethod
    def of_all(cls, x: Matrix, *, linear: bool = True) -> GeneStatistics:
        """Of all rows of `x`, in one pass."""
        return cls.of_blocks(row_blocks(x), x.shape[1], linear=linear)

    def __add__(self, other: GeneStatistics) -> GeneStatistics:
        """Of the cells of both."""
        linear = None
        if self.linear is not None and other.linear is not None:
            with np.errstate(invalid="ignore"):
                linear = self.linear + other.linear
        return GeneStatistics(
            self.cells + other.cells,
            self.values + other.values,
            np.minimum(self.least, other.least),
            np.maximum(self.greatest, other.greatest),
            linear,
        )

    def __getitem__(self, genes: np.ndarray) -> GeneStatistics:
        """Those of the genes of these numbers, in their order."""
        linear = None if self.linear is None else self.linear[genes]
        return GeneStatistics(self.cells, self.values[genes], self.least[genes], self.greatest[genes], linear)

    @property
    def expressing(self) -> np.ndarray:
        """In how many cells each gene is expressed, (gene,) int64."""
        return self.values.cells

    @property
    def large(self) -> np.ndarray:
        """Which genes have a value above LARGEST_LOG, (gene,) bool."""
        return self.greatest > LARGEST_LOG

    @property
    def logs(self) -> GeneMoments:
        """The moments over all cells."""
        return self.values.among(self.cells)

    @property
    def zeros(self) -> int:
        """How many entries are zero."""
        return self.cells * len(self.least) - int(self.expressing.sum())

    def mean(self, zero_value: float) -> float:
        """Of all entries, a zero counting as `zero_value`."""
        return (float(self.values.sums.sum()) + self.zeros * zero_value) / (self.cells * len(self.least))

    def variance(self, zero_value: float) -> float:
        """Of all entries, a zero counting as `zero_value`; divided by their number."""
        mean = self.mean(zero_value)
        squares = float(self.values.about(mean).sum()) + self.zeros * (zero_value - mean) ** 2
        return squares / (self.cells * len(self.least))


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


def _sums(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The sums of so many `values` each, one after another; float64, 0 where there is none."""
    sums, there = np.zeros(len(counts)), counts > 0
    if len(values):
        sums[there] = np.add.reduceat(values, (np.cumsum(counts) - counts)[there])
    return sums


def _divided(values: np.ndarray | int, by: np.ndarray | int) -> np.ndarray:
    """values / by, 0 where both are 0."""
    return np.divide(values, by, out=np.zeros(np.broadcast(values, by).shape), where=np.asarray(by) > 0)


def _rows_with(mask: np.ndarray, block: Matrix) -> np.ndarray:
    """(row,) bool: whether the mask over the (stored) values of `block` is true for one of the row's."""
    if not sparse.issparse(block):
        return mask.any(axis=1)
    if mask.all():
        return np.diff(block.indptr) > 0
    if not mask.any():
        return np.zeros(block.shape[0], dtype=bool)
    rows = np.zeros(block.shape[0], dtype=bool)
    rows[np.repeat(np.arange(len(rows)), np.diff(block.indptr))[mask]] = True
    return rows
