"""Which cells are held out: decided by each cell's name alone or, where donors are named, by its donor's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..conditioning.derived import is_derived
from ..config import DataConfig
from ..errors import BadInput
from ..io.checking import listed
from ..io.joining import FILE_MARK

# Of more held-out cells so many are kept: scores and timesteps need no more.
MOST_KEPT = 20_000
# Columns that preparing writes itself.
WRITTEN = ("library_size", "split")
# By how much of it the share of held-out cells may differ from what is asked for before the border of donors is moved.
TOLERANCE = 0.5


class Split(NamedTuple):
    """Which cells are `held_out` (cell,) bool, and sentences about it.

    Whole donors are held out where their number, a hash of seed and name, is below the `border`; None: single cells.
    """

    held_out: np.ndarray
    border: float | None = None
    notes: tuple[str, ...] = ()


def split_cells(
    obs: pd.DataFrame,
    config: DataConfig,
    source: str,
    *,
    among: np.ndarray | None = None,
    border: float | None = None,
) -> Split:
    """The split of cells with this `obs`, single or by donor as `config` says; `among` (cell,) bool are those in use.

    A donor's number never changes, and the border is the share to be held out. Where donors are so few or so unequal
    that the share of cells would be off by more than half, or training or held-out cells would be without a donor,
    the border is moved to the donor's number that brings the share nearest; so only then may a further donor put
    another on the other side. A `border` that was found before is kept.
    BadInput where donors are not named, or where there is one only and cells are to be held out.
    """
    if config.donor_key is None:
        return Split(held_out_mask(obs.index, config.held_out, config.seed))
    among = np.ones(len(obs), dtype=bool) if among is None else among
    codes, names = _donors(obs, config.donor_key, source, among)
    numbers, cells = _uniform(names, config.seed), np.bincount(codes, minlength=len(names))
    if border is None:
        if len(names) < 2 and config.held_out:
            raise BadInput(
                f"{source}: obs[{config.donor_key!r}] names one donor ({listed(names)}), who cannot be both trained on "
                "and held out; give cells of two donors or more, or hold out nothing (--held-out 0)"
            )
        border = _border(numbers, cells, config.held_out)
    held_out = np.zeros(len(obs), dtype=bool)
    held_out[among] = (numbers < border)[codes]
    apart = int(np.sum(numbers < border))
    share = held_out.sum() / max(1, len(codes))
    note = f"by {config.donor_key!r}, {apart} of {len(names)} donors are held out whole, with {share:.1%} of the cells"
    return Split(held_out, border, (note,) if config.held_out else ())


def held_out_mask(names: Iterable[str], fraction: float, seed: int) -> np.ndarray:
    """(cell,) bool: true where the hash of (seed, name), read as a number in [0, 1), is below `fraction`.

    A cell falls on the same side in any order, after any filtering and beside any other cells, so a file that was
    subset or sorted since training, or one of several, still tells which of its cells the model has not seen.
    """
    return _uniform(names, seed) < fraction


def same_split(settings: DataConfig, others: DataConfig) -> bool:
    """Whether both split cells by the same rule."""
    return all(getattr(settings, name) == getattr(others, name) for name in ("held_out", "donor_key", "seed"))


def validation_mask(held_out: pd.DataFrame, settings: DataConfig) -> np.ndarray:
    """(cell,) bool: the half of the held-out cells, of whom this is obs, that choices may be made by; the others are
    for the final test.

    Where two or more donors are held out whole, each is on one side; of one donor, and without donors, cells are.
    """
    if settings.donor_key is not None:
        codes, names = _donors(held_out, settings.donor_key, "the held-out cells")
        if len(names) > 1:
            numbers = _uniform(names, settings.seed + 1)
            return (numbers < _border(numbers, np.bincount(codes), 0.5))[codes]
    return held_out_mask(held_out.index, 0.5, settings.seed + 1)


def validation_sentence(held_out: pd.DataFrame, settings: DataConfig, source: str) -> list[str]:
    """How held-out cells are halved, where donors are named and any is held out."""
    if settings.donor_key is None or not len(held_out):
        return []
    _, names = _donors(held_out, settings.donor_key, source)
    if len(names) == 1:
        return ["one donor is held out: its cells are halved for choices in training and for the final test"]
    return ["held-out donors are halved whole: some are for choices in training, the others for the final test"]


def kept_mask(held_out_names: Sequence[str] | pd.Index, seed: int, most: int | None = None) -> np.ndarray:
    """(cell,) bool: `most` (MOST_KEPT) of the held-out cells or, where they are fewer, all."""
    most = MOST_KEPT if most is None else most
    if len(held_out_names) <= most:
        return np.ones(len(held_out_names), dtype=bool)
    mask = np.zeros(len(held_out_names), dtype=bool)
    mask[np.argsort(_uniform(held_out_names, seed + 2), kind="stable")[:most]] = True
    return mask


def donor_names(obs: pd.DataFrame, key: str, source: str) -> np.ndarray:
    """The donor of each cell, (cell,) str; BadInput where a cell has none, or obs no such column."""
    codes, names = _donors(obs, key, source)
    return names[codes]


def _donors(obs: pd.DataFrame, key: str, source: str, among: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(the number of each cell's donor, the donors' names) of the cells `among` all."""
    if key not in obs:
        there = f"obs has {listed(obs.columns)}" if len(obs.columns) else "obs has no columns"
        raise BadInput(f"{source} has no column {key!r} for donors; {there}: pass one as --donor-key")
    if key in WRITTEN or is_derived(key):
        raise BadInput(f"donor_key is {key!r}, a column that scrdit writes itself; rename the column that has donors")
    column = obs[key] if among is None else obs[key][among]
    codes, found = pd.factorize(column)
    names = np.array([_as_text(name) for name in found], dtype=object)
    blank = np.isin(codes, np.flatnonzero([not name.strip() for name in names]))
    if missing := int(np.sum((codes < 0) | blank)):
        raise BadInput(
            f"{source}: obs[{key!r}] lacks the donor of {missing:,} of {len(codes):,} cells; name each cell's donor or "
            "leave those cells out"
        )
    unique, places = np.unique(names.astype(str), return_inverse=True)
    return places[codes], unique


def _as_text(name: object) -> str:
    """The name of a donor; whole numbers read alike whether a file holds them as integers or not."""
    if isinstance(name, float | np.floating) and float(name).is_integer():
        return str(int(name))
    return str(name)


def _border(numbers: np.ndarray, cells: np.ndarray, fraction: float) -> float:
    """Below what donors' `numbers` (donor,) are held out; of each donor there are so many `cells` (donor,)."""
    order = np.argsort(numbers, kind="stable")
    shares = np.concatenate([[0.0], np.cumsum(cells[order])]) / max(1, cells.sum())
    below = int(np.sum(numbers < fraction))
    two_sided = 0 < below < len(numbers)
    if not fraction or len(numbers) < 2 or (two_sided and abs(shares[below] - fraction) <= TOLERANCE * fraction):
        return fraction
    nearest = 1 + int(np.argmin(np.abs(shares[1:-1] - fraction)))
    return float(numbers[order[nearest]])


def _uniform(names: Iterable[str], seed: int) -> np.ndarray:
    """The hash of (seed, name) of each, without the name of its file, as a number in [0, 1); (cell,) float64."""
    start = hashlib.blake2b(f"{seed}\n".encode(), digest_size=8)

    def uniform(name: str) -> float:
        state = start.copy()
        state.update(str(name).partition(FILE_MARK)[0].encode())
        return int.from_bytes(state.digest(), "little") / 2**64

    return np.fromiter(map(uniform, names), dtype=np.float64)
