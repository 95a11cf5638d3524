"""The timesteps that suit a trained model best: for UniPC by its path, for a solver that draws by where it ends."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from anndata import AnnData
from scipy.sparse.linalg import svds
from threadpoolctl import threadpool_limits

from ..checkpoint import Model
from ..conditioning.request import CellRequest, resolve
from ..config import SamplingConfig
from ..data.splitting import validation_mask
from ..diffusion.predictions import is_distribution
from ..diffusion.schedule import linear_schedule
from ..diffusion.timesteps import INTERIOR, interior, make_timesteps
from ..errors import BadConfig, BadTimesteps
from ..evaluation.metrics import dense, gaussian_mmd
from ..io.reading import read_cells
from ..sampling.fitting import cheapest_path, step_errors, trace
from ..sampling.sampler import cell_keys, cell_noise
from ..sampling.solvers import noise_levels
from ..sampling.solvers.distributional import distributional
from .composition import dense_batches
from .conditions import drawn_as_training_cells
from .engine import make_engine
from .program import network_of
from .settings import default_dtype, resolve_sampling
from .tuning import fastest_batch_size

LEVELS = 64
CELLS = 64
GENES = 300
# Log-SNR where a solver that draws may begin and end, of which the best are looked for.
FIRST, LAST = (-8.0, -6.0, -4.0), (0.0, 1.0, 2.0)
SAMPLES = 2
MOST_DRAWN_STEPS = 8
# What a trained run carries: these are fitted, others up to MOST_DRAWN_STEPS have the ends of the last.
CARRIED_STEPS = (1, 2, 4)
FEWEST_REAL_CELLS, MOST_REAL_CELLS = 40, 512
COMPONENTS = 50
SOLVERS = ("distributional", "unipc")


def default_solver(model: Model) -> str:
    """Which of SOLVERS a model's timesteps are fitted for, unless another is asked for."""
    return SOLVERS[0 if is_distribution(model.config.diffusion.prediction) else 1]


def fit(model: Model, solver: str, steps: int, *, held_out: Path, seed: int = 0) -> np.ndarray:
    """`steps` timesteps for one of SOLVERS; `held_out` is where the run has its held-out cells, if it has any."""
    if solver not in SOLVERS:
        raise BadConfig(f"no timesteps can be fitted for solver {solver!r}; there are {', '.join(SOLVERS)}")
    if solver == "unipc":
        return fit_unipc(model, steps, seed=seed)
    resolve_sampling(
        model, SamplingConfig(solver=solver, steps=1, schedule="interior")
    )  # refused where it has no distribution
    cells = read_cells(held_out) if held_out.is_file() else None
    real = np.empty((0, len(model.metadata.genes))) if cells is None else validation_cells(cells, model)
    return fit_drawn(model, steps, real, seed=seed)


def fit_unipc(model: Model, steps: int, *, seed: int = 0) -> np.ndarray:
    """`steps` descending timesteps with the least error of UniPC along a run of 64 steps with 64 cells.

    The levels to choose from are those of that run, at equal distances in log-SNR; the error is taken over 300 genes.
    The cells have conditions in the training cells' proportions.
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
    keys = cell_keys(jax.random.key(seed), jnp.arange(CELLS))
    known = drawn_as_training_cells(model, keys)
    prediction = prediction.for_cells(known.log_sizes)

    @jax.jit
    def predict(noisy, timestep, alpha_bar):
        return prediction.clean(noisy, network.apply(params, noisy, timestep, known.labels, known.states), alpha_bar)

    def predict_clean(noisy: np.ndarray, i: int) -> np.ndarray:
        alpha_bar = jnp.full((1, 1), levels.alpha_bars[i], jnp.float32)
        clean = predict(jnp.asarray(noisy, jnp.float32), jnp.asarray(levels.timesteps[i : i + 1]), alpha_bar)
        return np.asarray(clean, np.float64)

    start = np.asarray(cell_noise(keys, 0, genes), np.float64)
    keep = np.sort(np.random.default_rng(seed).permutation(genes)[:GENES])
    chosen = cheapest_path(step_errors(trace(predict_clean, start, levels, keep)), steps)
    return levels.timesteps[chosen]


def fit_drawn(model: Model, steps: int, real: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """`steps` timesteps, 1 to 8, at equal distances in log-SNR between the ends that give the best cells.

    The score is that of end points, not of paths: PCA-50 MMD between as many synthetic cells as there are `real` ones,
    (cell, gene) log values that the model was not trained on, and those. Every pair of FIRST and LAST is tried on two
    samples, the same noise for all; where the best is not better on both, the ends are those of `interior`. Raises
    BadTimesteps for other `steps` or too few cells.
    """
    most = min(MOST_DRAWN_STEPS, model.config.diffusion.timesteps)
    if not 1 <= steps <= most:
        raise BadTimesteps(f"{steps} steps cannot be fitted, only 1 to {most}; with more, leave --schedule out")
    if len(real) < FEWEST_REAL_CELLS:
        raise BadTimesteps(
            f"timesteps are fitted on {FEWEST_REAL_CELLS} held-out cells or more, and there are {len(real)}; raise "
            "--held-out when you train, or leave --schedule out"
        )
    return _best_ends(model, steps, real, seed)[1]


def validation_cells(held_out: AnnData, model: Model) -> np.ndarray:
    """Those held-out cells of a run that choices may be made by, MOST_REAL_CELLS at most; (cell, gene) float32."""
    rows = np.flatnonzero(validation_mask(held_out.obs, model.metadata.settings))
    rows = np.sort(np.random.default_rng(0).permutation(rows)[:MOST_REAL_CELLS])
    # Cells that are streamed are a view until they are sliced.
    return dense(held_out.X[rows][:])


def fit_carried(model: Model, held_out: AnnData) -> dict[int, np.ndarray]:
    """Timesteps for 1 to 8 steps, by their number; see `fit_drawn`. Empty where too few cells are held out."""
    real = validation_cells(held_out, model)
    if len(real) < FEWEST_REAL_CELLS:
        return {}
    schedule = linear_schedule(model.config.diffusion)
    most, found, ends = min(MOST_DRAWN_STEPS, schedule.timesteps), {}, INTERIOR
    for steps in CARRIED_STEPS:
        if steps <= most:
            ends, found[steps] = _best_ends(model, steps, real, 0)
    for steps in set(range(1, most + 1)) - set(found):
        found[steps] = interior(schedule, steps, first=ends[0], last=ends[1])
    return dict(sorted(found.items()))


def _best_ends(model: Model, steps: int, real: np.ndarray, seed: int) -> tuple[tuple[float, float], np.ndarray]:
    """((first, last) log-SNR, the timesteps between)."""
    schedule = linear_schedule(model.config.diffusion)
    batch = fastest_batch_size(model, default_dtype())
    cells = max(batch, round(len(real) / batch) * batch)
    quotas = resolve(CellRequest(cells=cells), model.conditions)

    def scores(timesteps: np.ndarray) -> np.ndarray:
        table, found = distributional(noise_levels(schedule, timesteps)), []
        for sample in range(SAMPLES):
            engine = make_engine(model, _sampling((seed + sample) % 2**32, batch), quotas, coefficients=table)
            found.append(_distance(real, np.concatenate(list(dense_batches(engine, cells)))))
        return np.array(found)

    pairs = {(first, last) for first in FIRST for last in (LAST if steps > 1 else INTERIOR[1:])}
    tried = {ends: interior(schedule, steps, first=ends[0], last=ends[1]) for ends in sorted({INTERIOR, *pairs})}
    scored = {ends: scores(timesteps) for ends, timesteps in tried.items()}
    best = min(scored, key=lambda ends: scored[ends].mean())
    if not np.all(scored[best] <= scored[INTERIOR]):
        best = INTERIOR
    return best, tried[best]


def _sampling(seed: int, batch_size: int) -> SamplingConfig:
    return SamplingConfig(solver="distributional", steps=1, schedule="interior", seed=seed, batch_size=batch_size)


def _distance(real: np.ndarray, synthetic: np.ndarray) -> float:
    """PCA-50 MMD, the components those of both sides together."""
    both = np.concatenate([real, synthetic]).astype(np.float32)
    both -= both.mean(axis=0)
    components = min(COMPONENTS, min(both.shape) - 1)
    # A start of its own, so that the result is the same each time. Threads would wait for each other at each of
    # thousands of small products, for minutes where other work is going on.
    with threadpool_limits(1):
        left, sizes, _ = svds(both, components, v0=np.ones(min(both.shape), np.float32))
    places = left * sizes
    return gaussian_mmd(places[: len(real)], places[len(real) :])
