"""The rows of one set of cells: its models as they are trained, the cells drawn from each, and their scores."""

from __future__ import annotations

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

import scrdit_jax as scrdit
from benchmarks.commands import slug
from benchmarks.fidelity.generators import require_finished
from benchmarks.paper.plan import DRAWN, CellSource, Plan, Sampler, config_of, main_sampler, samplers
from scrdit_jax.benchmarking.store import ResultStore
from scrdit_jax.checkpoint import load_model
from scrdit_jax.config import RunConfig, SamplingConfig
from scrdit_jax.data.preparing import Prepared
from scrdit_jax.devices import describe_devices
from scrdit_jax.diffusion.forward import add_noise
from scrdit_jax.evaluation import metrics
from scrdit_jax.generation.program import evaluate, network_of, prepare
from scrdit_jax.generation.settings import coefficients_for
from scrdit_jax.io.atomic import atomic_write
from scrdit_jax.sampling.solvers import Coefficients
from scrdit_jax.training import loop


@dataclass(frozen=True, kw_only=True)
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
    require_finished(
        loop.train(model.prepared, config, out, loop.TrainingOptions(stop_after=round(model.epochs * per_epoch)))
    )
    return time.perf_counter() - started


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


def shuffled(cells: Any) -> np.ndarray:
    """Dense, in random order: files are often sorted, and the first of them are to stand for all."""
    return np.random.default_rng(0).permutation(metrics.dense(cells))


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


class Bench:
    """One set of cells: its models as they are trained, and the rows measured on them."""

    def __init__(self, cells: CellSource, plan: Plan, store: ResultStore, work: Path) -> None:
        """Nothing is read or trained before a row is asked for."""
        self.cells, self.plan, self.store, self.work = cells, plan, store, work
        self.name = slug(cells.name)

    def measure(self) -> Iterator[dict[str, Any]]:
        """Every row, in the order in which the models are trained."""
        for system in self.plan.systems:
            config = config_of(system, self.cells, self.plan)
            prepared = scrdit.prepare(self.cells.data, preset=config)
            training, held_out = shuffled(prepared.train.X), shuffled(prepared.held_out.X)
            if system == "dit-zn":
                yield self.store.measured(f"{self.name}.floor", lambda t=training, h=held_out: self._floor(t, h))
            stages = self.plan.unet_epochs if system == "unet" else self.plan.epochs
            stages = stages[-1:] if system == DRAWN else stages
            for epochs in stages:
                model = Model(
                    system=system, epochs=epochs, last=stages[-1], config=config, prepared=prepared,
                    training=training, held_out=held_out,
                )  # fmt: skip
                chosen = [] if system == DRAWN else [main_sampler(self.plan)]
                if epochs == stages[-1]:
                    chosen = list(dict.fromkeys(chosen + samplers(system, self.plan)))
                for sampler in chosen:
                    row = self._row(model, sampler)
                    click.echo(f"{row['name']}: MMD {np.mean([s['mmd'] for s in row['scores']]):.3f}")
                    yield row

    def _floor(self, training: np.ndarray, held_out: np.ndarray) -> dict[str, Any]:
        write_cells(self.work / f"{self.name}.real.npz", training)
        about = {"cells": self.cells.name, "training": len(training), "held_out": len(held_out)}
        return about | {"scores": floors(training, held_out, self.plan.cells, self.plan.seeds)}

    def _row(self, model: Model, sampler: Sampler) -> dict[str, Any]:
        stage = f"{self.name}.{model.system}.{model.epochs}"
        run = self.work / f"{self.name}.{model.system}"
        # A row of its own: what was trained before an interruption is not trained, and so not timed, again.
        trained = self.store.measured(
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
                **start(sampler, model), "device": describe_devices(),
            }  # fmt: skip

        return self.store.measured(f"{stage}.{sampler}", measure) | {"training_seconds": trained["seconds"]}
