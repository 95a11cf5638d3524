"""Where a cell lies along the principal components of the training cells."""

from __future__ import annotations

import numpy as np

from ._derived import CellView, Derived, principal_axes


def columns(block: CellView, axes: np.ndarray) -> np.ndarray:
    """The scores, not centred. A sparse product: its sums have one order on every machine."""
    return np.asarray(block.x.astype(np.float64) @ axes.astype(np.float64))


DERIVED = Derived(title="PC scores", columns=columns, axes=principal_axes, most=50)
