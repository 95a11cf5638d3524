"""Bins of how many genes a cell expresses, equally frequent among the training cells."""

from __future__ import annotations

import numpy as np

from ._cells import PREFIX, CellView, Derived, equally_frequent

DETECTED_GENES = f"{PREFIX}detected_genes"


def find(cells: CellView, count: int) -> dict[str, np.ndarray]:
    """`count` bins at most, one for 24 training cells at most."""
    return {DETECTED_GENES: equally_frequent(cells.genes, cells.training, count)}


DERIVED = Derived("detected-genes bins", find, coarse=True)
