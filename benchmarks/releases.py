"""The cells of a trained run beside those of other generators that are fitted on the same training cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.fidelity.cell_sets import ALL_GENES, CellSet, ScoredGenes, Source
from benchmarks.fidelity.generators import Generator, as_made, sampled
from benchmarks.peers import Made, Skipped
from scrdit_jax.checkpoint import Model, Run
from scrdit_jax.data.splitting import same_split
from scrdit_jax.devices import describe_devices
from scrdit_jax.errors import BadInput
from scrdit_jax.evaluation.privacy import MOST_HELD_OUT
from scrdit_jax.extras import versions
from scrdit_jax.families import load, models_of
from scrdit_jax.io.reading import read_cells
from scrdit_jax.provenance import Provenance

MOST_GENES = 2000
LIBRARIES = ("scrdit_jax", "anndata", "numpy", "scipy", "scikit-learn", "scvi-tools")


def model_and_cells(run: Path, data: str, genes: int, side: str = "both") -> tuple[Model, CellSet]:
    """The run's model, and the cells it was trained on, split as they were, in at most so many of their genes."""
    model = models_of(load(run))[0]
    config = model.config
    multiple = config.network.gene_multiple
    whole = CellSet.read(Source.parse(data), config.data, side, multiple_of=multiple, most=MOST_HELD_OUT)
    require_same_cells(whole, run, model)
    there = whole.prepared.cells.n_vars
    return model, whole.on(ScoredGenes("hvg", genes) if there > genes else ScoredGenes(ALL_GENES))


def made_of(generator: Generator, cells: CellSet, count: int, seed: int) -> Made:
    """So many cells of a generator in the scored genes; peers are fitted on these alone."""
    if "sampling" not in generator.record:
        return generator.make(cells, count, seed)
    return generator.make(cells.whole, count, seed).of_genes(cells.columns)


def about_cells(cells: CellSet) -> dict[str, Any]:
    """Where it was measured, with what, and on which cells; plain values."""
    of = {"name": cells.name, "training": len(cells.training), "held_out": len(cells.reference)}
    return {**describe_devices(), "versions": versions(LIBRARIES), "cells": {**of, "genes": len(cells.genes)}}


def of_run(run: Path, model: Model, made: Path | None) -> Generator:
    """The run's cells: sampled, or those of the file `made`, which must say that this model made them."""

    def make(cells: CellSet, count: int, seed: int) -> Made:
        if made is None:
            return sampled(run, cells, count, seed, {})
        there = read_cells(made)
        record = Provenance.from_uns(there.uns)
        if record is None or record.models[0].digest != model.digest:
            raise Skipped(f"{made.name} holds no cells that this run made")
        return as_made(there[:count], cells, run, seed, None)

    return Generator("scrdit_jax", {"step": model.step, "digest": model.digest, "sampling": {}}, make)


def require_same_cells(cells: CellSet, run: Path, model: Model) -> None:
    """BadInput where the run was not trained on these cells, split as here. A file that was sorted since, and so has
    another digest, holds the same where the run's own held-out cells are those that are held out here."""
    here, there = cells.prepared.metadata, model.metadata
    same = set(here.genes) == set(there.genes) and same_split(here.settings, there.settings)
    counted = (here.n_train, here.n_held_out) == (there.n_train, there.n_held_out)
    if same and counted and here.digest != there.digest and Run(run).held_out_path.is_file():
        held_out = cells.prepared.held_out.obs_names
        same = set(read_cells(Run(run).held_out_path).obs_names) == set(held_out)
    elif here.digest != there.digest:
        same = False
    if not same:
        raise BadInput(f"{run} was not trained on these cells ({there.source} recorded); give that file as --data")
