"""What a model starts from, found in the cells with the chosen genes, in two passes over them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy import sparse

from ..conditioning.derived import CellView
from ..conditioning.state import StateFit, StateSpace
from ..config import DataConfig
from ..io.backed import BackedMatrix
from ..io.checking import row_blocks
from .marginals import marginals_of
from .quantiles import gene_quantiles, sampled_cells
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
    wanted, least = dict(config.derive), config.least_reproduced
    state = StateFit(held_out, x.shape[1], wanted, counts=counts, seed=config.seed, least_reproduced=least)
    samples = {"state": state.sample}
    samples["quantiles"] = sampled_cells(np.flatnonzero(~held_out), config.seed) if config.quantiles else []
    sums, sampled = _first_pass(x, held_out, samples)
    if len(state.sample):
        state.fit(sampled["state"].toarray())
    centres = sums.centres(config.zero_value or 0.0)
    squares = ValueSquares.of_all(reblocked(_second_pass(x, library_size, held_out, state)), centres)
    scaling = Scaling.of(sums, squares if config.standardize else None, config.zero_value, clip=config.clip)
    if config.quantiles:
        scaling = replace(scaling, quantiles=gene_quantiles(sampled["quantiles"], config.quantiles))
    return Fitted(scaling, marginals_of(sums, squares), *state.finish())


def _first_pass(
    x: sparse.csr_matrix | BackedMatrix, held_out: np.ndarray, samples: Mapping[str, Sequence[int] | np.ndarray]
) -> tuple[ValueSums, dict[str, sparse.csr_matrix]]:
    """The sums over the training cells, and the rows of each sample, which is some of their numbers in `x`."""
    numbers = np.flatnonzero(~held_out)
    wanted = {name: np.isin(numbers, sample) for name, sample in samples.items()}
    sums, found = None, {name: [] for name in samples}
    for block, *kept in zip(row_blocks(x[~held_out]), *map(row_blocks, wanted.values()), strict=True):
        sums = ValueSums.of(block) if sums is None else sums + ValueSums.of(block)
        for rows, mask in zip(found.values(), kept, strict=True):
            rows.append(block[mask])
    return sums, {name: sparse.vstack(rows, format="csr") for name, rows in found.items()}


def _second_pass(
    x: sparse.csr_matrix | BackedMatrix, library_size: np.ndarray, held_out: np.ndarray, state: StateFit
) -> Iterator[sparse.csr_matrix]:
    """The training cells, block by block; all cells are shown to the state."""
    for block, library, aside in zip(row_blocks(x), row_blocks(library_size), row_blocks(held_out), strict=True):
        state.update(CellView(block, library))
        yield block[~aside]
