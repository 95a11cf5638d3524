"""Which cells are held out: decided by each cell's name alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from ..io.joining import FILE_MARK

# Of more held-out cells so many are kept: scores and timesteps need no more.
MOST_KEPT = 20_000


def held_out_mask(names: Iterable[str], fraction: float, seed: int) -> np.ndarray:
    """(cell,) bool: true where the hash of (seed, name), read as a number in [0, 1), is below `fraction`.

    A cell falls on the same side in any order, after any filtering and beside any other cells, so a file that was
    subset or sorted since training, or one of several, still tells which of its cells the model has not seen.
    """
    return _uniform(names, seed) < fraction


def validation_mask(held_out_names: Iterable[str], seed: int) -> np.ndarray:
    """(cell,) bool: the half of the held-out cells that choices may be made by; the others are for the final test.

    `seed` is that of the split into training and held-out cells.
    """
    return held_out_mask(held_out_names, 0.5, seed + 1)


def kept_mask(held_out_names: Sequence[str] | pd.Index, seed: int, most: int | None = None) -> np.ndarray:
    """(cell,) bool: `most` (MOST_KEPT) of the held-out cells or, where they are fewer, all."""
    most = MOST_KEPT if most is None else most
    if len(held_out_names) <= most:
        return np.ones(len(held_out_names), dtype=bool)
    mask = np.zeros(len(held_out_names), dtype=bool)
    mask[np.argsort(_uniform(held_out_names, seed + 2), kind="stable")[:most]] = True
    return mask


def _uniform(names: Iterable[str], seed: int) -> np.ndarray:
    """The hash of (seed, name) of each, without the name of its file, as a number in [0, 1); (cell,) float64."""
    start = hashlib.blake2b(f"{seed}\n".encode(), digest_size=8)

    def uniform(name: str) -> float:
        state = start.copy()
        state.update(str(name).partition(FILE_MARK)[0].encode())
        return int.from_bytes(state.digest(), "little") / 2**64

    return np.fromiter(map(uniform, names), dtype=np.float64)
