"""The sub-sequence of timesteps that suits a trained model best."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from ..checkpoint import Model
from ..diffusion.schedule import linear_schedule
from ..diffusion.timesteps import make_timesteps
from ..errors import BadTimesteps
from ..sampling.fitting import cheapest_path, step_errors, trace
from ..sampling.sampler import cell_keys, cell_noise
from ..sampling.solvers import noise_levels
from .engine import network_of

LEVELS = 64
CELLS = 64
GENES = 300


def fit_timesteps(model: Model, steps: int, *, seed: int = 0) -> np.ndarray:
    """`steps` descending timesteps with the least error of UniPC along a run of 64 steps with 64 cells.

    The levels to choose from are those of that run, at equal distances in log-SNR; the error is taken over 300 genes.
    Where the model knows labels, the cells have those of training cells drawn at random.
    Raises BadTimesteps if `steps` is not within 2 and their number.
    """
    schedule = linear_schedule(model.config.diffusion)
    most = min(LEVELS, schedule.timesteps)
    if not 2 <= steps <= most:
        raise BadTimesteps(f"{steps} steps cannot be fitted, only 2 to {most}; with more, use --schedule logsnr")
    network, prediction = network_of(model)
    genes = network.genes
    levels = noise_levels(schedule, make_timesteps("logsnr", schedule, most))
    params = jax.device_put(model.params)
    labels = None
    if model.facts.told:
        drawn = np.random.default_rng([seed, 1]).integers(len(model.cells.labels), size=CELLS)
        labels = jnp.asarray(model.cells.labels[drawn])

    @jax.jit
    def predict(noisy, timestep, alpha_bar):
        return prediction.clean(noisy, network.apply(params, noisy, timestep, labels), alpha_bar)

    def predict_clean(noisy: np.ndarray, i: int) -> np.ndarray:
        alpha_bar = jnp.full((1, 1), levels.alpha_bars[i], jnp.float32)
        clean = predict(jnp.asarray(noisy, jnp.float32), jnp.asarray(levels.timesteps[i : i + 1]), alpha_bar)
        return np.asarray(clean, np.float64)

    start = np.asarray(cell_noise(cell_keys(jax.random.key(seed), jnp.arange(CELLS)), 0, genes), np.float64)
    keep = np.sort(np.random.default_rng(seed).permutation(genes)[:GENES])
    chosen = cheapest_path(step_errors(trace(predict_clean, start, levels, keep)), steps)
    return levels.timesteps[chosen]
