"""Do synthetic cells respond to a perturbation as held-out real ones do, gene by gene?

    scrdit train kang.h5ad --preset transcriptome --condition-on condition --out RUN
    python -m benchmarks.fidelity.response RUN --data kang.h5ad --column condition --out DIR

RUN is conditioned on the column, of whose categories one is the control. Held-out cells give the response to be found;
training cells in the generator's place are the floor, and the copula and the kNN bootstrap, fitted within each
category, stand beside. DIR gets response.json, response.md and response.png.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.commands import as_json, command_line, one_line_errors, write_files
from benchmarks.fidelity.cell_sets import SIDES, CellSet, Source
from benchmarks.fidelity.generators import Generator, controls, ours_from_run, peer
from benchmarks.fidelity.response_figures import scatter
from benchmarks.peers import PEERS, Made, Skipped
from scrdit_jax.checkpoint import load_model
from scrdit_jax.devices import describe_devices, use_every_core
from scrdit_jax.errors import BadConfig, BadInput
from scrdit_jax.evaluation.comparison import REAL, Estimate, estimate_text
from scrdit_jax.evaluation.markers import log_fold_changes
from scrdit_jax.evaluation.metrics import pearson
from scrdit_jax.evaluation.tables import markdown_table
from scrdit_jax.extras import optional, versions

MOST_CHANGED = 200
DEFAULT_CELLS = 2000
PEERS_BESIDE = ("copula", "knn-bootstrap-16")
LOGS, MEANS = DEFINITIONS = ("mean logs", "mean counts")
# Of means per 10,000 counts: a gene that hardly anybody expresses changes by little, whatever its ratio.
PSEUDO_COUNT = 1.0
INTERFERON = (
    "ISG15", "IFI6", "IFIT1", "IFIT2", "IFIT3", "MX1", "OAS1", "ISG20", "IRF7", "IFI35", "LY6E", "IFITM3", "CXCL10",
)  # fmt: skip
LIBRARIES = ("scrdit_jax", "anndata", "numpy", "scipy", "scikit-learn")
NOTES = f"""\
Log fold changes of each gene between the two conditions, of the held-out cells and of the cells of each candidate;
*real vs real* are training cells. r: Pearson correlation over the {MOST_CHANGED} genes of the largest change, chosen on
training cells, or on the held-out cells themselves, whose changes are then too large; error: mean absolute difference
over the first of these. Mean logs: difference of mean log(1 + counts per 10,000), as tests on log values see it: single
cells with many counts move it little. Mean counts: log2 of the ratio of mean counts per 10,000, each plus
{PSEUDO_COUNT:g}, as a bulk sample shows it. Each definition has {MOST_CHANGED} genes of its own.
"""


@dataclass(frozen=True)
class Contrast:
    """The `treated` condition against the `control`."""

    treated: str
    control: str

    @classmethod
    def of(cls, conditions: Sequence[str], control: str | None, treated: str | None) -> Contrast:
        """Those that were named, else the first and the other one of two; BadConfig where that is not clear."""
        names = sorted(set(conditions))
        for name in (control, treated):
            if name is not None and name not in names:
                raise BadConfig(f"there is no condition {name!r}; there are {', '.join(names)}")
        if len(names) < 2 or (len(names) > 2 and None in (control, treated)):
            raise BadConfig(f"name two conditions, --control and --treated, of {', '.join(names)}")
        control = control or next(name for name in names if name != treated)
        contrast = cls(treated or next(name for name in names if name != control), control)
        if contrast.treated == contrast.control:
            raise BadConfig(f"--control and --treated are both {control!r}; name two conditions")
        return contrast

    def changes(self, cells: np.ndarray, conditions: np.ndarray) -> dict[str, np.ndarray]:
        """By definition the log fold change of each gene, (gene,), from (cell, gene) log values; BadInput where a
        condition has no cells."""
        asked = np.isin(conditions, (self.treated, self.control))
        cells, conditions = cells[asked], conditions[asked]
        for name in (self.treated, self.control):
            if not (conditions == name).any():
                raise BadInput(f"there are no cells of {name!r}; give more --cells")
        treated, control = (
            np.expm1(cells[conditions == name]).mean(axis=0, dtype=np.float64) + PSEUDO_COUNT
            for name in (self.treated, self.control)
        )
        return {LOGS: log_fold_changes(cells, conditions, [self.treated])[0], MEANS: np.log2(treated / control)}


@dataclass(frozen=True, eq=False)
class Response:
    """The response of training and held-out cells, and the genes that are looked at."""

    cells: CellSet
    contrast: Contrast

    @cached_property
    def training(self) -> dict[str, np.ndarray]:
        """Changes of the training cells, by definition."""
        return self.contrast.changes(self.cells.training, self.cells.training_types)

    @cached_property
    def held_out(self) -> dict[str, np.ndarray]:
        """Changes of the held-out cells, by definition."""
        return self.contrast.changes(self.cells.reference, self.cells.reference_types)

    def most_changed(self, definition: str, *, on_training: bool = True) -> np.ndarray:
        """Column numbers of the genes that change most, either way."""
        changes = (self.training if on_training else self.held_out)[definition]
        return np.argsort(-np.abs(changes), kind="stable")[:MOST_CHANGED]

    def score(self, made: Made) -> dict[str, Any]:
        """Plain values: by definition the scores of generated cells, and the change of every gene."""
        found: dict[str, Any] = {"cells": len(made.cells)}
        changes = self.contrast.changes(made.cells, made.types)
        for definition, here in changes.items():
            there = self.held_out[definition]
            chosen, own = (self.most_changed(definition, on_training=on) for on in (True, False))
            found[definition] = {
                "r": pearson(there[chosen], here[chosen]),
                "r_chosen_on_held_out": pearson(there[own], here[own]),
                "error": float(np.abs(there[chosen] - here[chosen]).mean()),
                "changes": here.tolist(),
            }
        return found


def within(generator: Generator) -> Generator:
    """The same, fitted on the cells of each type alone, which are drawn as frequently as among training cells."""

    def make(cells: CellSet, count: int, seed: int) -> Made:
        names = np.random.default_rng([seed, 16]).choice(cells.training_types, count)
        made = np.empty((count, len(cells.genes)), np.float32)
        for name in np.unique(names):
            of = names == name
            made[of] = generator.make(cells.of_type(name), int(of.sum()), seed).cells
        return Made(made, names)

    return replace(generator, make=make)


def read(run: Path, source: Source, side: str) -> CellSet:
    """The real cells of a run that is conditioned on the source's column; BadInput for another run."""
    model = load_model(run)
    if source.cell_type_key not in [variable.name for variable in model.metadata.variables]:
        raise BadInput(f"{run} is not conditioned on {source.cell_type_key!r}; train it with --condition-on")
    multiple = model.config.network.gene_multiple
    return CellSet.read(source, model.config.data, side, multiple_of=multiple, most=10**9)


def measure(response: Response, chosen: Sequence[Generator], count: int, seeds: int) -> dict[str, list[dict[str, Any]]]:
    """The scores of each generator with every seed; BadInput where one cannot be used."""
    found: dict[str, list[dict[str, Any]]] = {}
    for generator in chosen:
        for seed in range(seeds):
            try:
                made = generator.make(response.cells, count, seed)
            except Skipped as reason:
                raise BadInput(f"{generator.name}: {reason}") from None
            row = response.score(made)
            found.setdefault(generator.name, []).append(row)
            said = ", ".join(f"{name}: r {row[name]['r']:.3f}" for name in DEFINITIONS)
            click.echo(f"{generator.name}, seed {seed}: {said}", err=True)
    return found


def shown_genes(response: Response, asked: Sequence[str]) -> list[str]:
    """Those that were asked for, else the interferon genes that there are, else the twelve that change most."""
    genes = response.cells.genes
    if missing := [name for name in asked if name not in genes]:
        raise BadInput(f"the run has no gene {missing[0]!r}; name genes that it was trained on")
    known = [name for name in INTERFERON if name in genes]
    most = genes[response.most_changed(LOGS)][:12]
    return list(asked) or (known if len(known) > 2 else list(map(str, most)))


def page(response: Response, found: Mapping[str, Sequence[Mapping[str, Any]]], about: Mapping[str, Any]) -> str:
    """The tables, as Markdown."""
    ordered = sorted(found, key=lambda name: name == REAL)
    labels = {name: f"*{name}*" if name == REAL else name for name in ordered}

    def text(name: str, definition: str, score: str) -> str:
        return estimate_text(Estimate.of([row[definition][score] for row in found[name]]))

    scores = ("r", "r_chosen_on_held_out", "error")
    header = ["generator"]
    header += [f"{what}, {name}" for name in DEFINITIONS for what in ("r", "r, chosen on held-out", "error")]
    lines = [[labels[name], *(text(name, of, score) for of in DEFINITIONS for score in scores)] for name in ordered]
    genes = list(response.cells.genes)

    def change(name: str, gene: str) -> str:
        return estimate_text(Estimate.of([row[LOGS]["changes"][genes.index(gene)] for row in found[name]]))

    of_genes = [
        [gene, f"{response.held_out[LOGS][genes.index(gene)]:.3f}", *(change(name, gene) for name in ordered)]
        for gene in about["shown"]
    ]
    contrast = response.contrast
    return "\n".join([
        f"`{about['command']}`: {contrast.treated} against {contrast.control}; mean ± deviation of {about['seeds']} "
        f"seeds. {len(response.cells.reference):,} {SIDES[about['on']]} cells, {about['cells']:,} of each generator, "
        f"{len(genes):,} genes.\n",
        NOTES, markdown_table(header, lines), "## Genes, mean logs\n",
        markdown_table(["gene", "held-out", *(labels[name] for name in ordered)], of_genes),
    ])  # fmt: skip


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", required=True, metavar="FILE", help="What RUN was trained on.")
@click.option("--column", required=True, metavar="COLUMN", help="The column of obs with the conditions.")
@click.option("--control", metavar="NAME", help="[default: the first of two]")
@click.option("--treated", metavar="NAME", help="[default: the other]")
@click.option(
    "--gene", "asked", multiple=True, metavar="GENE", help="In the table; repeatable.  [default: interferon's]"
)
@click.option("--cells", type=click.IntRange(20), default=DEFAULT_CELLS, show_default=True, help="Of each generator.")
@click.option("--on", type=click.Choice(SIDES), default="validation", show_default=True, help="Which held-out cells.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder.")
def main(
    run: Path,
    data: str,
    column: str,
    control: str | None,
    treated: str | None,
    asked: tuple[str, ...],
    cells: int,
    on: str,
    seeds: int,
    out: Path,
) -> None:
    """Measure the response of cells of RUN, and of others beside."""
    use_every_core()
    with one_line_errors():
        optional("matplotlib.figure"), optional("sklearn.decomposition")
        real = read(run, Source(data, column), on)
        response = Response(real, Contrast.of(list(real.training_types), control, treated))
        shown = shown_genes(response, asked)
        chosen = [controls()[0], *(within(peer(name)) for name in PEERS_BESIDE if name in PEERS)]
        chosen.insert(0, ours_from_run(run.name, run, {}))
        found = measure(response, chosen, cells, seeds)
    about = {
        "command": command_line("benchmarks.fidelity.response"), "on": on, "seeds": seeds, "cells": cells,
        "held_out": len(real.reference), "training": len(real.training), **vars(response.contrast), "shown": shown,
        **describe_devices(), "versions": versions(LIBRARIES),
    }  # fmt: skip
    table = page(response, found, about)
    drawn = [(name, np.array(rows[0][LOGS]["changes"])) for name, rows in found.items()]
    picture = scatter(response.held_out[LOGS], drawn, response.cells.genes, response.most_changed(LOGS), shown)
    kept = {name: [_without_changes(row, response, shown) for row in rows] for name, rows in found.items()}
    write_files(out, {"response.json": as_json({**about, "rows": kept}), "response.md": table, "response.png": picture})
    click.echo(table)


def _without_changes(row: Mapping[str, Any], response: Response, shown: Sequence[str]) -> dict[str, Any]:
    """A row with the changes of the shown genes alone, by name."""
    genes = list(response.cells.genes)

    def small(definition: Mapping[str, Any]) -> dict[str, Any]:
        return {**definition, "changes": {gene: definition["changes"][genes.index(gene)] for gene in shown}}

    return {name: small(value) if name in DEFINITIONS else value for name, value in row.items()}


if __name__ == "__main__":
    main()
