"""One conditional model: do its cells have the type and the depth that were requested, at guidance 0, 1 and 2?

scrdit train pbmc3k --preset demo --condition-on cell_type --out RUN
python -m benchmarks.fidelity.conditioning RUN --out benchmarks/results/DEVICE/conditioning
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import anndata
import click
import numpy as np
from anndata import AnnData
from scipy.stats import ks_2samp

import scrdit_jax as scrdit
from benchmarks.commands import as_json, one_line_errors, write_files
from benchmarks.fidelity.generators import training_seconds
from scrdit_jax.cache import seconds_a_call
from scrdit_jax.checkpoint import Model, Run, load_model
from scrdit_jax.conditioning.request import Quotas
from scrdit_jax.conditioning.variables import Variable
from scrdit_jax.config import SamplingConfig
from scrdit_jax.devices import describe_devices, use_every_core
from scrdit_jax.evaluation.by_type import score_types
from scrdit_jax.evaluation.comparison import Estimate, compare, estimate_text
from scrdit_jax.evaluation.metrics import dense
from scrdit_jax.evaluation.tables import markdown_table
from scrdit_jax.generation.engine import make_engine

GUIDANCES = (0.0, 1.0, 2.0)
BATCH = 64


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A model that is conditioned on cell types, its held-out cells, and the raw counts of those in its genes."""

    run: Path
    model: Model
    held_out: AnnData
    totals: np.ndarray

    @classmethod
    def read(cls, run: Path) -> Measured:
        """From a run folder."""
        model, held_out = load_model(run), anndata.read_h5ad(Run(run).held_out_path)
        totals = totals_of(held_out, model.metadata.normalization.target_sum)
        return cls(run=run, model=model, held_out=held_out, totals=totals)

    @property
    def types(self) -> Variable:
        """The conditioning variable of cell types."""
        table = self.model.conditions
        return table.variables[table.type_place]

    def rows(self, made: AnnData, guidance: float, quotas: Mapping[str, int]) -> list[dict[str, Any]]:
        """One row a type: its scores, and the tests of its library sizes and counts."""
        rows, column = [], self.types.name
        for scores in score_types(self.held_out, made, column, requested=quotas):
            here = (made.obs[column] == scores.name).to_numpy()
            there = (self.held_out.obs[column] == scores.name).to_numpy()
            code = self.types.code(scores.name)
            library = self.held_out.obs["library_size"][there]
            drawn = depth_tests(made[here], library, self.totals[there])
            real = self.types.counts[code] + int(there.sum())
            rows.append({"guidance": guidance, "real_cells": real, **asdict(scores), **drawn})
        return rows

    def guided(self, guidance: float, cells: int, seeds: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """(a row for each type, what `cells` of each took and how the whole mixture scores)."""
        quotas = dict.fromkeys(self.types.categories, cells)
        started = time.perf_counter()
        made = scrdit.sample(self.run, per_type=quotas, guidance=guidance, output="counts", batch_size=BATCH)
        seconds = time.perf_counter() - started
        scored = [mixture_scores(self.run, self.held_out, guidance, seed) for seed in range(seeds)]
        evaluations = made.uns["scrdit"]["network_evaluations"]
        mixture = {"guidance": guidance, "network_evaluations": evaluations, "seconds": seconds, "seeds": scored}
        return self.rows(made, guidance, quotas), mixture


@click.command()
@click.argument("run", type=click.Path(path_type=Path, exists=True))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for conditioning.json and .md.")
@click.option("--cells", default=250, show_default=True, help="Synthetic cells of each type.")
@click.option("--seeds", default=2, show_default=True, help="Samples for the scores of the whole mixture.")
def main(run: Path, out: Path, cells: int, seeds: int) -> None:
    """Measure RUN, a model that is conditioned on cell types; one row a guidance and type."""
    use_every_core()
    with one_line_errors():
        measured = Measured.read(run)
    rows, mixtures = [], []
    for guidance in GUIDANCES:
        of_types, mixture = measured.guided(guidance, cells, seeds)
        rows += of_types
        mixtures.append(mixture)
        click.echo(type_table(of_types))
    result = {
        "device": describe_devices(),
        "training_seconds": training_seconds(Run(run)),
        "steps": measured.model.step,
        "held_out_cells": measured.held_out.n_obs,
        "rows": rows,
        "mixture": mixtures,
        "batch_seconds": gather_cost(measured.model),
    }
    write_files(out, {"conditioning.json": as_json(result), "conditioning.md": page(result)})


def depth_tests(made: AnnData, library: np.ndarray, totals: np.ndarray) -> dict[str, float]:
    """p of two-sample KS tests of library sizes and counts of `made` cells against those of held-out ones."""
    sums = np.asarray(made.layers["counts"].sum(axis=1)).ravel()
    return {
        "library_size_p": float(ks_2samp(made.obs["library_size"], library).pvalue),
        "total_counts_p": float(ks_2samp(sums, totals).pvalue),
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
    """Seconds of a batch of one condition, of eight (a row of the table for each cell), and guided."""
    if len(model.conditions.variables) > 1:
        return {}
    types = len(model.conditions.variables[0].categories)
    one, many = Quotas(((0,),), (10**6,)), Quotas(tuple((i % types,) for i in range(8)), (BATCH // 8,) * 8)
    found = {}
    for name, quotas, guidance in (("one condition", one, 1.0), ("eight conditions", many, 1.0), ("guided", one, 2.0)):
        engine = make_engine(model, SamplingConfig(steps=10, batch_size=BATCH, guidance=guidance), quotas)
        found[name] = seconds_a_call(lambda engine=engine: engine.dispatch(0), least_seconds=8.0)
    return found


def type_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line a guidance and type."""
    header = [
        "guidance", "cell type", "real cells", "requested", "generated", "classified as requested",
        "real cells so classified", "PCA-50 MMD",
        "real vs real", "KS p, library size", "KS p, counts in the model's genes",
    ]  # fmt: skip
    forms = {
        "guidance": "g", "name": "s", "real_cells": "d", "requested": "d", "generated": "d", "classified": ".1%",
        "classified_real": ".1%", "mmd": ".3f", "floor": ".3f", "library_size_p": ".3f",
        "total_counts_p": ".3f",
    }  # fmt: skip
    lines = [["" if row[k] is None else format(row[k], form) for k, form in forms.items()] for row in rows]
    return markdown_table(header, lines)


def mixture_table(mixtures: Sequence[Mapping[str, Any]]) -> str:
    """One line a guidance; the floor last."""
    names = ("random_forest_auc", "mmd_pca")
    lines = [
        [f"{one['guidance']:g}", one["network_evaluations"],
         *(estimate_text(Estimate.of([scores[name] for scores in one["seeds"]])) for name in names)]
        for one in mixtures
    ]  # fmt: skip
    floors = [Estimate.of([scores[f"floor_{name}"] for scores in mixtures[0]["seeds"]]) for name in names]
    header = ["guidance", "evaluations", "AUC of the mixture", "its PCA-50 MMD"]
    return markdown_table(header, [*lines, ["*real vs real*", "", *map(estimate_text, floors)]])


def page(result: Mapping[str, Any]) -> str:
    """The report."""
    parts = [
        "# One conditional model, guidance 0, 1 and 2\n",
        f"{result['steps']} training steps in {result['training_seconds']:.0f} s; "
        f"{result['held_out_cells']} held-out real cells. The classifier is a logistic regression on those.\n",
        type_table(result["rows"]),
        mixture_table(result["mixture"]),
    ]
    if result["batch_seconds"]:
        costs = ", ".join(f"{name} {seconds * 1000:.0f} ms" for name, seconds in result["batch_seconds"].items())
        parts.append(f"A batch of {BATCH} cells, 10 evaluations: {costs}.\n")
    return "\n".join(parts)


if __name__ == "__main__":
    main()
