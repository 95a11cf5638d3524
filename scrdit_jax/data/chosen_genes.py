"""What a model starts from, found in the cells with the chosen genes, in two passes over them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from ..conditioning.derived import Derivation
from ..config import DataConfig
from ..io.backed import BackedMatrix
from ..io.checking import row_blocks
from .marginals import marginals_of
from .scaling import Scaling
from .statistics import ValueSquares, ValueSums, reblocked


class Fitted(NamedTuple):
    """The scaling and the marginals (gene, 3) of the training cells, and the derived variables of all cells: for each
    kind, categories by column."""

    scaling: Scaling
    marginals: np.ndarray
    derived: dict[str, dict[str, pd.Categorical]]


def fit_chosen_genes(x: sparse.csr_matrix | BackedMatrix, held_out: np.ndarray, config: DataConfig) -> Fitted:
    """Of `x` (cell, gene) on the log scale, of which training cells alone decide."""
    derivation = None
    if config.derive:
        derivation = Derivation(held_out, x.shape[1], dict(config.derive), seed=config.seed)
    sums = _first_pass(x, held_out, derivation)
    centres = sums.centres(config.zero_value or 0.0)
    squares = ValueSquares.of_all(reblocked(_second_pass(x, held_out, derivation)), centres)
    scaling = Scaling.of(sums, squares if config.standardize else None, config.zero_value, clip=config.clip)
    return Fitted(scaling, marginals_of(sums, squares), {} if derivation is None else derivation.variables())


def _first_pass(x: sparse.csr_matrix | BackedMatrix, held_out: np.ndarray, derivation: Derivation | None) -> ValueSums:
    """The sums over the training cells; those of the derivation's sample are kept for it."""
    numbers = np.flatnonzero(~held_out)
    wanted = np.isin(numbers, [] if derivation is None else derivation.sample)
    sums, sample = None, []
    for block, kept in zip(row_blocks(x[~held_out]), row_blocks(wanted), strict=True):
        sums = ValueSums.of(block) if sums is None else sums + ValueSums.of(block)
        sample.append(block[kept])
    if derivation is not None:
        derivation.fit(sparse.vstack(sample, format="csr").toarray())
    return sums


def _second_pass(
    x: sparse.csr_matrix | BackedMatrix, held_out: np.ndarray, derivation: Derivation | None
) -> Iterator[sparse.csr_matrix]:
    """The training cells, block by block; all cells are shown to the derivation."""
    if derivation is None:
        yield from row_blocks(x[~held_out])
        return
    for block, aside in zip(row_blocks(x), row_blocks(held_out), strict=True):
        derivation.update(block)
        yield block[~aside]
