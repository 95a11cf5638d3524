"""Which cells are held out: decided by each cell's name alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np


def held_out_mask(names: Iterable[str], fraction: float, seed: int) -> np.ndarray:
    """(cell,) bool: true where the hash of (seed, name), read as a number in [0, 1), is below `fraction`.

    A cell falls on the same side in any order, after any filtering and beside any other cells, so a file that was
    subset or sorted since training still tells which of its cells the model has not seen.
    """
    start = hashlib.blake2b(f"{seed}\n".encode(), digest_size=8)

    def uniform(name: str) -> float:
        state = start.copy()
        state.update(str(name).encode())
        return int.from_bytes(state.digest(), "little") / 2**64

    return np.fromiter((uniform(name) < fraction for name in names), dtype=bool)


def validation_mask(held_out_names: Iterable[str], seed: int) -> np.ndarray:
    """(cell,) bool: the half of the held-out cells that choices may be made by; the others are for the final test.

    `seed` is that of the split into training and held-out cells.
    """
    return held_out_mask(held_out_names, 0.5, seed + 1)
