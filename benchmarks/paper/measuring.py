"""The rows of one set of cells: its models as they are trained, and each sampler of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np

import scrdit_jax as scrdit
from benchmarks.commands import slug
from benchmarks.paper.models import Model, draw, start, train_to, write_cells
from benchmarks.paper.plan import SYSTEMS, CellSource, Plan, Sampler, config_of, main_sampler, samplers
from scrdit_jax.benchmarking.store import ResultStore
from scrdit_jax.devices import describe_devices
from scrdit_jax.evaluation import metrics


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
        for system in SYSTEMS:
            config = config_of(system, self.cells, self.plan)
            prepared = scrdit.prepare(self.cells.data, preset=config)
            training, held_out = shuffled(prepared.train.X), shuffled(prepared.held_out.X)
            if system == "dit-zn":
                yield self.store.measured(f"{self.name}.floor", lambda t=training, h=held_out: self._floor(t, h))
            stages = self.plan.unet_epochs if system == "unet" else self.plan.epochs
            for epochs in stages:
                model = Model(
                    system=system, epochs=epochs, last=stages[-1], config=config, prepared=prepared,
                    training=training, held_out=held_out,
                )  # fmt: skip
                chosen = [main_sampler(self.plan)]
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
