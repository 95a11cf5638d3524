"""From a trained run to synthetic cells: which table, which batches, and what the cells carry with them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from tqdm import tqdm

from ..checkpoint import Model
from ..config import DiffusionConfig, SamplingConfig
from ..data.scaling import Scaling
from ..diffusion.predictions import Prediction, make_prediction
from ..diffusion.schedule import linear_schedule
from ..diffusion.timesteps import SCHEDULES, make_timesteps, steps_of_acceleration
from ..errors import BadConfig, Diverged
from ..networks.dit import DiT
from ..sampling.sampler import cell_keys, integrate
from ..sampling.solvers import Coefficients, find_solver, make_coefficients, noise_levels

DEFAULT_STEPS = 25


def coefficients_for(diffusion: DiffusionConfig, config: SamplingConfig) -> Coefficients:
    """The table that `config` asks for, on this model's noise schedule; one row a network evaluation."""
    schedule = linear_schedule(diffusion)
    steps = config.steps
    if config.acceleration is not None:
        steps = steps_of_acceleration(schedule.timesteps, config.acceleration)
    name = config.schedule or find_solver(config.solver).schedule
    if steps is None and name in SCHEDULES and config.solver != "ddpm":
        steps = min(DEFAULT_STEPS, schedule.timesteps)
    timesteps = make_timesteps(name, schedule, steps)
    levels = noise_levels(schedule, timesteps)
    return make_coefficients(config.solver, levels, eta=config.eta, variance=config.variance)


@partial(jax.jit, static_argnames=("network", "prediction", "scaling", "dtype"))
def sample_batch(
    params: Any,
    seed: jax.Array,
    cell_indices: jax.Array,
    coefficients: Coefficients,
    *,
    network: DiT,
    prediction: Prediction,
    scaling: Scaling,
    dtype: str,
) -> jax.Array:
    """Cells (cell, gene) on the log scale, zeros restored, for global `cell_indices` (cell,).

    The network computes in `dtype`, the solver in float32. Conditioning is a table of one row a step, made once.
    """

    def cast(tree):
        return jax.tree.map(lambda leaf: leaf.astype(dtype), tree)

    table = network.apply(params, jnp.asarray(coefficients.timestep), method="modulations")[:, None]
    weights = cast(params)

    def predict_clean(noisy, alpha_bar, modulations):
        predicted = network.apply(weights, noisy.astype(dtype), modulations, method="denoise")
        return prediction.clean(noisy, predicted.astype(jnp.float32), alpha_bar)

    keys = cell_keys(jax.random.key(seed), cell_indices)
    return scaling.unscale(integrate(predict_clean, keys, coefficients, cast(table), genes=network.genes))


def sample_batches(model: Model, cells: int, config: SamplingConfig) -> Iterator[sparse.csr_matrix]:
    """`cells` synthetic cells in batches of one fixed shape, CSR float32; the next is dispatched before one is fetched.

    Raises Diverged, naming the cells, if a value is not finite.
    """
    prediction = make_prediction(model.config.diffusion.prediction, model.facts.scaling)
    sample = partial(
        sample_batch,
        jax.device_put(model.params),
        jnp.uint32(config.seed),
        coefficients=coefficients_for(model.config.diffusion, config),
        network=DiT(model.config.network, len(model.facts.genes), prediction.outputs),
        prediction=prediction,
        scaling=model.facts.scaling,
        dtype=config.dtype,
    )
    batch = min(config.batch_size, cells)
    starts = range(0, cells, batch)
    ahead = sample(cell_indices=jnp.arange(batch))
    for start in starts:
        current = ahead
        if start + batch < cells:
            ahead = sample(cell_indices=start + batch + jnp.arange(batch))
        values = np.asarray(current)[: cells - start]
        if not np.isfinite(values).all():
            raise Diverged(
                f"cells {start} to {start + len(values) - 1} hold values that are not finite; the model may have "
                "diverged (see metrics.jsonl), or the steps are too few for this solver: try --solver ddim --steps 100"
            )
        yield sparse.csr_matrix(values)


def sample(model: Model, cells: int, config: SamplingConfig) -> AnnData:
    """`cells` synthetic cells as an AnnData: CSR on the log scale, the genes in order, the recipe in `.uns['scrdit']`.

    Cell i depends on the model, the seed and i alone, not on how many are made or in what batches.
    """
    if cells < 1:
        raise BadConfig(f"{cells} cells were asked for; ask for at least 1")
    batches = []
    with tqdm(total=cells, unit="cell", disable=None, desc="sample") as bar:
        for batch in sample_batches(model, cells, config):
            batches.append(batch)
            bar.update(batch.shape[0])
    names = pd.Index([f"synthetic_{i}" for i in range(cells)])
    synthetic = AnnData(
        sparse.vstack(batches, format="csr"),
        obs=pd.DataFrame(index=names),
        var=pd.DataFrame(index=pd.Index(model.facts.genes, name="gene")),
    )
    synthetic.uns["scrdit"] = provenance(model, cells, config)
    return synthetic


def provenance(model: Model, cells: int, config: SamplingConfig) -> dict[str, Any]:
    """What made the cells, as plain values that every file format holds; settings and facts as JSON strings."""
    from .. import __version__

    table = coefficients_for(model.config.diffusion, config)
    return {
        "version": __version__,
        "cells": cells,
        "solver": config.solver,
        "network_evaluations": len(table.timestep),
        "timesteps": json.dumps(table.timestep.tolist()),
        "seed": config.seed,
        "trained_steps": model.step,
        "trained_on": model.facts.source,
        "sampling": json.dumps(asdict(config)),
        "config": json.dumps(model.config.to_dict()),
        "facts": json.dumps(model.facts.to_dict()),
    }
