"""What the cells of a model and of other generators give away of the training cells, beside floor and control.

    python -m benchmarks.privacy RUN --data pbmc3k --out DIR
    python -m benchmarks.privacy RUN --data counts.h5ad --cells 10000 --donor-key patient --out DIR

The run's data, split as they were, in their 2,000 most variable genes. Each generator releases as many cells; all
held-out cells are attacked with, up to 6,000. DIR gets results.json and table.md; every row is kept in rows.json as
soon as it is measured, and the same command goes on where it was stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks.commands import as_json, command_line, one_line_errors, slug, write_files
from benchmarks.fidelity.cell_sets import CellSet
from benchmarks.fidelity.comparing import STORE, memorisation
from benchmarks.fidelity.generators import Generator, peer
from benchmarks.peers import Skipped
from benchmarks.releases import MOST_GENES, about_cells, made_of, model_and_cells, of_run
from scrdit_jax.benchmarking.store import ResultStore, Row
from scrdit_jax.data.splitting import donor_names
from scrdit_jax.devices import use_every_core
from scrdit_jax.evaluation.comparison import Estimate, estimate_text, figure
from scrdit_jax.evaluation.donors import AGGREGATES, DonorCells, require_donors, score_donors
from scrdit_jax.evaluation.membership import (
    ATTACKS,
    CONTROL,
    FLOOR,
    MembershipScores,
    score_control,
    score_floor,
    score_membership,
)
from scrdit_jax.evaluation.tables import markdown_table
from scrdit_jax.extras import optional

PEERS = ("copula", "knn-bootstrap-16", "knn-bootstrap-4")
# Of so many released cells it is asked whether they are copies.
MOST_COPIES = 2000
NOTE = """\
Copied: share of released cells nearer to a training cell than 95 % of held-out cells are; 0.05 is what new cells score.
AUC: how well a training cell is distinguished from others by its distance to the nearest released cell, 0.5 where it
is not; knowing other cells: divided by the distance to the nearest of half the held-out cells. Found: share of training
cells that are found where one of a hundred others is taken for one, 0.01 by chance. Mean ± deviation of 40 draws of the
cells that are not trained on. *held-out cells released*: the same attack where nothing can be found; *training cells
released*: where everything can.
"""
DONOR_NOTE = """\
Donors: AUC of telling donors that were trained on from others by all their cells, in brackets 95 % of draws of donors
with replacement, and 95 % of what chance gives with so few donors.
"""


def membership_row(found: MembershipScores, copied: float | None) -> dict[str, Any]:
    """Scores as plain values."""
    return {
        "released": found.released, "candidates": found.candidates, "copied": copied,
        "auc": {attack: estimate.to_dict() for attack, estimate in found.auc.items()},
        "tpr": {attack: estimate.to_dict() for attack, estimate in found.tpr.items()},
    }  # fmt: skip


class Attacked:
    """The cells of a data set, training and held-out, with the donors of both where `donor_key` names them."""

    def __init__(self, cells: CellSet, donor_key: str | None, seed: int) -> None:
        self.cells, self.key, self.seed = cells, donor_key, seed
        prepared, self.sides, self.donors = cells.prepared, None, None
        if donor_key is not None:
            of = [donor_names(obs, donor_key, cells.name) for obs in (prepared.train.obs, cells.reference_obs)]
            require_donors(*of, donor_key)
            self.sides = DonorCells(cells.training, of[0]), DonorCells(cells.reference, of[1])
            if prepared.metadata.settings.donor_key == donor_key:
                self.donors = of[1]

    def generator(self, generator: Generator, count: int) -> dict[str, Any]:
        """The scores of `count` cells of a generator; peers are fitted on the scored genes alone."""
        released = made_of(generator, self.cells, count, self.seed).cells
        with optional("threadpoolctl").threadpool_limits(1):
            sides = released, self.cells.training, self.cells.reference
            found = score_membership(*sides, donors=self.donors, seed=self.seed)
            placed = self.cells.space.project(released[:MOST_COPIES])
            row = membership_row(found, memorisation(placed, self.cells, self.seed)["copied"])
            if self.sides is not None:
                scores = score_donors(released, *self.sides, key=self.key, seed=self.seed)
                row["donors"] = scores.to_dict()
        return row

    def floor(self) -> dict[str, Any]:
        """Other held-out cells in the generator's place."""
        with optional("threadpoolctl").threadpool_limits(1):
            found = score_floor(self.cells.training, self.cells.reference, donors=self.donors, seed=self.seed)
            return membership_row(found, memorisation(None, self.cells, self.seed)["held_out_copied"])

    def control(self, count: int) -> dict[str, Any]:
        """Training cells in the generator's place."""
        with optional("threadpoolctl").threadpool_limits(1):
            sides = self.cells.training, self.cells.reference, count
            found = score_control(*sides, donors=self.donors, seed=self.seed)
            return membership_row(
                found, memorisation(self.cells.space.training[:count], self.cells, self.seed)["copied"]
            )


def measure(
    attacked: Attacked, generators: Sequence[Generator], count: int, store: ResultStore
) -> tuple[list[Row], list[dict[str, str]]]:
    """(the rows of all generators, floor and control; what was skipped and why)."""
    cells, rows, skipped = attacked.cells, [], []
    for generator in generators:
        made_by = {**cells.made_by, "cells": count, "donor_key": attacked.key, **generator.record}
        try:
            row = store.measured(
                f"{slug(cells.name)}.{slug(generator.name)}",
                lambda generator=generator: {
                    "generator": generator.name, **attacked.generator(generator, count)
                },
                made_by=made_by,
            )  # fmt: skip
        except Skipped as reason:
            skipped.append({"generator": generator.name, "reason": str(reason)})
            continue
        rows.append(row)
        click.echo(f"{generator.name}: AUC {row['auc'][ATTACKS[1]]['mean']:.3f}", err=True)
    for name, score in ((FLOOR, attacked.floor), (CONTROL, lambda: attacked.control(count))):
        made_by = {**cells.made_by, "cells": count}
        row = store.measured(
            f"{slug(cells.name)}.{slug(name)}",
            lambda name=name, score=score: {"generator": name, **score()},
            made_by=made_by,
        )
        rows.append(row)
    return rows, skipped


def table(rows: Sequence[Row], about: Mapping[str, Any]) -> str:
    """All of it, as Markdown."""
    header = ["released cells", "cells", "copied", *(f"AUC{of}" for of in ("", ", knowing other cells"))]
    header += ["found at 1 %", "found, knowing other cells"]

    def text(row: Row, of: str, attack: str) -> str:
        return estimate_text(Estimate(**row[of][attack]))

    def line(row: Row) -> list[str]:
        name = row["generator"]
        scores = [text(row, of, attack) for of in ("auc", "tpr") for attack in ATTACKS]
        return [
            f"*{name}*" if name in (FLOOR, CONTROL) else name, f"{row['released']:,}", figure(row["copied"]), *scores
        ]  # fmt: skip

    cells = about["cells"]
    parts = [
        f"`{about['command']}`\n", NOTE,
        f"{cells['name']}: {cells['training']:,} training cells, {cells['held_out']:,} held-out cells, "
        f"{cells['genes']:,} genes\n",
        markdown_table(header, map(line, rows)),
    ]  # fmt: skip
    if any("donors" in row for row in rows):
        parts += [_donor_table([row for row in rows if "donors" in row])]
    parts += [f"{one['generator']}: skipped, {one['reason']}\n" for one in about["skipped"]]
    return "\n".join(parts)


def _donor_table(rows: Sequence[Row]) -> str:
    titles = {"mean": "mean of its cells", "share": "share of near cells"}
    header = ["released cells"]
    header += [f"{titles[name]}{known}" for known in ("", ", knowing other cells") for name in AGGREGATES]

    def line(row: Row) -> list[str]:
        found = [row["donors"]["attacks"][attack][name] for attack in ATTACKS for name in AGGREGATES]
        return [
            row["generator"],
            *(f"{one['auc']:.2f} ({one['low']:.2f} to {one['high']:.2f}; chance "
              f"{one['chance_low']:.2f} to {one['chance_high']:.2f})" for one in found),
        ]  # fmt: skip

    donors = rows[0]["donors"]
    sides = f"{donors['members']} donors trained on, {donors['others']} held out\n"
    return "\n".join([DONOR_NOTE, sides, markdown_table(header, map(line, rows))])


@click.command()
@click.argument("run", type=click.Path(path_type=Path, exists=True))
@click.option("--data", required=True, help="What the run was trained on: a file, or pbmc3k.")
@click.option("--cells", "count", type=click.IntRange(100), default=10_000, show_default=True, help="To release.")
@click.option("--made", type=click.Path(path_type=Path), metavar="FILE", help="Cells that the run has made already.")
@click.option("--donor-key", metavar="COLUMN", help="Attack donors, too.")
@click.option("--genes", type=click.IntRange(2), default=MOST_GENES, show_default=True, help="To attack in, at most.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder.")
def main(
    run: Path, data: str, count: int, made: Path | None, donor_key: str | None, genes: int, seed: int, out: Path
) -> None:
    """Measure what is missing, then write results.json and table.md."""
    use_every_core()
    with one_line_errors():
        model, cells = model_and_cells(run, data, genes)
        attacked = Attacked(cells, donor_key, seed)
        generators = [of_run(run, model, made), *map(peer, PEERS)]
        rows, skipped = measure(attacked, generators, count, ResultStore(out / STORE))
        about = {
            "command": command_line("benchmarks.privacy"), **about_cells(cells), "donor_key": donor_key,
            "skipped": skipped,
        }  # fmt: skip
        page = table(rows, about)
        write_files(out, {"results.json": as_json({**about, "rows": rows}), "table.md": page})
        click.echo(page)


if __name__ == "__main__":
    main()
