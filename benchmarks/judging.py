"""Every score of one generator's cells against held-out real ones: whole, by type, by markers, and copying."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.cell_sets import CellSet
from benchmarks.generators import REAL, Made
from scrdit_jax.evaluation import metrics
from scrdit_jax.evaluation.markers import log_fold_changes, markers_kept, top_markers
from scrdit_jax.evaluation.memorisation import copied_share, training_neighbour_share
from scrdit_jax.evaluation.scores import compare
from scrdit_jax.extras import optional

ENOUGH_TRAINING = 100
LEAST_OF_TYPE = 10
HALVINGS = 5
OWN, CALLED = "own", "called by a classifier"


def judge(name: str, made: Made, cells: CellSet, seed: int) -> dict[str, Any]:
    """Scores as plain values; the keys `whole`, `types`, `markers` and `memorisation` say of what.

    Types are those the generator gave its cells, or, where it gave none, those of a classifier of real cells. Every
    comparison is between equally many cells; the cells made are cut into groups of that size, and the mean is taken.
    """
    with optional("threadpoolctl").threadpool_limits(1):
        size = min(len(cells.reference), len(made.cells))
        rows = np.random.default_rng([seed, 6]).permutation(len(cells.reference))[:size]
        groups = _groups(np.arange(len(made.cells)), size)
        places = cells.space.place(made.cells)
        types = made.types if made.types is not None else cells.space.call(places)
        row = {
            "cells": size,
            "whole": _mean([compare(cells.reference[rows], made.cells[group], seed=seed) for group in groups]),
            "labels": OWN if made.types is not None else CALLED,
            "classifier_accuracy": cells.space.accuracy,
            "memorisation": memorisation(None if name == REAL else places, cells, seed),
        }
        if types is None or cells.training_types is None:
            return row | {"types": {}, "markers": None}
        return row | {
            "types": by_type(made.cells, types, cells, seed),
            "markers": markers(made.cells, types, groups, cells, called=name == REAL),
        }


def _groups(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """As many groups of `size` as there are, in order; the rest is left out."""
    return [rows[start : start + size] for start in range(0, len(rows) - size + 1, size)]


def _mean(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([one[name] for one in scores])) for name in scores[0]}


def by_type(made: np.ndarray, types: np.ndarray, cells: CellSet, seed: int) -> dict[str, dict[str, float | int]]:
    """AUC and PCA-50 MMD of every type with 100 training cells or more; those with under 10 cells a side left out."""
    found, rng = {}, np.random.default_rng([seed, 7])
    for name in judged_types(cells):
        there, here = np.flatnonzero(cells.reference_types == name), np.flatnonzero(types == name)
        size = min(len(there), len(here))
        scores: dict[str, float | int] = {"cells": size, "share": float(np.mean(types == name))}
        if size >= LEAST_OF_TYPE:
            reference = cells.reference[rng.permutation(there)[:size]]
            scores |= _mean([_apart(reference, made[group], seed) for group in _groups(here, size)])
        found[name] = scores
    return found


def _apart(reference: np.ndarray, made: np.ndarray, seed: int) -> dict[str, float]:
    x, y = metrics.joint_pcs(reference, made, seed=seed)
    return {"random_forest_auc": metrics.random_forest_auc(x, y, seed=seed), "mmd_pca": metrics.gaussian_mmd(x, y)}


def judged_types(cells: CellSet) -> list[str]:
    """Types with enough training cells to have been learnt."""
    if cells.training_types is None:
        return []
    names, counts = np.unique(cells.training_types, return_counts=True)
    return [str(name) for name, count in zip(names, counts, strict=True) if count >= ENOUGH_TRAINING]


def markers(
    made: np.ndarray, types: np.ndarray, groups: Sequence[np.ndarray], cells: CellSet, *, called: bool
) -> dict[str, float] | None:
    """How far the training cells' 20 best markers of each type keep their log fold change; None under two types.

    With `called`, also when the real cells themselves are given types by the classifier: the floor of unlabelled ones.
    """
    names = judged_types(cells)
    if len(names) < 2:
        return None
    expected = log_fold_changes(cells.training, cells.training_types, names)
    best = top_markers(expected)

    def kept(values: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
        return markers_kept(expected, log_fold_changes(values, labels, names), best)

    if called:
        # Training cells are what is expected here: the floor is what held-out cells keep.
        own = kept(cells.reference, cells.reference_types)
        calls = kept(cells.reference, cells.space.call(cells.space.reference))
        return {"correlation": own[0], "error": own[1], "correlation_called": calls[0], "error_called": calls[1]}
    correlation, error = np.mean([kept(made[group], types[group]) for group in groups], axis=0)
    return {"correlation": float(correlation), "error": float(error)}


def memorisation(places: np.ndarray | None, cells: CellSet, seed: int) -> dict[str, float | None]:
    """Shares near training cells, of the generated and of held-out cells, in the real cells' PCA-50; mean of halvings.

    The held-out cells are halved: one half stands against the training cells, the other takes the generator's place.
    `near_held_out` is `copied` with that half in the place of the training cells: it tells cells that are too average,
    and so near to all real ones, from copies.
    """
    rng, found = np.random.default_rng([seed, 8]), []
    training, reference = cells.space.training, cells.space.reference
    for _ in range(HALVINGS):
        order = rng.permutation(len(reference))
        half, other = reference[order[: len(order) // 2]], reference[order[len(order) // 2 :]]
        group_seed = int(rng.integers(2**31))
        scores = []
        for side in (other, places):
            if side is None:
                scores += [np.nan, np.nan]
                continue
            nearest = training_neighbour_share(side, training, half, np.random.default_rng(group_seed))
            scores += [nearest, copied_share(side, training, half)]
        found.append([*scores, np.nan if places is None else copied_share(places, half, other)])
    mean = [None if np.isnan(value) else float(value) for value in np.mean(found, axis=0)]
    names = ("held_out_nearest_is_training", "held_out_copied", "nearest_is_training", "copied", "near_held_out")
    return dict(zip(names, mean, strict=True))
