"""Everything the paper measured, anew: tables 1 to 3, figures 3a-c and 4a-c, and why its cells collapse at 100x.

    python -m benchmarks.paper --quick --set maynard_lung.h5ad:Fibroblast --out DIR       minutes on two CPU cores
    python -m benchmarks.paper --set gse103322.h5ad:Fibroblast --set gse103322.h5ad:malignant --out DIR      on a GPU

One DiT with zero-negation, one without, one standardised and one UNet are trained for each set of cells. Every row is
kept as soon as it is measured, and the same command goes on where it was stopped. DIR gets results.json, tables.md and
the figures; DIR/work holds runs and cells, and may be deleted in the end.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import jax
import jax.numpy as jnp
import numpy as np

# Also when it is run by its path.
sys.path[:0] = [] if __package__ else [str(Path(__file__).parent.parent)]

import scrdit_jax as scrdit
from benchmarks import paper_pages
from benchmarks.generators import whole
from benchmarks.rows import Rows, slug
from scrdit_jax.checkpoint import load_model
from scrdit_jax.config import RunConfig, SamplingConfig
from scrdit_jax.data.preparing import Prepared
from scrdit_jax.devices import describe_devices, use_every_core
from scrdit_jax.diffusion.forward import add_noise
from scrdit_jax.errors import OutputExists, ScrditError
from scrdit_jax.evaluation import metrics
from scrdit_jax.extras import optional
from scrdit_jax.generation.program import evaluate, network_of, prepare
from scrdit_jax.generation.settings import coefficients_for
from scrdit_jax.io.atomic import atomic_write, check_parents
from scrdit_jax.sampling.solvers import Coefficients
from scrdit_jax.training import loop

ACCELERATIONS = (1, 10, 20, 50, 100)
COLLAPSED = 100
SYSTEMS = {
    "dit-zn": {},
    "dit": {"zero_value": None},
    "unet": {"architecture": "unet", "zero_value": None},
    # Not in the paper: what the collapse is explained with.
    "dit-zn-standardised": {"standardize": True},
}
EMBEDDED = "pbmc3k:CD4 T cells"


@dataclass(frozen=True)
class Plan:
    """How much is done. `cells` are sampled for each seed; `dit` and `unet` are settings of the networks."""

    epochs: tuple[int, ...]
    unet_epochs: tuple[int, ...]
    cells: int
    seeds: int
    etas: tuple[float, ...]
    main_acceleration: int
    settings: dict[str, Any]
    dit: dict[str, Any]
    unet: dict[str, Any]


FULL = Plan(
    epochs=(200, 400, 600, 800), unet_epochs=(200, 400, 600, 800),
    cells=2000, seeds=3, etas=(0.0, 0.5, 1.0), main_acceleration=1,
    settings={}, dit={}, unet={"heads": 4},
)  # fmt: skip
QUICK = Plan(
    epochs=(50, 100, 200, 400), unet_epochs=(50, 100, 200), cells=128, seeds=2, etas=(0.0, 1.0), main_acceleration=10,
    settings={"genes": 400, "held_out": 0.25},
    dit={"genes_per_token": 20, "width": 128, "depth": 3, "heads": 4}, unet={"channels": 8, "heads": 1},
)  # fmt: skip


@dataclass(frozen=True)
class Sampler:
    """How cells are drawn. Acceleration 1 with eta 1 is DDPM's own sampling, sigma^2 = beta.

    `from_real` begins with training cells under the first timestep's noise instead of with pure noise: what is wrong
    then is not the start's fault.
    """

    acceleration: int
    eta: float
    schedule: str
    from_real: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """For `scrdit.sample`."""
        if self.acceleration == 1 and self.eta == 1:
            return {"solver": "ddpm", "schedule": "uniform"}
        return {"solver": "ddim", "eta": self.eta, "schedule": self.schedule, "acceleration": self.acceleration}

    def __str__(self) -> str:
        return f"r{self.acceleration}-eta{self.eta:g}-{self.schedule}" + "-from-real" * self.from_real


@dataclass(frozen=True)
class Cells:
    """A set of cells: `name` for the tables, where they are read from, and the training and held-out ones."""

    name: str
    data: str
    cell_type: str | None
    cell_type_key: str


def main_sampler(plan: Plan) -> Sampler:
    """Tables 1 and 2: DDPM, or where that would take too long the acceleration that the paper finds as good."""
    return Sampler(plan.main_acceleration, 1.0, "paper")


def samplers(system: str, plan: Plan) -> list[Sampler]:
    """What the last model of a system is sampled with, beside `main_sampler`."""
    starts = [Sampler(COLLAPSED, eta, schedule) for eta in plan.etas for schedule in ("paper", "uniform")]
    starts += [Sampler(COLLAPSED, eta, schedule, True) for eta in plan.etas for schedule in ("paper", "uniform")]
    if system == "dit-zn-standardised":
        return starts
    if system != "dit-zn":
        return []
    table = [Sampler(1, eta, "paper") for eta in plan.etas]
    table += [Sampler(r, eta, s) for r in ACCELERATIONS[1:] for s in ("paper", "quadratic") for eta in plan.etas]
    return list(dict.fromkeys([*table, *starts]))


def config_of(system: str, cells: Cells, plan: Plan) -> RunConfig:
    """The `paper` preset with what the system and the plan change; the steps are set once the cells are counted."""
    changes = {**plan.settings, **SYSTEMS[system], **(plan.unet if system == "unet" else plan.dit)}
    if cells.cell_type is not None:
        changes |= {"cell_type_key": cells.cell_type_key, "cell_types": [cells.cell_type]}
    return scrdit.settings("paper", **changes)


@dataclass(frozen=True)
class Model:
    """A system after `epochs` of the `last`, with the cells it is trained on and held against, (cell, gene)."""

    system: str
    epochs: int
    last: int
    config: RunConfig
    prepared: Prepared
    training: np.ndarray
    held_out: np.ndarray


def train_to(model: Model, out: Path) -> float:
    """Train on until the model's epochs; the seconds it took."""
    per_epoch = model.prepared.metadata.n_train / model.config.training.batch_size
    steps = round(model.last * per_epoch)
    config = model.config.with_settings({"steps": steps, "checkpoint_every": steps, "log_every": 100})
    config = replace(config, data=model.prepared.metadata.settings)
    started = time.perf_counter()
    whole(loop.train(model.prepared, config, out, loop.TrainingOptions(stop_after=round(model.epochs * per_epoch))))
    return time.perf_counter() - started


def shuffled(cells: Any) -> np.ndarray:
    """Dense, in random order: files are often sorted, and the first of them are to stand for all."""
    return np.random.default_rng(0).permutation(metrics.dense(cells))


def write_cells(path: Path, values: np.ndarray) -> None:
    """Keep cells for the figures."""
    with atomic_write(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, cells=values)


def draw(
    run: Path, sampler: Sampler, cells: int, seed: int, training: np.ndarray, out: Path
) -> tuple[np.ndarray, float]:
    """(cells as (cell, gene) log values, seconds); kept at `out` for the figures."""
    started = time.perf_counter()
    if sampler.from_real:
        values = denoised(run, sampler, np.random.default_rng(seed).choice(training, cells), seed)
    else:
        sampled = scrdit.sample(run, cells, seed=seed, batch_size=min(cells, 64), **sampler.options)
        values = metrics.dense(sampled.X)
    seconds = time.perf_counter() - started
    write_cells(out, values)
    return values, seconds


def denoised(run: Path, sampler: Sampler, clean: np.ndarray, seed: int) -> np.ndarray:
    """The sampler's own steps from `clean` cells (cell, gene) that were brought to its first timestep (eq. 9)."""
    model = load_model(run)
    network, prediction = network_of(model)
    table = coefficients_for(model.config.diffusion, SamplingConfig(**sampler.options))
    weights, modulations = prepare(model.params, jnp.asarray(table.timestep), network=network, dtype="float32")
    step = jax.jit(partial(evaluate, network=network, prediction=prediction))
    random, scaling = np.random.default_rng([seed, 1]), model.metadata.scaling
    noise = random.normal(size=(len(table.timestep), *clean.shape)).astype(np.float32)
    x = add_noise(scaling.scale(clean), random.normal(size=clean.shape).astype(np.float32), table.alpha_bar[0])
    for i, row in enumerate(zip(*table, strict=True)):
        row = Coefficients(*row)  # of DDIM, which uses the step before for nothing
        predicted = step(weights, modulations[i], jnp.float32(x), jnp.full((1, 1), row.alpha_bar, jnp.float32))
        x = row.a * x + row.b * np.asarray(predicted) + row.s * noise[i]
    return scaling.unscale(np.float32(x))


def score(synthetic: np.ndarray, training: np.ndarray, held_out: np.ndarray) -> dict[str, float]:
    """The paper's three against the training cells, as it does; two more against as many held-out ones.

    Sizes may differ: KL pairs the first min(n) rows, the others use every row.
    """
    few = min(len(held_out), len(synthetic))
    return {
        "kl": metrics.kl_divergence(training, synthetic),
        "wasserstein": metrics.wasserstein_flat(training, synthetic),
        "mmd": metrics.mmd_blocks(training, synthetic),
        "mmd_held_out": metrics.mmd_blocks(held_out[:few], synthetic[:few]),
        "mmd_pca_held_out": metrics.mmd_pca(held_out[:few], synthetic[:few]),
        "zero_fraction": float((synthetic == 0).mean()),
    }


def floors(training: np.ndarray, held_out: np.ndarray, cells: int, seeds: int) -> list[dict[str, float]]:
    """The same scores of real cells: halves of the training cells for the paper's three, held-out against training."""
    found = []
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(training)
        half = min(len(training) // 2, cells)
        found.append(score(order[:half], order[-half:], held_out))
    return found


def start(sampler: Sampler, model: Model) -> dict[str, float]:
    """Where a sampler starts, and how far off that is: N(0, I) is taken for noisy cells at its first timestep t.

    `start_error` is |sqrt(abar_t) E[x_0]| / sqrt(1 - abar_t), x_0 on the network's scale: how many deviations of the
    noise the mean noisy cell lies from zero, along its own direction.
    """
    mean = np.linalg.norm(model.prepared.metadata.scaling.scale(model.training).mean(axis=0, dtype=np.float64))
    table = coefficients_for(model.config.diffusion, SamplingConfig(**sampler.options))
    alpha_bar = float(table.alpha_bar[0])
    error = float(mean * np.sqrt(alpha_bar / (1 - alpha_bar)))
    return {"starts_at": int(table.timestep[0]), "evaluations": len(table.timestep), "start_error": error}


def parse_set(text: str, cell_type_key: str) -> Cells:
    """DATA or DATA:TYPE."""
    data, colon, cell_type = text.rpartition(":") if ":" in text else (text, "", "")
    return Cells(cell_type or Path(data).stem, data, cell_type if colon else None, cell_type_key)


class Bench:
    """One set of cells: its models as they come to be, and the rows measured on them."""

    def __init__(self, cells: Cells, plan: Plan, out: Path) -> None:
        """Nothing is read or trained before a row is asked for."""
        self.cells, self.plan, self.work = cells, plan, out / "work"
        self.name, self.rows = slug(cells.name), Rows(out / "rows")

    def measure(self) -> Iterator[dict[str, Any]]:
        """Every row, in the order in which models come to be."""
        for system in SYSTEMS:
            config = config_of(system, self.cells, self.plan)
            prepared = scrdit.prepare(self.cells.data, preset=config)
            training, held_out = shuffled(prepared.train.X), shuffled(prepared.held_out.X)
            if system == "dit-zn":
                yield self.rows.measured(f"{self.name}.floor", lambda t=training, h=held_out: self._floor(t, h))
            stages = self.plan.unet_epochs if system == "unet" else self.plan.epochs
            for epochs in stages:
                model = Model(system, epochs, stages[-1], config, prepared, training, held_out)
                chosen = [main_sampler(self.plan)]
                if epochs == stages[-1]:
                    chosen = list(dict.fromkeys(chosen + samplers(system, self.plan)))
                for sampler in chosen:
                    row = self._row(model, sampler)
                    click.echo(f"{row['kept']}: MMD {np.mean([s['mmd'] for s in row['scores']]):.3f}")
                    yield row

    def _floor(self, training: np.ndarray, held_out: np.ndarray) -> dict[str, Any]:
        write_cells(self.work / f"{self.name}.real.npz", training)
        about = {"cells": self.cells.name, "training": len(training), "held_out": len(held_out)}
        return about | {"scores": floors(training, held_out, self.plan.cells, self.plan.seeds)}

    def _row(self, model: Model, sampler: Sampler) -> dict[str, Any]:
        stage = f"{self.name}.{model.system}.{model.epochs}"
        run = self.work / f"{self.name}.{model.system}"
        # A row of its own: what was trained before an interruption is not trained, and so not timed, again.
        trained = self.rows.measured(
            f"{stage}.training", lambda: {"seconds": train_to(model, run), "device": describe_devices()}
        )

        def measure() -> dict[str, Any]:
            train_to(model, run)
            files = [self.work / f"{stage}.{sampler}.{seed}.npz" for seed in range(self.plan.seeds)]
            drawn = [draw(run, sampler, self.plan.cells, seed, model.training, f) for seed, f in enumerate(files)]
            return {
                "cells": self.cells.name, "system": model.system, "epochs": model.epochs, **asdict(sampler),
                "sampling_seconds": [seconds for _, seconds in drawn],
                "scores": [score(values, model.training, model.held_out) for values, _ in drawn],
                "kept": f"{stage}.{sampler}", **start(sampler, model), "device": describe_devices(),
            }  # fmt: skip

        return self.rows.measured(f"{stage}.{sampler}", measure) | {"training_seconds": trained["seconds"]}


@click.command()
@click.option("--set", "sets", multiple=True, metavar="DATA[:TYPE]", help=f"Repeatable.  [default: {EMBEDDED}]")
@click.option("--cell-type-key", default="cell_type", show_default=True)
@click.option("--quick", is_flag=True, help="Small networks, few epochs and cells: 23 minutes on two busy CPU cores.")
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(sets: tuple[str, ...], cell_type_key: str, quick: bool, out: Path) -> None:
    """Measure what is missing, then write tables and figures."""
    plan = QUICK if quick else FULL
    chosen = [parse_set(text, cell_type_key) for text in sets or (EMBEDDED,)]
    names = [slug(cells.name) for cells in chosen]
    if len(set(names)) < len(names):
        raise click.ClickException(
            "two sets have the same name, so their rows would be one; measure them into two --out"
        )
    use_every_core()
    try:
        optional("matplotlib")
        claim(out, json.loads(json.dumps({"plan": asdict(plan), "sets": [asdict(cells) for cells in chosen]})))
        rows = [row for cells in chosen for row in Bench(cells, plan, out).measure()]
        command = shlex.join(["python", "-m", "benchmarks.paper", *sys.argv[1:]])
        paper_pages.write(rows, {"command": command, "plan": asdict(plan), "sets": [asdict(c) for c in chosen]}, out)
    except ScrditError as error:
        raise click.ClickException(" ".join(str(error).split())) from None
    click.echo((out / "tables.md").read_text())


def claim(out: Path, asked: dict[str, Any]) -> None:
    """Make the folder ours, or check that it holds the rows of just this plan."""
    record = out / "plan.json"
    check_parents(record)
    if record.is_file() and json.loads(record.read_text()) != asked:
        raise OutputExists(f"{out} holds other sets or another plan; give another --out")
    with atomic_write(record) as partial:
        partial.write_text(json.dumps(asked) + "\n")


if __name__ == "__main__":
    main()
