"""The rows of a comparison: every score of each generator and seed against held-out cells, kept once measured."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import click
import numpy as np
from scipy import sparse

from benchmarks.commands import slug
from benchmarks.fidelity.cell_sets import CellSet
from benchmarks.fidelity.generators import Generator
from benchmarks.fidelity.novelty import measure_novelty
from benchmarks.peers import Made, Skipped
from scrdit_jax.benchmarking.store import ResultStore, Row
from scrdit_jax.evaluation.comparison import REAL, SYNTHETIC, compare
from scrdit_jax.evaluation.markers import Markers
from scrdit_jax.evaluation.memorisation import COPIED, NEAR_HELD_OUT, NEAREST, score_memorisation
from scrdit_jax.extras import optional
from scrdit_jax.io.atomic import atomic_write

STORE = "rows.json"
# Enough that most types have as many as the reference, whole comparisons take half.
CELLS_FOR_EACH_REFERENCE = 2
ENOUGH_TRAINING = 100
LEAST_OF_TYPE = 10
GENERATOR, CLASSIFIER = "generator", "classifier"
OF_TYPES = ("random_forest_auc", "mmd_pca")


def measure(cells: CellSet, generator: Generator, seed: int, store: ResultStore, work: Path) -> Row:
    """The row of one generator and seed, from the store or measured now; Skipped, with the reason, where it cannot."""
    name = f"{slug(cells.name)}.{slug(generator.name)}.{cells.side}.{seed}"

    def measured() -> Row:
        count = (1 if generator.is_slow else CELLS_FOR_EACH_REFERENCE) * len(cells.reference)
        made = generator.make(cells.whole, count, seed).of_genes(cells.columns)
        if not np.isfinite(made.cells).all():
            raise Skipped("made values that are not finite")
        if seed == 0:
            with atomic_write(work / f"{name}.npz") as partial, partial.open("wb") as file:
                sparse.save_npz(file, sparse.csr_matrix(made.cells[: len(cells.reference)]))
        return {
            "data": cells.name, "generator": generator.name, "on": cells.side, "seed": seed,
            "fit_seconds": made.fit_seconds, "cells_per_second": made.cells_per_second,
            **score_cells(generator.name, made, cells, seed),
        }  # fmt: skip

    return store.measured(name, measured, made_by={**cells.made_by, **generator.record})


def compare_all(
    sets: Sequence[CellSet],
    chosen: Sequence[Generator],
    seeds: int,
    store: ResultStore,
    work: Path,
    *,
    novelty: int = 0,
) -> tuple[list[Row], list[dict[str, str]]]:
    """(the rows of every set, generator and seed, what was skipped and why); cells are kept in `work` for pictures.

    Sets of the same cells in other genes are scored with the same generated cells. With `novelty`, rows say under that
    name whether so many cells are new; see `measure_novelty`.
    """
    found, skipped = [], []
    for whole in dict.fromkeys(cells.whole for cells in sets):
        views = [cells for cells in sets if cells.whole is whole]
        for generator in chosen:
            # The last cells that were made are kept: one more gene set asks for them again.
            once = replace(generator, make=lru_cache(maxsize=1)(generator.make))
            try:
                for seed in range(seeds):
                    rows = [_measured(cells, once, seed, store, work) for cells in views]
                    if novelty:
                        new = [measure_novelty(cells, once, seed, novelty, store) for cells in views]
                        rows = [{**row, "novelty": one} for row, one in zip(rows, new, strict=True)]
                    found += rows
            except Skipped as reason:
                name = generator.name
                skipped += [{"data": cells.name, "generator": name, "reason": str(reason)} for cells in views]
                click.echo(f"{whole.name}, {name}: skipped, {reason}", err=True)
    return found, skipped


def _measured(cells: CellSet, generator: Generator, seed: int, store: ResultStore, work: Path) -> Row:
    """`measure`, and what came of it said."""
    started = time.perf_counter()
    row = measure(cells, generator, seed, store, work)
    auc, mmd = (row["whole"][score] for score in ("random_forest_auc", "mmd_pca"))
    click.echo(
        f"{cells.name}, {generator.name}, seed {seed}: AUC {auc:.3f}, PCA-50 MMD {mmd:.4f} "
        f"({time.perf_counter() - started:.0f} s)",
        err=True,
    )
    return row


def score_cells(name: str, made: Made, cells: CellSet, seed: int) -> dict[str, Any]:
    """Scores as plain values; the keys `whole`, `types`, `markers` and `memorisation` say of what.

    Types are those the generator gave its cells, or, where it gave none, those of a classifier of real cells. Every
    comparison is between equally many cells; the cells made are cut into groups of that size, and the mean is taken.
    """
    with optional("threadpoolctl").threadpool_limits(1):
        size = min(len(cells.reference), len(made.cells))
        rows = np.random.default_rng([seed, 6]).permutation(len(cells.reference))[:size]
        groups = _groups(np.arange(len(made.cells)), size)
        pc_scores = cells.space.project(made.cells)
        types = made.types if made.types is not None else cells.space.classify(pc_scores)
        row = {
            "cells": size,
            "whole": _mean([compare(cells.reference[rows], made.cells[group], seed=seed) for group in groups]),
            "types_by": GENERATOR if made.types is not None else CLASSIFIER,
            "classifier_accuracy": cells.space.accuracy,
            "memorisation": memorisation(None if name == REAL else pc_scores, cells, seed),
        }
        if types is None or cells.training_types is None:
            return row | {"types": {}, "markers": None}
        return row | {
            "types": by_type(made.cells, types, cells, seed),
            "markers": real_markers(cells) if name == REAL else markers(made.cells, types, groups, cells),
        }


def _groups(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """As many groups of `size` as there are, in order; the rest is left out."""
    return [rows[start : start + size] for start in range(0, len(rows) - size + 1, size)]


def _mean(scores: Sequence[Mapping[str, float]]) -> dict[str, float | None]:
    means = {name: float(np.mean([one[name] for one in scores])) for name in scores[0]}
    return {name: value if np.isfinite(value) else None for name, value in means.items()}


def by_type(made: np.ndarray, types: np.ndarray, cells: CellSet, seed: int) -> dict[str, dict[str, float | int | None]]:
    """AUC and PCA-50 MMD of every type with 100 training cells or more; those with under 10 cells a side left out."""
    found, rng = {}, np.random.default_rng([seed, 7])
    for name in learnt_types(cells):
        there, here = np.flatnonzero(cells.reference_types == name), np.flatnonzero(types == name)
        size = min(len(there), len(here))
        scores: dict[str, float | int | None] = {"cells": size, "share": float(np.mean(types == name))}
        if size >= LEAST_OF_TYPE:
            reference = cells.reference[rng.permutation(there)[:size]]
            groups = _groups(here, size)
            scores |= _mean([compare(reference, made[group], seed=seed, names=OF_TYPES) for group in groups])
        found[name] = scores
    return found


def learnt_types(cells: CellSet) -> list[str]:
    """Types with enough training cells to have been learnt."""
    if cells.training_types is None:
        return []
    names, counts = np.unique(cells.training_types, return_counts=True)
    return [str(name) for name, count in zip(names, counts, strict=True) if count >= ENOUGH_TRAINING]


def markers(
    made: np.ndarray, types: np.ndarray, groups: Sequence[np.ndarray], cells: CellSet
) -> dict[str, float] | None:
    """How far the training cells' 20 best markers of each type keep their log fold change; None under two types."""
    names = learnt_types(cells)
    if len(names) < 2:
        return None
    expected = Markers.find(cells.training, cells.training_types, names)
    correlation, error = np.mean([expected.kept(made[group], types[group]) for group in groups], axis=0)
    return {"correlation": float(correlation), "error": float(error)}


def real_markers(cells: CellSet) -> dict[str, float] | None:
    """The same of held-out cells, the floor: with their own types, and with those that the classifier gives them."""
    whole = [np.arange(len(cells.reference))]
    own = markers(cells.reference, cells.reference_types, whole, cells)
    if own is None:
        return None
    classified = markers(cells.reference, cells.space.classify(cells.space.reference), whole, cells)
    return own | {f"{name}_classified": value for name, value in classified.items()}


def memorisation(pc_scores: np.ndarray | None, cells: CellSet, seed: int) -> dict[str, float | None]:
    """Shares near training cells, of the generated and of held-out cells in their place; None for what is not there."""
    found = score_memorisation(cells.space.training, cells.space.reference, pc_scores, seed=seed).values

    def mean(score: str, candidate: str) -> float | None:
        estimate = found[score].get(candidate)
        return None if estimate is None else estimate.mean

    return {
        "held_out_nearest_is_training": mean(NEAREST, REAL), "held_out_copied": mean(COPIED, REAL),
        "nearest_is_training": mean(NEAREST, SYNTHETIC), "copied": mean(COPIED, SYNTHETIC),
        "near_held_out": mean(NEAR_HELD_OUT, SYNTHETIC),
    }  # fmt: skip
