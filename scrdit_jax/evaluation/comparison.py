"""Splits, floors and controls: how cells are compared with real ones, wherever that is done.

Real cells are halved at random. One half is the reference; the other, compared with it, is the floor (nothing can be
expected to do better), and with each gene permuted across its cells the control (right genes, no cells).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ..errors import BadConfig
from ..extras import optional
from ..progress import tqdm
from .metrics import Metric, Pair, all_metrics

SYNTHETIC, REAL, SHUFFLED = CANDIDATES = ("synthetic", "real vs real", "genes shuffled")
MINIMUM_CELLS = 20
# Random splits that are scored side by side; each needs copies of its cells.
MOST_AT_ONCE = 4

Seed = int | Sequence[int] | np.random.Generator


def halves(cells: int | np.ndarray, seed: Seed, *, size: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(reference, other) halves at random: row numbers of a count of cells, rows of a matrix of them (cell, ...).

    Both have `size` cells, half of them all by default; one that is left over is in neither.
    """
    numbered = isinstance(cells, int | np.integer)
    count = int(cells) if numbered else len(cells)
    size = count // 2 if size is None else size
    order = np.random.default_rng(seed).permutation(count)
    reference, other = order[:size], order[size : 2 * size]
    return (reference, other) if numbered else (cells[reference], cells[other])


def shuffle_genes(cells: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cells (cell, gene) with each gene permuted across them on its own."""
    return rng.permuted(cells, axis=0)


def compare(
    reference: np.ndarray, cells: np.ndarray, *, seed: int, names: Collection[str] | None = None
) -> dict[str, float]:
    """Every metric of `cells` against `reference`, by name, or only those of `names`; both (cell, gene) log values."""
    pair = Pair(reference, cells, seed)
    return {m.name: float(m.compute(pair)) for m in all_metrics() if names is None or m.name in names}


def floor_and_control(
    reference: np.ndarray, other: np.ndarray, *, seed: int, rng: np.random.Generator
) -> dict[str, dict[str, float]]:
    """Metrics of the other half of the real cells, as they are and with their genes shuffled, against the reference."""
    return {
        REAL: compare(reference, other, seed=seed),
        SHUFFLED: compare(reference, shuffle_genes(other, rng), seed=seed),
    }


@dataclass(frozen=True)
class Estimate:
    """Mean and standard deviation (n - 1; 0 for one value) over repeats."""

    mean: float
    sd: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        """Of one value or more."""
        return cls(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0)

    def to_dict(self) -> dict[str, float | None]:
        """Plain values for JSON; None for what is not finite."""
        return {name: value if math.isfinite(value) else None for name, value in vars(self).items()}

    def __str__(self) -> str:
        return estimate_text(self)


def figure(value: float) -> str:
    """Three significant digits, at most four decimals; 'n/a' for what is not finite."""
    if not math.isfinite(value):
        return "n/a"
    if value == 0:
        return "0"
    decimals = int(np.clip(2 - math.floor(math.log10(abs(value))), 0, 4))
    return f"{value:.{decimals}f}"


def estimate_text(estimate: Estimate) -> str:
    """'0.871 ± 0.012', the deviation to the decimals of the mean, two at least."""
    if not math.isfinite(estimate.mean):
        return "n/a"
    mean = figure(estimate.mean)
    decimals = len(mean.partition(".")[2])
    return f"{mean} ± {estimate.sd:.{max(decimals, 2)}f}"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """`values[metric name][candidate]` for each of `metrics` and CANDIDATES, over `repeats` random splits.

    Every comparison is between `cells_per_side` real cells and as many of the candidate.
    """

    metrics: tuple[Metric, ...]
    values: Mapping[str, Mapping[str, Estimate]]
    genes: int
    cells_per_side: int
    repeats: int
    seed: int


def score_repeats(real: np.ndarray, synthetic: np.ndarray, *, seed: int = 0, repeats: int = 5) -> Comparison:
    """Every metric of synthetic cells against held-out real ones, beside floor and control; both (cell, gene).

    In each repeat the real cells are halved; one half is compared with as many synthetic cells, with the other half,
    and with that half after its genes are shuffled. Where synthetic cells are fewer than a half, their number is used.
    """
    if repeats < 1:
        raise BadConfig(f"repeats is {repeats}; it must be 1 or more")
    size = min(len(real) // 2, len(synthetic))
    # On matrices this small, threads of linear algebra cost more by waiting than they bring.
    one_thread = optional("threadpoolctl").threadpool_limits(1)
    bar = tqdm(total=repeats * len(CANDIDATES), desc="scoring", unit="comparison", disable=None, leave=False)
    with one_thread, bar, ThreadPoolExecutor(min(repeats, os.cpu_count() or 1, MOST_AT_ONCE)) as pool:
        parts = list(pool.map(lambda k: _score_split(real, synthetic, size, (seed, 1, k), bar.update), range(repeats)))
    found = all_metrics()
    values = {
        metric.name: {name: Estimate.of([part[name][metric.name] for part in parts]) for name in CANDIDATES}
        for metric in found
    }
    return Comparison(
        metrics=found, values=values, genes=real.shape[1], cells_per_side=size, repeats=repeats, seed=seed
    )


def _score_split(
    real: np.ndarray, synthetic: np.ndarray, size: int, seed: Sequence[int], done: Callable[[], object]
) -> dict[str, dict[str, float]]:
    """One random split: the metrics of every candidate; each depends on `seed` alone."""
    rng = np.random.default_rng(seed)
    reference, other = halves(real, rng, size=size)
    drawn = synthetic[rng.permutation(len(synthetic))[:size]]
    shuffled = shuffle_genes(other, rng)
    pair_seed, found = int(rng.integers(2**31)), {}
    for candidate, cells in zip(CANDIDATES, (drawn, other, shuffled), strict=True):
        found[candidate] = compare(reference, cells, seed=pair_seed)
        done()
    return found
