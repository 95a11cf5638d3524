"""Does it help a network to have genes together that are expressed together? The preset `transcriptome`, three ways.

    python -m benchmarks.fidelity.gene_order --out DIR

Short trainings on the same cells, seed by seed; scored by the loss of validation cells, at the same noise for all, and
by synthetic cells beside validation cells. Timesteps are not fitted, so that the networks alone differ. A command begun
again measures what is missing.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

import scrdit_jax as scrdit
from benchmarks.commands import as_json, command_line, one_line_errors, write_files
from benchmarks.fidelity.cell_sets import CellSet, ScoredGenes, Source
from benchmarks.fidelity.generators import training_seconds
from scrdit_jax.api import settings
from scrdit_jax.benchmarking.store import ResultStore, Row
from scrdit_jax.checkpoint import load_model
from scrdit_jax.config import RunConfig
from scrdit_jax.data.batches import Batch
from scrdit_jax.devices import describe_devices, use_every_core
from scrdit_jax.evaluation.comparison import Estimate, compare, estimate_text
from scrdit_jax.evaluation.metrics import dense
from scrdit_jax.evaluation.tables import markdown_table
from scrdit_jax.generation.program import network_of
from scrdit_jax.io.reading import EMBEDDED
from scrdit_jax.networks import attention_shape
from scrdit_jax.training import loop
from scrdit_jax.training.conditions import conditions_of
from scrdit_jax.training.evaluator import HeldOutLoss
from scrdit_jax.training.step import make_losses

EQUAL_TOKENS = {"rare_share": 0.0, "genes_per_rare_token": None}
ORDERS: Mapping[str, Mapping[str, Any]] = {
    "as in the file": {"gene_order": "file", **EQUAL_TOKENS},
    "by co-expression": {"gene_order": "coexpression", **EQUAL_TOKENS},
    "by co-expression, rare genes in longer tokens": {"gene_order": "coexpression"},
}
SCORED = {"all genes": ScoredGenes(), "2,000 HVG": ScoredGenes("hvg", 2000)}
SCORES = {"random_forest_auc": "AUC", "mmd_pca": "PCA-50 MMD"}
SAMPLED = {"solver": "distributional", "steps": 4, "schedule": "interior"}


@click.command()
@click.option("--data", default=EMBEDDED, show_default=True, help="Cells to train on.")
@click.option("--steps", type=click.IntRange(1), default=250, show_default=True)
@click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True)
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder.")
def main(data: str, steps: int, batch_size: int, seeds: int, out: Path) -> None:
    """Write results.json and table.md into the folder."""
    use_every_core()
    with one_line_errors():
        config = settings("transcriptome", steps=steps, batch_size=batch_size)
        cells = CellSet.read(Source.parse(data), config.data, "validation", multiple_of=1)
        store = ResultStore(out / "rows.json", {"data": cells.name, "steps": steps, "batch_size": batch_size})
        about = {"command": command_line("benchmarks.fidelity.gene_order"), **describe_devices()}
        about["cells"], rows = len(cells.reference), []
        for order, changes in ORDERS.items():
            for seed in range(seeds):
                made = config.with_settings({**changes, "seed": seed})
                rows.append(
                    store.measured(f"{order}.{seed}", lambda made=made: measure(cells, made)) | {"order": order}
                )
                click.echo(f"{order}, seed {seed}: loss {rows[-1]['loss']:.5f}, {rows[-1]['scores']}", err=True)
                write_files(out, {"results.json": as_json({**about, "rows": rows}), "table.md": table(rows)})
        click.echo(table(rows))


def measure(cells: CellSet, config: RunConfig) -> Row:
    """Train once and score: the loss, and synthetic cells over all genes and over the most variable ones."""
    prepared, seed = cells.prepared_for(config), config.training.seed
    with tempfile.TemporaryDirectory() as folder:
        run = loop.train(prepared, replace(config, data=prepared.metadata.settings), Path(folder) / "run")
        model, began = load_model(run), time.perf_counter()
        made = scrdit.sample(run, 2 * len(cells.reference), seed=seed, **SAMPLED)
        sampling_seconds, seconds = time.perf_counter() - began, training_seconds(run)
    network, prediction = network_of(model)
    held_out = prepared.held_out[np.isin(prepared.held_out.obs_names, cells.reference_names)]
    batch = Batch(held_out.X, *conditions_of(held_out.obs, model.metadata, prediction))
    loss = HeldOutLoss(make_losses(network, model.config, model.metadata.scaling), batch, config.training.batch_size)
    made = made[np.random.default_rng([seed, 9]).permutation(made.n_obs)]
    scores = {}
    for name, scored in SCORED.items():
        view = cells.on(scored)
        synthetic, size = dense(made[:, list(view.genes)].X), len(view.reference)
        halves = [compare(view.reference, synthetic[i : i + size], seed=seed, names=SCORES) for i in (0, size)]
        scores[name] = {score: float(np.mean([half[score] for half in halves])) for score in SCORES}
    return {
        "loss": loss(model.params), "scores": scores, "training_seconds": seconds, "sampling_seconds": sampling_seconds,
        "tokens": attention_shape(network)[0] - config.network.summary_token,
    }  # fmt: skip


def table(rows: list[Row]) -> str:
    """Mean and deviation over the seeds."""
    header = ["order of the genes", "tokens", "loss of validation cells", "s of training"]
    header += [f"{title}, {genes}" for genes in SCORED for title in SCORES.values()]
    lines = []
    for order in dict.fromkeys(row["order"] for row in rows):
        own = [row for row in rows if row["order"] == order]
        line = [
            order,
            str(own[0]["tokens"]),
            f"{np.mean([r['loss'] for r in own]):.5f} ± {np.std([r['loss'] for r in own]):.5f}",
        ]
        line.append(f"{np.median([row['training_seconds'] for row in own]):.0f}")
        for genes in SCORED:
            line += [estimate_text(Estimate.of([row["scores"][genes][score] for row in own])) for score in SCORES]
        lines.append(line)
    return markdown_table(header, lines)


if __name__ == "__main__":
    main()
