"""The rows of a comparison: each generator and seed on each set of cells, kept as soon as it is measured."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
from scipy import sparse

from benchmarks.commands import slug
from benchmarks.fidelity.cell_sets import CellSet
from benchmarks.fidelity.generators import Generator
from benchmarks.fidelity.scoring import score_cells
from benchmarks.peers import Skipped
from scrdit_jax.benchmarking.store import ResultStore, Row
from scrdit_jax.io.atomic import atomic_write

STORE = "rows.json"
# Enough that most types have as many as the reference, whole comparisons take half.
CELLS_FOR_EACH_REFERENCE = 2
# A thousand evaluations a cell cost as much as all other samplers together.
MANY_EVALUATIONS = 200


def measure(cells: CellSet, generator: Generator, seed: int, store: ResultStore, work: Path) -> Row:
    """The row of one generator and seed, from the store or measured now; Skipped, with the reason, where it cannot."""
    name = f"{slug(cells.name)}.{slug(generator.name)}.{cells.side}.{seed}"
    made_by = {"digest": cells.prepared.metadata.digest, "genes": cells.prepared.cells.n_vars, **generator.record}

    def measured() -> Row:
        many = generator.record.get("sampling", {}).get("steps", 0) >= MANY_EVALUATIONS
        made = generator.make(cells, (1 if many else CELLS_FOR_EACH_REFERENCE) * len(cells.reference), seed)
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

    return store.measured(name, measured, made_by=made_by)


def compare_all(
    sets: Sequence[CellSet], chosen: Sequence[Generator], seeds: int, store: ResultStore, work: Path
) -> tuple[list[Row], list[dict[str, str]]]:
    """(the rows of every set, generator and seed, what was skipped and why); cells are kept in `work` for pictures."""
    found, skipped = [], []
    for cells in sets:
        for generator in chosen:
            for seed in range(seeds):
                started = time.perf_counter()
                try:
                    row = measure(cells, generator, seed, store, work)
                except Skipped as reason:
                    skipped.append({"data": cells.name, "generator": generator.name, "reason": str(reason)})
                    click.echo(f"{cells.name}, {generator.name}: skipped, {reason}", err=True)
                    break
                found.append(row)
                auc, mmd = (row["whole"][score] for score in ("random_forest_auc", "mmd_pca"))
                click.echo(
                    f"{cells.name}, {generator.name}, seed {seed}: AUC {auc:.3f}, PCA-50 MMD {mmd:.4f} "
                    f"({time.perf_counter() - started:.0f} s)",
                    err=True,
                )
    return found, skipped
