"""What a model starts from, found in the cells with the chosen genes, in two passes over them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import sparse

from ..conditioning.derived import CellView
from ..conditioning.state import StateFit, StateSpace
from ..config import DataConfig
from ..io.backed import BackedMatrix
from ..io.checking import row_blocks
from .marginals import marginals_of
from .scaling import Scaling
from .statistics import ValueSquares, ValueSums, reblocked


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
    *,
    counts: bool,
) -> Fitted:
    """Of `x` (cell, gene) on the log scale, of which training cells alone decide.

    `library_size` (cell,) is over all genes of the file before normalisation, of `counts` or of other values.
    """
    state = StateFit(held_out, x.shape[1], dict(config.derive), counts=counts, seed=config.seed)
    sums = _first_pass(x, held_out, state)
    centres = sums.centres(config.zero_value or 0.0)
    squares = ValueSquares.of_all(reblocked(_second_pass(x, library_size, held_out, state)), centres)
    scaling = Scaling.of(sums, squares if config.standardize else None, config.zero_value, clip=config.clip)
    return Fitted(scaling, marginals_of(sums, squares), *state.finish())


def _first_pass(x: sparse.csr_matrix | BackedMatrix, held_out: np.ndarray, state: StateFit) -> ValueSums:
    """The sums over the training cells; those of the state's sample are kept for it."""
    wanted = np.isin(np.flatnonzero(~held_out), state.sample)
    sums, sample = None, []
    for block, kept in zip(row_blocks(x[~held_out]), row_blocks(wanted), strict=True):
        sums = ValueSums.of(block) if sums is None else sums + ValueSums.of(block)
        if kept.any():
            sample.append(block[kept])
    if sample:
        state.fit(sparse.vstack(sample, format="csr").toarray())
    return sums


def _second_pass(
    x: sparse.csr_matrix | BackedMatrix, library_size: np.ndarray, held_out: np.ndarray, state: StateFit
) -> Iterator[sparse.csr_matrix]:
    """The training cells, block by block; all cells are shown to the state."""
    for block, library, aside in zip(row_blocks(x), row_blocks(library_size), row_blocks(held_out), strict=True):
        state.update(CellView(block, library))
        yield block[~aside]
