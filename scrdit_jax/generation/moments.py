"""What the model says of each gene's expression before anything of the cell but its conditions has been drawn."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from scipy.special import ndtri

from ..diffusion.predictions import Numbers
from ..errors import BadConfig
from ..sampling.sampler import cell_keys, cell_noise
from .conditions import draw_conditions
from .engine import Engine
from .program import Guide, Sampled, network_outputs, on_each_device, whole_counts

# Points that an expressed gene's distribution is averaged over: its mean is then right to 6 % with deviations of
# log expression of 0.2 to 0.6; with a deviation above 1 it may be a third too low.
POINTS = 16


class Moments(NamedTuple):
    """Of relative expression, expm1 of the log scale: mean and mean square, zeros among them, (cell, gene) float32."""

    mean: Any
    square: Any


def require_distribution(engine: Engine) -> None:
    """BadConfig unless the model says how each gene is distributed."""
    if not engine.program.sampled.prediction.is_distribution:
        raise BadConfig(
            "this model predicts clean cells, and not how each gene is distributed, so it is not known which of its "
            "zeros would be counts in deeper cells; simulate from a model of another prediction (train without "
            "--preset paper), or only lower genes: --up-share 0"
        )


def expression_moments(engine: Engine, first: int) -> Moments:
    """For the batch of cells `first`, `first` + 1, ..., genes in the file's order, on the host.

    They are those of p(x_0 | x_T), what the first of the solver's evaluations says of each gene: a function of the
    cell's state and labels, and of its starting noise, in which next to nothing of the gene itself is left. So they
    are the prior of the cell that is then drawn, and the same for each cell whatever the batch.
    """
    require_distribution(engine)
    program, placement = engine.program, engine.placement
    rows = jax.device_put(engine.assignment.rows(first, engine.batch_size), placement.shared_out)
    indices = np.arange(first, first + engine.batch_size, dtype=np.uint32)
    indices = jax.device_put(indices, placement.shared_out)
    mesh = placement.shared_out.mesh
    found = _moments(*program.arguments, indices, rows, sampled=program.sampled, mesh=mesh)
    return Moments(*(engine.in_file_order(np.asarray(each)) for each in found))


@partial(jax.jit, static_argnames=("sampled", "mesh"))
def _moments(weights, guide, coefficients, seed, cell_indices, rows, *, sampled: Sampled, mesh: Mesh) -> Moments:
    call = on_each_device(partial(_of_cells, sampled), mesh, alike=3, shared=2)
    return call((weights, guide), coefficients, seed, cell_indices, rows)


def _of_cells(sampled: Sampled, model: tuple[Any, Guide], coefficients, seed, cell_indices, rows) -> Moments:
    """One device's share, with its weights and guide as `model`; see `program._sample`, whose first step this is."""
    weights, guide = model
    keys = cell_keys(jax.random.key(seed), cell_indices)
    conditions = draw_conditions(guide.conditions, rows, keys, sampled.states)
    prediction: Any = sampled.prediction.for_cells(conditions.log_sizes)
    noisy = cell_noise(keys, 0, sampled.network.genes)
    alpha_bar = jnp.asarray(coefficients.alpha_bar, jnp.float32)[0].reshape(1, 1)
    outputs = network_outputs(weights, guide, conditions, sampled)
    unconditional = None if guide.table is None else guide.table[0]
    predicted, without = outputs(noisy, jnp.asarray(coefficients.timestep)[0], unconditional)
    if without:
        predicted = prediction.guide(predicted, without, guide.guidance)
    expressed = prediction.probability(noisy, predicted, alpha_bar)
    whole = sampled.states.whole_counts and guide.params is not None

    def add(sums, point):
        numbers = Numbers(expressed * point[0], jnp.full_like(noisy, point[1]))
        cells = sampled.scaling.unscale(prediction.draw(noisy, predicted, alpha_bar, numbers))
        if whole:
            cells = whole_counts(cells, conditions.library_size[:, None] / sampled.states.target_sum)
        value = jnp.expm1(cells)
        return Moments(sums.mean + value, sums.square + value**2), None

    zero = jnp.zeros_like(noisy)
    sums, _ = jax.lax.scan(add, Moments(zero, zero), jnp.asarray(_points()))
    return Moments(expressed * sums.mean / POINTS, expressed * sums.square / POINTS)


def _points() -> np.ndarray:
    """(POINTS, 2) float32: how much of the probability of being expressed is reached, and a standard normal value.

    A lattice: each of both takes the middles of POINTS equal parts, once.
    """
    middles = (np.arange(POINTS) + 0.5) / POINTS
    return np.stack([middles, ndtri(middles[7 * np.arange(POINTS) % POINTS])], axis=1).astype(np.float32)
