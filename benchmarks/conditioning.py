"""One conditional model: do its cells get the names and the depth they were asked for, at guidance 0, 1 and 2?

scrdit train pbmc3k --preset demo --condition-on cell_type --out RUN
python -m benchmarks.conditioning RUN --out benchmarks/results/DEVICE/conditioning
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import anndata
import click
import numpy as np
from anndata import AnnData
from scipy.stats import ks_2samp

import scrdit_jax as scrdit
from benchmarks.generators import training_seconds
from scrdit_jax.checkpoint import Model, Run, load_model
from scrdit_jax.config import SamplingConfig
from scrdit_jax.devices import describe_devices, use_every_core
from scrdit_jax.evaluation.by_type import score_types
from scrdit_jax.evaluation.metrics import dense
from scrdit_jax.evaluation.scores import compare
from scrdit_jax.generation.counts import Counting
from scrdit_jax.generation.engine import make_engine
from scrdit_jax.generation.tuning import seconds_a_call
from scrdit_jax.io.atomic import atomic_write

GUIDANCES = (0.0, 1.0, 2.0)
ENOUGH_CELLS = 100
BATCH = 64
KS_LEVEL = 0.01
SEEDS = 20


@click.command()
@click.argument("run", type=click.Path(path_type=Path, exists=True))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for conditioning.json and .md.")
@click.option("--cells", default=250, show_default=True, help="Synthetic cells of each type.")
@click.option("--seeds", default=2, show_default=True, help="Samples for the scores of the whole mixture.")
def main(run: Path, out: Path, cells: int, seeds: int) -> None:
    """Measure RUN, a model with labels; one row a guidance and type."""
    use_every_core()
    model, held_out = load_model(run), anndata.read_h5ad(Run(run).held_out_path)
    condition = model.metadata.conditions[model.metadata.type_column]
    quotas = dict.fromkeys(condition.names, cells)
    real_totals = totals_of(held_out, model.metadata.normalization.target_sum)
    rows, whole = [], []
    for guidance in GUIDANCES:
        started = time.perf_counter()
        made = scrdit.sample(run, per_type=quotas, guidance=guidance, output="counts", batch_size=BATCH)
        seconds = time.perf_counter() - started
        for scores in score_types(held_out, made, condition.column, asked=quotas):
            here = (made.obs[condition.column] == scores.name).to_numpy()
            there = (held_out.obs[condition.column] == scores.name).to_numpy()
            count = dict(zip(condition.names, condition.cells, strict=True))[scores.name] + int(there.sum())
            code = condition.names.index(scores.name)
            training = model.cells.library_size[model.cells.labels[:, model.metadata.type_column] == code]
            drawn = depth_tests(made[here].copy(), held_out.obs["library_size"][there], real_totals[there], training)
            rows.append({"guidance": guidance, "real_cells": count, **asdict(scores), **drawn})
        scored = [mixture_scores(run, held_out, guidance, seed) for seed in range(seeds)]
        evaluations = made.uns["scrdit"]["network_evaluations"]
        whole.append({"guidance": guidance, "network_evaluations": evaluations, "seconds": seconds, "seeds": scored})
        click.echo(table(rows[-len(quotas) :]))
    result = {
        "device": describe_devices(),
        "training_seconds": training_seconds(Run(run)),
        "steps": model.step,
        "held_out_cells": held_out.n_obs,
        "rows": rows,
        "mixture": whole,
        "batch_seconds": gather_cost(model),
    }
    with atomic_write(out / "conditioning.json") as partial:
        partial.write_text(json.dumps(result, indent=1) + "\n")
    with atomic_write(out / "conditioning.md") as partial:
        partial.write_text(page(result))


def depth_tests(made: AnnData, library: np.ndarray, totals: np.ndarray, training: np.ndarray) -> dict[str, float]:
    """Two-sample KS of library sizes and counts against held-out cells, over SEEDS redraws of the same cells' counts.

    Medians of p, the shares of redraws with p of KS_LEVEL or more, and p of the training cells' library sizes: real
    against real.
    """
    pools, pvalues = (training,), []
    for seed in range(SEEDS):
        counts, drawn = Counting(pools, 10_000.0, None, seed).draw(made.X, 0, np.zeros(made.n_obs, int))
        sums = np.asarray(counts.sum(axis=1)).ravel()
        pvalues.append((ks_2samp(drawn, library).pvalue, ks_2samp(sums, totals).pvalue))
    pvalues = np.array(pvalues)
    (library_p, totals_p), (library_pass, totals_pass) = np.median(pvalues, 0), (pvalues >= KS_LEVEL).mean(0)
    return {
        "library_size_p": float(library_p),
        "total_counts_p": float(totals_p),
        "library_size_passed": float(library_pass),
        "total_counts_passed": float(totals_pass),
        "training_library_size_p": float(ks_2samp(training, library).pvalue),
    }


def totals_of(cells: AnnData, target_sum: float) -> np.ndarray:
    """Raw counts in the model's genes of real cells, which were normalised to `target_sum` and logged."""
    factors = cells.obs["library_size"].to_numpy(np.float64) / target_sum
    return np.round(np.expm1(dense(cells.X).astype(np.float64)).sum(axis=1) * factors)


def mixture_scores(run: Path, held_out: AnnData, guidance: float, seed: int) -> dict[str, float]:
    """Half the held-out cells against as many synthetic ones in their mixture; the other half is the floor."""
    order = np.random.default_rng([seed, 5]).permutation(held_out.n_obs)
    half = held_out[np.sort(order[: held_out.n_obs // 2])]
    other = held_out[np.sort(order[held_out.n_obs // 2 :])]
    made = scrdit.sample(run, match=half.copy(), guidance=guidance, seed=seed, batch_size=BATCH)
    found = compare(dense(half.X), dense(made.X), seed=seed)
    floor = compare(dense(half.X), dense(other.X)[: half.n_obs], seed=seed)
    names = ("random_forest_auc", "mmd_pca")
    return {name: found[name] for name in names} | {f"floor_{name}": floor[name] for name in names}


def gather_cost(model: Model) -> dict[str, float]:
    """Seconds of a batch of one label, of eight labels (a row of the table for each cell), and guided."""
    names = model.metadata.conditions[0].names
    one, many = ((names[:1], 10**6),), tuple(((name,), BATCH // 8) for name in (names * 8)[:8])
    if len(model.metadata.conditions) > 1:
        return {}
    found = {}
    for name, labels, guidance in (("one label", one, 1.0), ("eight labels", many, 1.0), ("guided", one, 2.0)):
        engine = make_engine(model, SamplingConfig(steps=10, batch_size=BATCH, guidance=guidance), labels)
        found[name] = seconds_a_call(lambda engine=engine: engine.dispatch(0), least_seconds=8.0)
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| guidance | cell type | real cells | asked | made | called so | real called so | PCA-50 MMD | real vs real "
        "| KS p, library size | passed | KS p, counts in the model's genes | passed | training cells' KS p |",
        "|" + "---|" * 14,
    ]
    for r in rows:
        mmd, floor = (f"{r[k]:.3f}" if r[k] is not None else "" for k in ("mmd", "floor"))
        real = "" if r["called_real"] is None else f"{r['called_real']:.1%}"
        lines.append(
            f"| {r['guidance']:g} | {r['name']} | {r['real_cells']} | {r['asked']} | {r['made']} | {r['called']:.1%} "
            f"| {real} | {mmd} | {floor} | {r['library_size_p']:.3f} "
            f"| {r['library_size_passed']:.0%} | {r['total_counts_p']:.3f} | {r['total_counts_passed']:.0%} "
            f"| {r['training_library_size_p']:.3f} |"
        )
    return "\n".join(lines)


def page(result: dict[str, Any]) -> str:
    """The report."""
    many = [r for r in result["rows"] if r["real_cells"] >= ENOUGH_CELLS]
    lines = [
        "# One conditional model, guidance 0, 1 and 2",
        "",
        f"{result['steps']} training steps in {result['training_seconds']:.0f} s; "
        f"{result['held_out_cells']} held-out real cells. The classifier is a logistic regression on those. KS p "
        f"are medians over {SEEDS} redraws of the counts, 'passed' the share with p of {KS_LEVEL:g} or more.",
        "",
        table(result["rows"]),
        "",
        f"Of the types with {ENOUGH_CELLS} real cells or more:",
        "",
        "| guidance | evaluations | least called so | smallest median KS p (library size) | (counts) "
        f"| KS passed at {KS_LEVEL:.0%} | AUC of the mixture | its PCA-50 MMD |",
        "|" + "---|" * 8,
    ]
    for entry in result["mixture"]:
        rows = [r for r in many if r["guidance"] == entry["guidance"]]
        library, totals = (min(r[k] for r in rows) for k in ("library_size_p", "total_counts_p"))
        passed = sum(r["library_size_p"] >= KS_LEVEL and r["total_counts_p"] >= KS_LEVEL for r in rows)
        auc, mmd = (
            f"{np.mean(v):.3f} ± {np.std(v, ddof=1) if len(v) > 1 else 0:.3f}"
            for v in ([s[k] for s in entry["seeds"]] for k in ("random_forest_auc", "mmd_pca"))
        )
        lines.append(
            f"| {entry['guidance']:g} | {entry['network_evaluations']} | {min(r['called'] for r in rows):.1%} "
            f"| {library:.3f} | {totals:.3f} | {passed} of {len(rows)} | {auc} | {mmd} |"
        )
    seeds = result["mixture"][0]["seeds"]
    floors = (np.mean([s[f"floor_{k}"] for s in seeds]) for k in ("random_forest_auc", "mmd_pca"))
    lines += ["| *real vs real* | | | | | | " + " | ".join(f"{f:.3f}" for f in floors) + " |", ""]
    if result["batch_seconds"]:
        costs = ", ".join(f"{name} {seconds * 1000:.0f} ms" for name, seconds in result["batch_seconds"].items())
        lines += [f"A batch of {BATCH} cells, 10 evaluations: {costs}.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
