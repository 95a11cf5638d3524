"""Whether many released cells are new ones: attacks on the training cells, distances to them, and what is reached."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.commands import slug
from benchmarks.fidelity.cell_sets import CellSet
from benchmarks.fidelity.generators import Generator
from benchmarks.peers import Made
from scrdit_jax.benchmarking.store import ResultStore, Row
from scrdit_jax.evaluation.coverage import coverage, distinct_cells, nearer_than, recall_of_many
from scrdit_jax.evaluation.membership import score_membership
from scrdit_jax.evaluation.memorisation import nearest, nearest_rows
from scrdit_jax.extras import optional

DEFAULT_CELLS = 10_000
# Of so many cells coverage is reported, to compare runs of different --novelty.
NUMBERS = (1_000, 10_000, 100_000)


def measure_novelty(cells: CellSet, generator: Generator, seed: int, count: int, store: ResultStore) -> Row | None:
    """The scores of `count` cells of one generator and seed, from the store or measured now, in a row of their own.

    None for a sampler that takes hundreds of evaluations a cell.
    """
    if generator.is_slow:
        return None
    name = f"{slug(cells.name)}.{slug(generator.name)}.{cells.side}.{seed}.novelty"

    def measured() -> dict[str, Any]:
        made = generator.make(cells.whole, count, seed).of_genes(cells.columns)
        return score_novelty(made, cells, count, seed)

    return store.measured(name, measured, made_by={**cells.made_by, "cells": count, **generator.record})


def score_novelty(made: Made, cells: CellSet, count: int, seed: int) -> dict[str, Any]:
    """Scores as plain values, all against the held-out cells of the side; `count` cells were asked for.

    `auc` and `tpr` are those of `score_membership`; `nearer` is the signed Kolmogorov-Smirnov statistic of distances to
    the nearest training cell; `coverage` and `recall` by so many cells are in the training cells' components, too.
    `distinct` counts different cells, `states` the training cells that are some released cell's nearest.
    """
    with optional("threadpoolctl").threadpool_limits(1):
        membership = score_membership(made.cells, cells.training, cells.reference, seed=seed)
        placed = cells.space.project(made.cells)
        distance, row = nearest_rows(placed, cells.space.training)
        of_held_out = nearest(cells.space.reference, cells.space.training)
        sides = cells.space.reference, placed, numbers_up_to(len(placed), count)
        reached = {"coverage": coverage(*sides), "recall": recall_of_many(*sides)}
        return {
            "released": membership.released,
            "candidates": membership.candidates,
            "auc": {attack: estimate.to_dict() for attack, estimate in membership.auc.items()},
            "tpr": {attack: estimate.to_dict() for attack, estimate in membership.tpr.items()},
            "nearer": nearer_than(distance, of_held_out),
            **{name: {str(n): share for n, share in found.items()} for name, found in reached.items()},
            "distinct": distinct_cells(made.cells),
            "states": len(np.unique(row)),
            "training": len(cells.training),
        }


def numbers_up_to(released: int, count: int) -> Sequence[int]:
    """How many cells coverage is reported of: NUMBERS and `count`, where so many were released; else all there are."""
    return sorted({number for number in (*NUMBERS, count) if number <= released}) or [released]
