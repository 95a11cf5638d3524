"""Counts from log expression: a library size for each cell, the log scale undone, rounded at random."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from ..conditioning.assignment import Assignment
from ..conditioning.table import ConditionTable
from ..config import SamplingConfig
from ..errors import BadConfig
from ..families import Trained, models_of
from ..registry import DERIVED


@dataclass(frozen=True, eq=False)
class CountSampler:
    """How counts are drawn. `pools` hold, for each row of an assignment's conditions, the library sizes of the training
    cells of that cell type and of those derived categories that differ in depth; with `depth` every cell has that one.
    `target_sum` is what log1p was taken after; None where that is not known: the values are then read as log1p of
    something proportional, and `depth` is over the model's genes.
    """

    pools: tuple[np.ndarray, ...]
    target_sum: float | None
    depth: float | None
    seed: int

    def draw(self, cells: sparse.csr_matrix, first: int, rows: np.ndarray) -> tuple[sparse.csr_matrix, np.ndarray]:
        """Counts (cell, gene) int32 and library sizes (cell,) float32 of log `cells`, the first of index `first`.

        A count is library_size / target_sum * expm1(x), rounded up with the probability of its fraction, so that its
        mean is exact: E[count] = that value. Values that add up to more than target_sum, which those of a real cell
        cannot, count as shares of their sum. The library size is over all genes of the file that was trained on, of
        which the model has some. Every number drawn depends on the seed and the cell's index alone. `rows` (cell,)
        say which pool is a cell's.
        """
        library = np.empty(cells.shape[0], np.float32)
        uniform = np.empty(cells.nnz)
        for i, row in enumerate(rows):
            start, end = cells.indptr[i], cells.indptr[i + 1]
            # Raw words, so that they are the same in every version of NumPy; 53 bits make a float64 in [0, 1).
            words = np.random.Philox(key=[self.seed % 2**64, first + i]).random_raw(1 + end - start)
            numbers = (words >> np.uint64(11)) * 2.0**-53
            pool = self.pools[row]
            library[i] = self.depth if self.depth is not None else pool[int(numbers[0] * len(pool))]
            uniform[start:end] = numbers[1:]
        per_cell = np.diff(cells.indptr)
        expressed = np.expm1(cells.data.astype(np.float64))
        sums = np.add.reduceat(np.append(expressed, 0.0), cells.indptr[:-1]) * (per_cell > 0)
        totals = np.where(sums > 0, np.maximum(sums, self.target_sum or 0.0), 1.0)
        exact = expressed * np.repeat(library / totals, per_cell)
        values = np.floor(exact + uniform).astype(np.int32)
        counts = sparse.csr_matrix((values, cells.indices.copy(), cells.indptr.copy()), shape=cells.shape)
        counts.eliminate_zeros()
        return counts, library


def make_count_sampler(trained: Trained, sampling: SamplingConfig, assignment: Assignment) -> CountSampler | None:
    """None unless `sampling` wants counts; BadConfig where the training cells do not say how to make them."""
    if sampling.output != "counts":
        return None
    metadata, table = models_of(trained)[0].metadata, trained.conditions
    known = metadata.normalization
    target_sum = known.target_sum if known.method == "log1p" else None
    if sampling.depth is not None:
        pools = (np.empty(0, np.float32),) * len(assignment.codes)
        return CountSampler(pools, target_sum, sampling.depth, sampling.seed)
    if target_sum is None or not known.were_counts or table is None:
        raise BadConfig(
            f"{metadata.source} held no raw counts, so the cells' library sizes are not known; "
            "say how many counts each cell is to have, e.g. --depth 10000"
        )
    return CountSampler(_pools(table, assignment), target_sum, None, sampling.seed)


def _pools(table: ConditionTable, assignment: Assignment) -> tuple[np.ndarray, ...]:
    """For each row of the assignment; the same array where rows do not differ in what decides the depth."""
    places = []
    if assignment.codes.shape[1]:
        places = [int(table.observed[table.type_place])] if len(table.observed) else []
        places += [int(i) for i in table.derived if DERIVED[table.variables[i].source].coarse]
    distinct, which = np.unique(assignment.codes[:, places], axis=0, return_inverse=True)
    pools = [table.library_sizes(dict(zip(places, codes, strict=True))) for codes in distinct]
    return tuple(pools[i] for i in which.ravel())
