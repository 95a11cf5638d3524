"""What a derived number is, and the principal axes that some are measured along."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.linalg import eigh

PREFIX = "scrdit_"
# Rows of cells whose products are summed at once.
ROWS_AT_ONCE = 4096
# Where there are more genes than cells, genes are gone through so many at a time.
GENES_AT_ONCE = 4096
# What axes are rounded to: far below what they mean, far above what differs between linear-algebra libraries.
AXIS_GRID = 2.0**-16


class CellView(NamedTuple):
    """Cells `x` (cell, gene) on the log scale in CSR, and their `library_size` (cell,), the sum over all genes of the
    file before normalisation."""

    x: sparse.csr_matrix
    library_size: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Derived:
    """A kind of number that a cell has.

    `columns(block, axes)` are the numbers (cell, count), float64. Where they are measured along `axes`, those are found
    in a sample of training cells (cell, gene) as (gene, count). `most` is how many there can be; `title` names them in
    sentences, in the plural. Those that only cells of raw counts have need `counts`.
    """

    title: str
    columns: Callable[[CellView, np.ndarray], np.ndarray]
    axes: Callable[[np.ndarray, int], np.ndarray] | None = None
    most: int = 1
    counts: bool = False


def is_derived(column: str) -> bool:
    """Whether `column` of obs is named as those of derived numbers."""
    return column.startswith(PREFIX)


def column_names(kind: str, count: int) -> tuple[str, ...]:
    """The columns of obs that `count` numbers of a kind have."""
    name = PREFIX + kind.replace("-", "_")
    return (name,) if count == 1 else tuple(f"{name}_{i}" for i in range(1, count + 1))


def turned_to(axes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """`axes` (gene, n) turned among themselves until they are nearest to `others` (orthogonal Procrustes); float32."""
    left, _, right = np.linalg.svd(axes.T.astype(np.float64) @ others)
    return (np.round(axes @ (left @ right) / AXIS_GRID) * AXIS_GRID).astype(np.float32)


def principal_axes(cells: np.ndarray, components: int) -> np.ndarray:
    """(gene, component) float32: unit vectors along which `cells` (cell, gene) vary most, largest variance first.

    The same on every machine: each points to where its largest loading is positive, sums are in float64, and loadings
    are rounded to AXIS_GRID. Axes along which nothing varies are zero.
    """
    count, genes = cells.shape
    axes = np.zeros((genes, components))
    most = min(components, count - 1, genes)
    if most < 1:
        return axes.astype(np.float32)
    mean = cells.mean(axis=0, dtype=np.float64)
    if genes <= count:
        gram = np.zeros((genes, genes))
        for first in range(0, count, ROWS_AT_ONCE):
            block = cells[first : first + ROWS_AT_ONCE] - mean
            gram += block.T @ block
    else:
        gram = sum(block @ block.T for block in _gene_blocks(cells, mean))
    values, vectors = eigh(gram, subset_by_index=[len(gram) - most, len(gram) - 1])
    vectors = vectors[:, values > 1e-9 * max(values[-1], 1e-30)][:, ::-1]
    if genes > count:
        vectors = np.concatenate([block.T @ vectors for block in _gene_blocks(cells, mean)])
    vectors = vectors / np.linalg.norm(vectors, axis=0)
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0)
    axes[:, : vectors.shape[1]] = np.round(vectors * np.sign(largest) / AXIS_GRID) * AXIS_GRID
    return axes.astype(np.float32)


def _gene_blocks(cells: np.ndarray, mean: np.ndarray) -> Iterator[np.ndarray]:
    """Neighbouring columns of `cells` without their `mean`, float64, block by block."""
    return (
        cells[:, first : first + GENES_AT_ONCE] - mean[first : first + GENES_AT_ONCE]
        for first in range(0, len(mean), GENES_AT_ONCE)
    )
