"""Counts with expected values multiplied, as if the cell had been so before it was sequenced.

A count y is taken as Poisson with a rate of its own, y ~ Poisson(lambda), which is how molecules are sampled from a
cell (Sarkar & Stephens 2021, "Separating measurement and expression models clarifies confusion in single-cell RNA
sequencing analysis"). What the model drew is y. To have a draw of Poisson(r lambda) instead:

r < 1: each of the y molecules is kept with probability r. Exact, whatever lambda is (binomial thinning: Gerard 2020,
    "Data-based RNA-seq simulations by binomial thinning").
r > 1: lambda is not known, but the model says how it is distributed: before anything of the cell but its state is
    drawn, it gives the gene's mean mu and variance (generation.moments). With lambda ~ Gamma(theta) of that mean, and
    theta so that y has that variance, lambda given y is Gamma(y + theta, theta / mu + 1), and y + Poisson((r - 1)
    lambda) is a draw of Poisson(r lambda). Whatever theta is, its mean over what the model draws is r mu. A zero
    becomes a count where the model holds the gene for expressed in such a cell, and stays one where it does not.
r = 1: y itself.

So fold changes, batch factors and depth act on what the cell expresses, and zeros follow.

theta is 1 at least. Of genes with means above 0.2 it is 4 to 14 in the median (PBMC 3k). Of rarer ones the model's
variance says little of it: its Gaussians are no narrower than 0.22 on the log scale, so that 6 % of single counts are
drawn as twos, which as overdispersion would be thetas of 0.03, and raised genes would have more zeros than genes that
are as much expressed by themselves (benchmarks.simulate shows both).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import sparse

from . import quantiles

# Of dense values that are worked on at once.
MOST_VALUES = 4_000_000
# See above for the least; a rate as certain as the greatest is one number; a mean below the least is none.
LEAST_SHAPE, GREATEST_SHAPE, LEAST_MEAN = 1.0, 1e6, 1e-9
# What the seed is joined with for the number of each gene of each cell.
EFFECTS, NATIVE, SOUP, DROPLETS = (word << 32 for word in (1, 2, 3, 4))


def uniforms(seed: int, stream: int, cells: np.ndarray, genes: int) -> np.ndarray:
    """A number in [0, 1) for each gene of cells of these numbers, by seed and number alone; (cell, gene) float64."""
    words = [np.random.Philox(key=[seed + stream, cell]).random_raw(genes) for cell in cells.tolist()]
    return unit(np.stack(words))


def unit(words: np.ndarray) -> np.ndarray:
    """float64 in [0, 1) of 53 bits of raw words, which are the same in every version of NumPy."""
    return (words >> np.uint64(11)) * 2.0**-53


def rates(mean: np.ndarray, square: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(mean, shape theta) of the gamma rates of counts with this mean and mean square, any one shape.

    Var y = mu + mu^2 / theta; where counts vary less than Poisson ones, the rate is one number.
    """
    mean = np.maximum(mean, LEAST_MEAN)
    excess = np.maximum(square - mean**2 - mean, mean**2 / GREATEST_SHAPE)
    return mean, np.clip(mean**2 / excess, LEAST_SHAPE, GREATEST_SHAPE)


def multiplied(
    counts: np.ndarray,
    factors: np.ndarray,
    moments: tuple[np.ndarray, np.ndarray] | None,
    uniform: np.ndarray,
) -> np.ndarray:
    """Counts (cell, gene) whose rates are multiplied by `factors` (cell, gene), see above; int32.

    `moments` are mean and mean square of what the model draws, (cell, gene) each; None where nothing is raised. Each
    gene of each cell has one `uniform` number, (cell, gene): the counts move with the factor, and back.
    """
    found = counts.astype(np.int32, copy=True)
    lowered = (factors < 1) & (counts > 0)
    if lowered.any():
        found[lowered] = quantiles.binomial(uniform[lowered], counts[lowered].astype(np.float64), factors[lowered])
    raised = factors > 1
    if raised.any():
        if moments is None:
            raise ValueError("genes are raised and nothing is known of their rates")
        mean, shape = rates(*(each[raised].astype(np.float64) for each in moments))
        posterior = counts[raised] + shape
        rate = posterior / (shape / mean + 1)
        found[raised] += quantiles.negative_binomial(uniform[raised], posterior, (factors[raised] - 1) * rate).astype(
            np.int32
        )
    return found


def contaminated(
    counts: sparse.csr_matrix, share: float, profiles: np.ndarray, batch: np.ndarray, seed: int, first: int
) -> tuple[sparse.csr_matrix, np.ndarray]:
    """(counts of which `share` are ambient, how many are (cell,) int64); cells are number `first` and on.

    Each molecule of a cell is lost with that probability, so that the depth stays, and Poisson counts of its batch's
    profile (batch, gene), whose rows sum to 1, come in (SoupX: Young & Behjati 2020; CellBender: Fleming et al. 2023).
    """
    cells, genes = counts.shape
    numbers = np.arange(first, first + cells)
    native = counts.toarray()
    there = native > 0
    mean = share * native.sum(axis=1)[:, None] * profiles[batch]
    kept = uniforms(seed, NATIVE, numbers, genes)[there]
    native[there] = quantiles.binomial(kept, native[there].astype(np.float64), np.full(kept.shape, 1 - share))
    soup = quantiles.poisson(uniforms(seed, SOUP, numbers, genes).ravel(), mean.ravel()).reshape(mean.shape)
    return sparse.csr_matrix(native + soup.astype(np.int32)), soup.sum(axis=1).astype(np.int64)


def row_slices(cells: int, genes: int) -> Iterator[slice]:
    """Neighbouring cells, as many as are worked on dense at once."""
    rows = max(1, MOST_VALUES // genes)
    return (slice(first, min(first + rows, cells)) for first in range(0, cells, rows))
