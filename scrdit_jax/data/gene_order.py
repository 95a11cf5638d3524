"""The order in which a network takes the genes: those that are expressed together lie side by side."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, svds

from ..config import DataConfig, GeneGroups
from ..io.backed import BackedMatrix
from ..io.checking import Matrix
from .statistics import GeneStatistics

# Of so many training cells at most; more would say the same of which genes go together.
MOST_CELLS = 4096
COMPONENTS = 24


def in_order(
    x: Matrix, held_out: np.ndarray, columns: np.ndarray, config: DataConfig, groups: GeneGroups
) -> tuple[np.ndarray, tuple[int, ...]]:
    """(`columns` of `x`, which ascend, in the order in which a network that takes such `groups` is given them;
    DatasetMetadata.gene_order). Training cells, those not `held_out` (cell,), decide."""
    if config.gene_order == "file":
        return columns, ()
    rows = np.random.default_rng([config.seed, 4]).permutation(np.flatnonzero(~held_out))
    rows, chosen = np.sort(rows[:MOST_CELLS]), x[:, columns]
    sample = chosen.take(rows) if isinstance(chosen, BackedMatrix) else sparse.csr_matrix(chosen[rows])
    rare = len(columns) - groups.often(len(columns))
    order = coexpression_order(sample, groups.size, rare=rare, rare_group=groups.rare_size)
    return columns[order], tuple(order.tolist())


def coexpression_order(x: sparse.csr_matrix, group: int, *, rare: int = 0, rare_group: int = 1) -> np.ndarray:
    """Numbers of the genes of `x` (cell, gene), log scale, in an order in which every `group` neighbours go together.

    A gene is described by its correlations with the first COMPONENTS principal components of the cells. The genes are
    halved along the main direction of that, the halves again, until a part is one group: so neighbouring groups are
    alike too. Within a group the genes that more cells express come first. The `rare` genes that fewest cells express
    come last, in groups of `rare_group`.
    """
    statistics = GeneStatistics.of(x, linear=False)
    expressing = statistics.values.cells
    by_cells = np.argsort(-expressing, kind="stable")
    often, seldom = np.sort(by_cells[: x.shape[1] - rare]), np.sort(by_cells[x.shape[1] - rare :])
    described, found = _correlations(x, statistics), []
    for genes, size in ((often, group), (seldom, rare_group)):
        for part in _halved(genes, described, size):
            found.append(part[np.argsort(-expressing[part], kind="stable")])
    return np.concatenate(found)


def _correlations(x: sparse.csr_matrix, statistics: GeneStatistics) -> np.ndarray:
    """(gene, component) float64: of each gene with the principal components of the standardised cells."""
    moments = statistics.values.among(x.shape[0])
    deviation = np.sqrt(moments.variance)
    weights = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0)
    count = min(COMPONENTS, min(x.shape) - 1)
    if count < 1 or not weights.any():
        return np.zeros((x.shape[1], 1))
    scaled = sparse.csr_matrix(x, dtype=np.float32).multiply(weights[None].astype(np.float32)).tocsr()
    centre = (moments.mean * weights).astype(np.float32)
    # Centred without being made dense.
    centred = LinearOperator(
        x.shape,
        matvec=lambda v: scaled @ v.ravel() - centre @ v.ravel(),
        rmatvec=lambda v: scaled.T @ v.ravel() - centre * v.sum(),
        matmat=lambda v: scaled @ v - (centre @ v)[None],
        rmatmat=lambda v: scaled.T @ v - np.outer(centre, v.sum(axis=0)),
        dtype=np.float32,
    )
    # A start of its own, so that the result is the same each time; ones are what centring takes away.
    start = np.random.default_rng(0).normal(size=min(x.shape)).astype(np.float32)
    _, sizes, right = svds(centred, count, v0=start)
    return (right.T * sizes)[:, ::-1].astype(np.float64) / np.sqrt(x.shape[0])


def _halved(genes: np.ndarray, described: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """The groups of `genes`, each of `size` but for the last."""
    if len(genes) <= size:
        if len(genes):
            yield genes
        return
    # Nearly half, so that the groups are whole; at least one.
    half = -(-len(genes) // size) // 2 * size
    along = _main_direction(described[genes])
    order = np.argsort(along, kind="stable")
    for part in (order[:half], order[half:]):
        yield from _halved(genes[part], described, size)


def _main_direction(rows: np.ndarray) -> np.ndarray:
    """(row,): where each row lies along the direction in which they vary most; its sign is that of the largest."""
    centred = rows - rows.mean(axis=0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    direction = vectors[:, -1]
    return centred @ (direction * np.sign(direction[np.argmax(np.abs(direction))]))
