"""How many counts a cell has over all genes of the file; as a logarithm."""

from __future__ import annotations

import numpy as np

from ._derived import CellView, Derived


def columns(block: CellView, _axes: np.ndarray) -> np.ndarray:
    """log(library size), (cell, 1)."""
    return np.log(np.maximum(block.library_size, 1e-3).astype(np.float64)).reshape(-1, 1)


DERIVED = Derived(title="library size", columns=columns, counts=True)
