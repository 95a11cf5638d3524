"""scanpy's standard workflow on real and on synthetic cells, side by side: what an analyst would find in either.

    python -m benchmarks.fidelity.workflow RUN --real pbmc3k --out DIR
    python -m benchmarks.fidelity.workflow RUN --real counts.h5ad:annotation --marker CD3D --marker LYZ --out DIR

From counts: normalise, log1p, highly variable genes, PCA, neighbours, UMAP, Leiden, with scanpy's own settings. All
real cells and as many synthetic ones go through it each by itself; held-out cells go through it together with as many
synthetic ones, and together with as many training cells, which is the floor. DIR gets workflow.json, workflow.md and
two pictures. Needs pip install '.[workflow]'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import anndata
import click
import numpy as np
import pandas as pd
from anndata import AnnData

import scrdit_jax as scrdit
from benchmarks.commands import as_json, command_line, one_line_errors, write_files
from benchmarks.fidelity.cell_sets import SIDES, CellSet, Source
from benchmarks.fidelity.generators import check_comparable
from benchmarks.fidelity.scanpy_workflow import EXTRA, agreement, matched_clusters, mixing, run_workflow, turned_like
from benchmarks.fidelity.workflow_figures import joint_picture, workflow_picture
from benchmarks.peers import Skipped
from scrdit_jax.checkpoint import Model, load_model
from scrdit_jax.devices import describe_devices, use_every_core
from scrdit_jax.errors import BadInput
from scrdit_jax.evaluation.comparison import REAL, SYNTHETIC, Estimate, estimate_text
from scrdit_jax.evaluation.tables import markdown_table
from scrdit_jax.extras import optional, versions
from scrdit_jax.io.reading import EMBEDDED

TYPE, SIDE = "type", "side"
MARKERS = ("CD3D", "LYZ", "MS4A1", "NKG7", "PPBP")
LIBRARIES = ("scrdit_jax", "scanpy", "igraph", "umap-learn", "scikit-learn")
NOTES = """\
ARI: adjusted Rand index of Leiden clusters and cell types, 1 where they are the same partition. Together: held-out
cells and as many of the candidate in one graph. Neighbours: the candidate's share of the 15 neighbours of a held-out
cell, over what chance gives; least: of the type with the least of it. One-sided: cells in clusters of which nine tenths
are of one side. *real vs real* are training cells in the synthetic cells' place.
"""


class Both(NamedTuple):
    """A model and the real cells that it is compared with."""

    run: Path
    model: Model
    real: CellSet

    @classmethod
    def read(cls, run: Path, source: Source, side: str) -> Both:
        """BadInput where the cells are not those that the run holds out, or have no types or counts."""
        model = load_model(run)
        config, multiple = model.config.data, model.config.network.gene_multiple
        real = CellSet.read(source, config, side, multiple_of=multiple)
        try:
            check_comparable(real, run, model)
            if real.prepared.metadata.cell_type_key is None:
                raise Skipped("needs cell types; give their column, --real FILE:COLUMN")
            if not real.prepared.metadata.normalization.were_counts:
                raise Skipped("needs raw counts, and these cells came on a log scale")
        except Skipped as reason:
            raise BadInput(f"{run} with {source.data}: {reason}") from None
        return cls(run, model, real)

    def counts(self, names: Sequence[str]) -> AnnData:
        """Real cells by name: counts in X, types and side in obs."""
        prepared = self.real.prepared
        types = prepared.cells.obs.loc[list(names), prepared.metadata.cell_type_key].astype(str).to_numpy()
        return _labelled(self.real.counts_of(names), prepared.cells.var_names, names, types, REAL)

    def sample(self, count: int, seed: int) -> AnnData:
        """Synthetic cells in the same form; types are the model's own, or a classifier's of real training cells."""
        made = scrdit.sample(self.run, count, seed=seed, output="counts")
        made = made[:, list(self.real.prepared.cells.var_names)]
        # Cells of a model that is conditioned on the types come type by type.
        made = made[np.random.default_rng([seed, 9]).permutation(count)]
        key = self.real.prepared.metadata.cell_type_key
        types = made.obs[key] if key in made.obs else self.real.space.classify(self.real.space.project(made.X))
        names = [f"synthetic{i}" for i in range(count)]
        return _labelled(made.layers["counts"], made.var_names, names, np.asarray(types, str), SYNTHETIC)


def _labelled(counts: Any, genes: Sequence[str], names: Sequence[str], types: np.ndarray, side: str) -> AnnData:
    obs = pd.DataFrame({TYPE: types, SIDE: side}, index=list(names))
    cells = AnnData(counts.astype(np.float32), obs=obs, var=pd.DataFrame(index=list(genes)))
    return cells[np.asarray(cells.X.sum(axis=1)).ravel() > 0].copy()


def apart(counts: AnnData, seed: int, *, places: bool) -> tuple[AnnData, dict[str, Any]]:
    """The workflow on one side by itself: (the cells after it, what it found)."""
    cells = run_workflow(counts, seed=seed, places=places)
    found = {"cells": cells.n_obs, "clusters": cells.obs["leiden"].nunique(),
             "ari": agreement(cells.obs["leiden"], cells.obs[TYPE])}  # fmt: skip
    return cells, found


def together(first: AnnData, second: AnnData, seed: int, *, places: bool) -> tuple[AnnData, dict[str, Any]]:
    """The workflow on both sides at once, equally many of each: (the cells after it, what it found)."""
    size = min(first.n_obs, second.n_obs)
    rng = np.random.default_rng([seed, 15])
    sides = [side[np.sort(rng.permutation(side.n_obs)[:size])] for side in (first, second)]
    cells, found = apart(anndata.concat(sides, index_unique="-"), seed, places=places)
    types, is_second = cells.obs[TYPE].to_numpy(str), np.arange(cells.n_obs) >= size
    return cells, {**found, **asdict(mixing(cells, is_second, types))}


def measure(
    both: Both, cells: int | None, seeds: int, markers: Sequence[str]
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """(what each side came to with every seed, pictures of the first by file name)."""
    prepared = both.real.prepared
    real, held_out = both.counts(list(prepared.cells.obs_names)), both.counts(both.real.reference_names)
    training = both.counts(list(prepared.train.obs_names))
    training.obs[SIDE] = "training"
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in ("real", "synthetic", "joint", "floor")}
    pictures: dict[str, bytes] = {}
    for seed in range(seeds):
        places = seed == 0
        made = both.sample(cells or real.n_obs, seed)
        sides = [apart(side, seed, places=places) for side in (real, made)]
        joint, found = together(held_out, made, seed, places=places)
        rows["real"].append(sides[0][1])
        rows["synthetic"].append(sides[1][1])
        rows["joint"].append(found)
        rows["floor"].append(together(held_out, training, seed, places=False)[1])
        click.echo(f"seed {seed}: " + ", ".join(f"{name} {of[-1]}" for name, of in rows.items()), err=True)
        if places:
            pictures = {
                "workflow.png": workflow_picture(*alike(sides[0][0], sides[1][0]), markers),
                "joint.png": joint_picture(joint, real.obs[TYPE].to_numpy(str)),
            }
    return rows, pictures


def alike(real: AnnData, synthetic: AnnData) -> tuple[AnnData, AnnData]:
    """Both with clusters named, and places turned, as the real cells'."""
    names = matched_clusters(real, synthetic)
    synthetic.obs["leiden"] = [names[name] for name in synthetic.obs["leiden"]]
    types = (side.obs[TYPE].to_numpy(str) for side in (synthetic, real))
    there, here = next(types), next(types)
    synthetic.obsm["X_umap"] = turned_like(synthetic.obsm["X_umap"], there, real.obsm["X_umap"], here)
    return real, synthetic


def page(rows: Mapping[str, Sequence[Mapping[str, Any]]], about: Mapping[str, Any]) -> str:
    """The tables, as Markdown."""

    def text(name: str, value: str) -> str:
        return estimate_text(Estimate.of([row[value] for row in rows[name]]))

    def cells(name: str) -> str:
        return f"{rows[name][0]['cells']:,}"

    by_itself = [[name, cells(name), text(name, "clusters"), text(name, "ari")] for name in ("real", "synthetic")]
    titles = {"joint": SYNTHETIC, "floor": f"*{REAL}*"}
    joint = [
        [title, cells(name), text(name, "clusters"), text(name, "ari"), text(name, "neighbours"),
         f"{text(name, 'least')} ({', '.join(sorted({row['least_type'] for row in rows[name]}))})",
         text(name, "one_sided")]
        for name, title in titles.items()
    ]  # fmt: skip
    header = ["candidate", "cells of both", "Leiden clusters", "ARI with types", "neighbours", "least", "one-sided"]
    parts = [
        f"`{about['command']}`: mean ± deviation of {about['seeds']} seeds, {about['genes']} genes.\n", NOTES,
        "## Each by itself\n", markdown_table(["side", "cells", "Leiden clusters", "ARI with types"], by_itself),
        f"## Together with {SIDES[about['on']]} cells\n",
        markdown_table(header, joint),
    ]  # fmt: skip
    return "\n".join(parts)


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--real", default=EMBEDDED, show_default=True, metavar="PATH[:COLUMN]", help="What RUN was trained on.")
@click.option(
    "--cells", type=click.IntRange(20), help="Synthetic cells by themselves.  [default: as many as real ones]"
)
@click.option(
    "--marker", "markers", multiple=True, metavar="GENE", help=f"Repeatable.  [default: {', '.join(MARKERS)}]"
)
@click.option("--on", type=click.Choice(SIDES), default="both", show_default=True, help="Which held-out cells.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder.")
def main(
    run: Path, real: str, cells: int | None, markers: tuple[str, ...], on: str, seeds: int, out: Path
) -> None:  # fmt: skip
    """Run the workflow on cells of RUN and on real ones."""
    use_every_core()
    with one_line_errors():
        optional("scanpy", extra=EXTRA), optional("igraph", extra=EXTRA)
        both = Both.read(run, Source.parse(real), on)
        genes = both.real.prepared.cells.var_names
        if missing := [name for name in markers if name not in genes]:
            raise BadInput(f"{run} has no gene {missing[0]}; name markers among its {len(genes)} genes")
    shown = [name for name in markers or MARKERS if name in genes]
    rows, pictures = measure(both, cells, seeds, shown)
    about = {
        "command": command_line("benchmarks.fidelity.workflow"), "on": on, "seeds": seeds, "genes": len(genes),
        "step": both.model.step, **describe_devices(), "versions": versions(LIBRARIES),
    }  # fmt: skip
    table = page(rows, about)
    write_files(out, {"workflow.json": as_json({**about, "rows": rows}), "workflow.md": table, **pictures})
    click.echo(table)


if __name__ == "__main__":
    main()
