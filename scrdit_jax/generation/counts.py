"""Raw counts of synthetic cells: whole numbers, with library sizes as the training cells have them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from ..config import SamplingConfig
from ..errors import BadConfig
from ..families import Trained, models_of
from .conditions import states_of


@dataclass(frozen=True, eq=False)
class CountSampler:
    """How counts are drawn, with the library size that a cell has, or, with `depth`, with that for every cell.

    `target_sum` is what log1p was taken after; None where that is not known: the values are then read as log1p of
    something proportional, and `depth` is over the model's genes. `whole`: cells are log1p of whole counts already.
    """

    target_sum: float | None
    depth: float | None
    seed: int
    whole: bool = False

    def draw(
        self, cells: sparse.csr_matrix, first: int, library_size: np.ndarray
    ) -> tuple[sparse.csr_matrix, np.ndarray]:
        """Counts (cell, gene) int32 and library sizes (cell,) float32 of log `cells`, the first of index `first`.

        A count is library_size / target_sum * expm1(x). Where that is no whole number already, it is rounded up with
        the probability of its fraction, so that its mean is exact: E[count] = that value; and values that add up to
        more than target_sum, which those of a real cell cannot, count as shares of their sum. The library size is over
        all genes of the file that was trained on, of which the model has some. Every number drawn depends on the seed
        and the cell's index alone.
        """
        library = library_size if self.depth is None else np.full(cells.shape[0], self.depth, np.float32)
        per_cell, target = np.diff(cells.indptr), self.target_sum or 0.0
        expressed = np.expm1(cells.data.astype(np.float64))
        if self.whole:
            whole = np.rint(expressed * np.repeat(library / target, per_cell))
        else:
            sums = np.add.reduceat(np.append(expressed, 0.0), cells.indptr[:-1]) * (per_cell > 0)
            exact = expressed * np.repeat(library / np.where(sums > 0, np.maximum(sums, target), 1.0), per_cell)
            whole = np.floor(exact + self._uniform(cells, first))
        counts = sparse.csr_matrix((whole.astype(np.int32), cells.indices.copy(), cells.indptr.copy()), cells.shape)
        counts.eliminate_zeros()
        return counts, library.astype(np.float32)

    def _uniform(self, cells: sparse.csr_matrix, first: int) -> np.ndarray:
        """One number in [0, 1) for each value of `cells`, by the cells' indices."""
        uniform = np.empty(cells.nnz)
        for i in range(cells.shape[0]):
            start, end = cells.indptr[i], cells.indptr[i + 1]
            # Raw words, so that they are the same in every version of NumPy; 53 bits make a float64 in [0, 1).
            words = np.random.Philox(key=[self.seed % 2**64, first + i]).random_raw(end - start)
            uniform[start:end] = (words >> np.uint64(11)) * 2.0**-53
        return uniform


def make_count_sampler(trained: Trained, sampling: SamplingConfig) -> CountSampler | None:
    """None unless `sampling` wants counts; BadConfig where the training cells do not say how to make them."""
    if sampling.output != "counts":
        return None
    models = models_of(trained)
    states = states_of(models[0])
    has_sizes = all(states_of(model).library_size is not None for model in models)
    if sampling.depth is None and (states.target_sum is None or not has_sizes):
        raise BadConfig(
            f"{models[0].metadata.source} held no raw counts, so the cells' library sizes are not known; "
            "say how many counts each cell is to have, e.g. --depth 10000"
        )
    whole = sampling.depth is None and sampling.guidance != 0 and states.whole_counts
    return CountSampler(states.target_sum, sampling.depth, sampling.seed, whole)
