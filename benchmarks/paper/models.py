"""The networks of the paper as they are trained, and cells drawn from them."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import scrdit_jax as scrdit
from benchmarks.fidelity.generators import require_finished
from benchmarks.paper.plan import Sampler
from scrdit_jax.checkpoint import load_model
from scrdit_jax.config import RunConfig, SamplingConfig
from scrdit_jax.data.preparing import Prepared
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
    require_finished(loop.train(model.prepared, config, out, loop.Options(stop_after=round(model.epochs * per_epoch))))
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
