"""What is counted of one (cell, gene) matrix of log values, dense or sparse."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from ...errors import GeneMismatch

Matrix = np.ndarray | sparse.sparray | sparse.spmatrix


def dense(cells: Matrix) -> np.ndarray:
    """The same matrix as float32 ndarray (float64 stays float64); no copy where it is one already."""
    array = cells.toarray() if sparse.issparse(cells) else np.asarray(cells)
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def require_same_genes(real: Matrix, synthetic: Matrix) -> None:
    if real.shape[1] != synthetic.shape[1]:
        raise GeneMismatch(
            f"real cells have {real.shape[1]} columns, synthetic ones {synthetic.shape[1]}; give both the same "
            "genes in the same order"
        )


def gene_means(cells: Matrix) -> np.ndarray:
    """Mean log value of each gene: (genes,)."""
    return np.asarray(cells.mean(axis=0, dtype=np.float64)).ravel()


def zero_fraction_per_gene(cells: Matrix) -> np.ndarray:
    """Share of cells in which each gene is zero: (genes,), 0 to 1."""
    nonzero = cells.count_nonzero(axis=0) if sparse.issparse(cells) else np.count_nonzero(cells, axis=0)
    return 1 - np.asarray(nonzero, np.float64) / cells.shape[0]


def library_sizes(cells: Matrix) -> np.ndarray:
    """Sum of each cell's log values: (cells,). Stands for library size on a scale where counts are gone."""
    return np.asarray(cells.sum(axis=1, dtype=np.float64)).ravel()


def detected_genes(cells: Matrix) -> np.ndarray:
    """Number of genes above zero in each cell: (cells,), int."""
    return np.asarray((cells > 0).sum(axis=1)).ravel().astype(np.int64)


def coefficient_of_variation(cells: Matrix) -> np.ndarray:
    """Standard deviation over mean of each gene (scRDiT eq. 1): (genes,); NaN where the mean is not above zero.

    A gene seen in one cell of n has sqrt(n - 1): compare only samples of one size.
    """
    mean = gene_means(cells)
    squares = cells.multiply(cells) if sparse.issparse(cells) else np.square(cells, dtype=np.float64)
    variance = np.asarray(squares.mean(axis=0, dtype=np.float64)).ravel() - mean**2
    return np.sqrt(np.maximum(variance, 0)) / np.where(mean > 0, mean, np.nan)


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson correlation of two vectors; 0 where one of them is constant."""
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])


def ratio(above: float, below: float) -> float:
    return float(above / below) if below > 0 else float("nan")
