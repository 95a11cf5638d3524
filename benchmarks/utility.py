"""What the cells of a model and of other generators are good for, beside the training cells themselves.

    python -m benchmarks.utility RUN --data pbmc3k --out DIR
    python -m benchmarks.utility RUN --data counts.h5ad --genes 5000 --cells 20000 --out DIR

The run's data, split as they were, in their 2,000 most variable genes. Classifiers of cell types learn from as many
cells of each generator as there are training cells, and are tried on held-out cells; rare types of the training cells
are filled up. DIR gets results.json and table.md; every row is kept in rows.json as soon as it is measured, and the
same command goes on where it was stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.commands import as_json, command_line, one_line_errors, slug, write_files
from benchmarks.fidelity.cell_sets import SIDES, CellSet
from benchmarks.fidelity.comparing import CLASSIFIER, GENERATOR, STORE
from benchmarks.fidelity.generators import Generator, peer
from benchmarks.peers import Skipped
from benchmarks.releases import MOST_GENES, about_cells, made_of, model_and_cells, of_run
from scrdit_jax.benchmarking.store import ResultStore, Row
from scrdit_jax.devices import use_every_core
from scrdit_jax.errors import BadInput
from scrdit_jax.evaluation.comparison import REAL, SHUFFLED, Estimate, estimate_text
from scrdit_jax.evaluation.real_split import (
    ALONE,
    COMPOSITION,
    OVERLAP,
    RANKS,
    WITH_COPIES,
    WITH_SYNTHETIC,
    RealSplit,
    TypedCells,
)
from scrdit_jax.evaluation.tables import markdown_table
from scrdit_jax.evaluation.type_classifiers import ACCURACY, CLASSIFIERS, MACRO_F1
from scrdit_jax.extras import optional

PEERS = ("copula", "knn-bootstrap-16", "scvi", "scvi-prior")
NOTE = """\
Accuracy and macro-F1 of a logistic and a nearest-centroid classifier of cell types, in 50 principal components, that
learn from as many cells of each generator as there are training cells and are tried on the held-out cells. Types are
the generator's own, or those of the five nearest training cells. Types differ: total variation distance of the shares
of types, by transferred labels, from those of the training cells. Markers: share of a type's 20 that are markers again,
and their rank correlation. *real vs real*: the training cells are learnt from, other held-out cells are looked at.
Mean ± deviation of the seeds, which decide the synthetic cells and the randomised components; training and test cells
are the same.
"""
RARE_NOTE = """\
Rare types filled up: F1 of the logistic classifier that learns from the training cells, and from those with cells of
types that are under 5 % of them added, up to the median type. *copies added* are as many copies of the training cells.
"""


def split_of(cells: CellSet, seed: int) -> RealSplit:
    """Training cells to learn from, held-out ones to try on; BadInput where they have no types."""
    if cells.training_types is None:
        raise BadInput(f"{cells.name} has no cell types; name their column, as FILE:COLUMN")
    split = RealSplit(
        TypedCells(cells.training, cells.training_types), TypedCells(cells.reference, cells.reference_types), seed
    )
    if len(split.names) < 2:
        raise BadInput(f"{cells.name} has fewer than two cell types with enough cells on both sides")
    return split


def scores_of(split: RealSplit, made: TypedCells, rng: np.random.Generator) -> dict[str, Any]:
    """The scores of a generator's cells, as plain values."""
    labelled = made.labelled(split.transfer)
    seen = labelled.drawn(len(split.test), rng)
    augmentation = split.augmented(labelled, rng)
    return {
        "types_by": CLASSIFIER if made.types is None else GENERATOR,
        "classifiers": split.classified(labelled.drawn(len(split.fit), rng)),
        **seen_scores(split, seen),
        "augmentation": None if augmentation is None else augmentation.values,
        "added": None if augmentation is None else augmentation.added,
    }


def seen_scores(split: RealSplit, seen: TypedCells) -> dict[str, Any]:
    """Scores of as many cells as there are test cells."""
    markers = split.markers_found(seen)
    return {
        COMPOSITION: split.recognised(seen, None)[0][COMPOSITION],
        "markers": {score: float(np.mean(list(of.values()))) for score, of in markers.items()},
    }


def floor_of(split: RealSplit) -> dict[str, Any]:
    """The training cells in the generator's place, where classifiers learn; held-out cells, where they are seen."""
    return {"types_by": "", "classifiers": split.classified(split.fit), **seen_scores(split, split.test)}


def control_of(split: RealSplit, rng: np.random.Generator) -> dict[str, Any]:
    """The same with every gene permuted on its own."""
    learnt, seen = split.fit.shuffled(rng), split.test.shuffled(rng)
    return {"types_by": "", "classifiers": split.classified(learnt), **seen_scores(split, seen)}


def measure(
    cells: CellSet, generators: Sequence[Generator], seeds: int, count: int, store: ResultStore
) -> tuple[list[Row], list[dict[str, str]]]:
    """(a row of each generator, floor and control for each seed; what was skipped and why)."""
    rows, skipped = [], []

    def measured(name: str, record: Mapping[str, Any], seed: int, score: Callable[[], dict[str, Any]]) -> None:
        made_by = {**cells.made_by, "on": cells.side, "cells": count, **record}
        with optional("threadpoolctl").threadpool_limits(1):
            row = store.measured(
                f"{slug(cells.name)}.{slug(name)}.{seed}",
                lambda: {"generator": name, "seed": seed, **score()},
                made_by=made_by,
            )
        rows.append(row)
        click.echo(f"{name}, seed {seed}: {row['classifiers'][CLASSIFIERS[0]][ACCURACY]:.3f}", err=True)

    def score(generator: Generator, seed: int) -> dict[str, Any]:
        made = made_of(generator, cells, count, seed)
        rng = np.random.default_rng([seed, 22])
        return scores_of(split_of(cells, seed), TypedCells(made.cells, made.types), rng)

    for generator in generators:
        try:
            for seed in range(seeds):
                measured(generator.name, generator.record, seed, partial(score, generator, seed))
        except Skipped as reason:
            skipped.append({"generator": generator.name, "reason": str(reason)})
    for seed in range(seeds):
        split = split_of(cells, seed)
        measured(REAL, {}, seed, partial(floor_of, split))
        measured(SHUFFLED, {}, seed, partial(control_of, split, np.random.default_rng([seed, 23])))
    return rows, skipped


def _text(rows: Sequence[Row], value: Callable[[Row], float]) -> str:
    return estimate_text(Estimate.of([value(row) for row in rows]))


def table(rows: Sequence[Row], about: Mapping[str, Any]) -> str:
    """All of it, as Markdown."""
    kinds = ("logistic", "nearest centroid")
    header = ["learnt from", "types by", *(f"{s}, {kind}" for kind in kinds for s in ("accuracy", "macro-F1"))]
    header += ["types differ", "markers again", "their ranks"]
    names = list(dict.fromkeys(row["generator"] for row in rows))
    lines = []
    for name in names:
        of = [row for row in rows if row["generator"] == name]
        lines.append(
            [
                f"*{name}*" if name in (REAL, SHUFFLED) else name,
                of[0]["types_by"],
                *(
                    _text(of, lambda row, k=k, s=s: row["classifiers"][k][s])
                    for k in CLASSIFIERS
                    for s in (ACCURACY, MACRO_F1)
                ),
                _text(of, lambda row: row[COMPOSITION]),
                *(_text(of, lambda row, s=s: row["markers"][s]) if of[0]["markers"] else "" for s in (OVERLAP, RANKS)),
            ]
        )
    cells = about["cells"]
    parts = [
        f"`{about['command']}`: {about['seeds']} seeds\n", NOTE,
        f"{cells['name']}: {cells['training']:,} training cells, {cells['held_out']:,} {SIDES[about['on']]} cells, "
        f"{cells['genes']:,} genes, {about['cells_made']:,} cells made\n",
        markdown_table(header, lines),
    ]  # fmt: skip
    if any(row.get("augmentation") for row in rows):
        parts += [RARE_NOTE, _rare_table(rows, cells["types"])]
    parts += [f"{one['generator']}: skipped, {one['reason']}\n" for one in about["skipped"]]
    return "\n".join(parts)


def _rare_table(rows: Sequence[Row], types: Mapping[str, Sequence[int]]) -> str:
    rows = [row for row in rows if row.get("augmentation")]
    names = list(dict.fromkeys(row["generator"] for row in rows))
    rare = list(rows[0]["added"])
    first = [row for row in rows if row["generator"] == names[0]]

    def line(title: str, of: Sequence[Row], which: str) -> list[str]:
        added = "" if which == ALONE else ", ".join(_text(of, lambda row, t=t: row["added"][t]) for t in rare)
        scores = (_text(of, lambda row, s=s: row["augmentation"][which][s]) for s in (MACRO_F1, *rare))
        return [title, added, *scores]

    titles = (f"F1, {name} ({types[name][0]} training, {types[name][1]} test cells)" for name in rare)
    lines = [line(f"*{ALONE}*", first, ALONE), line(f"*{WITH_COPIES}*", first, WITH_COPIES)]
    lines += [line(name, [row for row in rows if row["generator"] == name], WITH_SYNTHETIC) for name in names]
    return markdown_table(["added", f"cells added ({', '.join(rare)})", "macro-F1", *titles], lines)


def _counts(split: RealSplit) -> dict[str, list[int]]:
    """Of each type the numbers of training and test cells."""
    return {name: [int(np.sum(side.types == name)) for side in (split.fit, split.test)] for name in split.names}


@click.command()
@click.argument("run", type=click.Path(path_type=Path, exists=True))
@click.option("--data", required=True, help="What the run was trained on: a file, or pbmc3k.")
@click.option("--cells", "count", type=click.IntRange(100), default=10_000, show_default=True, help="To make.")
@click.option("--made", type=click.Path(path_type=Path), metavar="FILE", help="Cells that the run has made already.")
@click.option("--genes", type=click.IntRange(2), default=MOST_GENES, show_default=True, help="To learn from, at most.")
@click.option("--on", type=click.Choice(SIDES), default="both", show_default=True, help="Which held-out cells.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder.")
def main(run: Path, data: str, count: int, made: Path | None, genes: int, on: str, seeds: int, out: Path) -> None:
    """Measure what is missing, then write results.json and table.md."""
    use_every_core()
    with one_line_errors():
        model, cells = model_and_cells(run, data, genes, on)
        counts = _counts(split_of(cells, 0))
        generators = [of_run(run, model, made), *map(peer, PEERS)]
        rows, skipped = measure(cells, generators, seeds, count, ResultStore(out / STORE))
        about = {
            "command": command_line("benchmarks.utility"), **about_cells(cells), "on": on, "seeds": seeds,
            "cells_made": count, "skipped": skipped,
        }  # fmt: skip
        about["cells"]["types"] = counts
        page = table(rows, about)
        write_files(out, {"results.json": as_json({**about, "rows": rows}), "table.md": page})
        click.echo(page)


if __name__ == "__main__":
    main()
