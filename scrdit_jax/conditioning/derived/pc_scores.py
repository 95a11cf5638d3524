"""Where a cell lies along the principal components, in sixths of the training cells."""

from __future__ import annotations

import numpy as np

from ...errors import BadConfig
from ._cells import COMPONENTS, PREFIX, CellView, Derived, equally_frequent

PC_SCORE = f"{PREFIX}pc_"
BINS = 6


def find(cells: CellView, count: int) -> dict[str, np.ndarray]:
    """Six bins of the score along each of the first `count` components, a variable each; BadConfig above 20."""
    if count > COMPONENTS:
        raise BadConfig(f"derive asks for {count} pc-scores; there are {COMPONENTS} at most")
    columns = cells.scores.T[:count]
    return {f"{PC_SCORE}{i}": equally_frequent(column, cells.training, BINS) for i, column in enumerate(columns, 1)}


DERIVED = Derived("PC scores", find)
