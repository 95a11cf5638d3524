"""How many genes a cell expresses, of those the model has; as a logarithm."""

from __future__ import annotations

import numpy as np

from ._derived import CellView, Derived


def columns(block: CellView, _axes: np.ndarray) -> np.ndarray:
    """log(1 + number of values above 0), (cell, 1)."""
    return np.log1p(np.asarray((block.x > 0).sum(axis=1), np.float64).reshape(-1, 1))


DERIVED = Derived(title="number of detected genes", columns=columns)
