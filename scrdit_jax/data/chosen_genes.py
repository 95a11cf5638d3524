"""What a model starts from, found in the cells with the chosen genes, in one pass over them at most."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy import sparse

from ..conditioning.derived import CellView
from ..conditioning.state import StateFit, StateSpace
from ..config import DataConfig
from ..io.backed import BackedMatrix, rows_of
from ..io.checking import row_blocks
from .marginals import marginals_of
from .quantiles import gene_quantiles, sampled_cells
from .scaling import Scaling
from .statistics import GeneStatistics


class Fitted(NamedTuple):
    """The scaling and the marginals (gene, 3) of the training cells, and what states are made of, with those of all
    cells, (cell, column) float32."""

    scaling: Scaling
    marginals: np.ndarray
    space: StateSpace
    states: np.ndarray


def fit_chosen_genes(
    x: sparse.csr_matrix | BackedMatrix,
    library_size: np.ndarray,
    held_out: np.ndarray,
    config: DataConfig,
    genes: GeneStatistics,
    *,
    counts: bool,
) -> Fitted:
    """Of `x` (cell, gene) on the log scale, of whose training cells `genes` are the statistics; they alone decide.

    `library_size` (cell,) is over all genes of the file before normalisation, of `counts` or of other values.
    """
    wanted, least = dict(config.derive), config.least_reproduced
    state = StateFit(held_out, x.shape[1], wanted, counts=counts, seed=config.seed, least_reproduced=least)
    if len(state.sample):
        state.fit(rows_of(x, state.sample).toarray())
    if state.reads_values:
        for block, library in zip(row_blocks(x), row_blocks(library_size), strict=True):
            state.update(CellView(block, library))
    else:
        state.update(CellView(sparse.csr_matrix(x.shape, dtype=np.float32), library_size))
    scaling = Scaling.of(genes, config.zero_value, config.standardize, clip=config.clip)
    if config.quantiles:
        sample = np.sort(sampled_cells(np.flatnonzero(~held_out), config.seed))
        scaling = replace(scaling, quantiles=gene_quantiles(rows_of(x, sample), config.quantiles))
    return Fitted(scaling, marginals_of(genes), *state.finish())
