"""One pure training step (scRDiT section 2.4, eq. 9 and 10), and its data-parallel form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ..config import RunConfig
from ..data.batches import Batch
from ..data.scaling import Scaling
from ..diffusion.forward import add_noise
from ..diffusion.predictions import make_prediction
from ..diffusion.schedule import linear_schedule, timestep_probabilities
from .state import TrainState, make_optimizer

DEVICES = "devices"
Step = Callable[[TrainState, Batch], tuple[TrainState, "Metrics"]]


class Metrics(NamedTuple):
    """Scalars of one step: mean squared error per gene (eq. 10, averaged), and the gradient's norm before clipping."""

    loss: jax.Array
    gradient_norm: jax.Array


def make_step(network: nn.Module, config: RunConfig, scaling: Scaling, *, axis_name: str | None = None) -> Step:
    """A pure function (state, batch) -> (state, metrics).

    Every random number derives from the seed, the step and the cell's place in the whole batch, so the result does
    not depend on how many devices share the batch. With `axis_name` the function is one device's share of a pmap.
    """
    training = config.training
    prediction = make_prediction(config.diffusion.prediction, scaling)
    schedule = linear_schedule(config.diffusion)
    cumulative = jnp.asarray(np.cumsum(timestep_probabilities(schedule, training)), jnp.float32)
    alpha_bars = jnp.asarray(schedule.alpha_bars, jnp.float32)
    optimizer = make_optimizer(training)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        cells = batch.cells
        key = jax.random.fold_in(jax.random.key(training.seed), state.step)
        level_key, noise_key = jax.random.split(key)
        first, whole = 0, len(cells)
        if axis_name is not None:
            first, whole = lax.axis_index(axis_name) * len(cells), lax.axis_size(axis_name) * len(cells)
        places = first + jnp.arange(len(cells))

        quantiles = _quantiles(level_key, places, whole, stratified=training.stratified_levels)
        timesteps = 1 + jnp.minimum(jnp.searchsorted(cumulative, quantiles, side="right"), schedule.timesteps - 1)
        alpha_bar = alpha_bars[timesteps][:, None]
        clean = scaling.scale(cells)
        noise = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(noise_key, i), cells.shape[1:]))(places)
        noisy = add_noise(clean, noise, alpha_bar)

        labels = batch.labels
        if labels is not None:
            # All of a cell's labels at once: sampling asks for all of them or for none.
            dropped = _uniform(jax.random.fold_in(key, 2), places) < training.label_dropout
            labels = jnp.where(dropped[:, None], -1, labels)

        def mean_squared_error(params):
            predicted = network.apply(params, noisy, timesteps, labels)
            return jnp.mean(prediction.error(clean, noise, noisy, predicted, alpha_bar) ** 2)

        loss, gradient = jax.value_and_grad(mean_squared_error)(state.params)
        if axis_name is not None:
            loss, gradient = lax.pmean((loss, gradient), axis_name)
        updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        following = TrainState(state.step + 1, params, _average(state, params, training.ema_decay), optimizer_state)
        return following, Metrics(loss, optax.tree.norm(gradient))

    return step


def _quantiles(key: jax.Array, places: jax.Array, batch: int, *, stratified: bool) -> jax.Array:
    """Uniform in [0, 1), one a cell: independent, or one in each of `batch` equal strata (less noise in the loss)."""
    if stratified:
        return (places + jax.random.uniform(key)) / batch
    return _uniform(key, places)


def _uniform(key: jax.Array, places: jax.Array) -> jax.Array:
    return jax.vmap(lambda i: jax.random.uniform(jax.random.fold_in(key, i)))(places)


def _average(state: TrainState, params, decay: float | None):
    """EMA with a horizon that grows with the step at first, so that the initial weights are soon forgotten."""
    if decay is None:
        return None
    step = state.step.astype(jnp.float32)
    return optax.incremental_update(params, state.ema, 1 - jnp.minimum(decay, (1 + step) / (10 + step)))


class ParallelStep(NamedTuple):
    """`place` a state on the devices, `run` (state, batch) -> (state, metrics), `fetch` the state from one of them."""

    place: Callable[[TrainState], TrainState]
    run: Step
    fetch: Callable[[TrainState], TrainState]


def parallelise(network: nn.Module, config: RunConfig, scaling: Scaling, devices: Sequence[jax.Device]) -> ParallelStep:
    """The step as a pmap over `devices`, each with an equal share of the batch and a replica of the state."""
    step = make_step(network, config, scaling, axis_name=DEVICES)
    mapped = jax.pmap(step, axis_name=DEVICES, devices=devices, donate_argnums=0)
    count = len(devices)

    def run(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        shares = jax.tree.map(lambda leaf: leaf.reshape(count, len(leaf) // count, *leaf.shape[1:]), batch)
        return mapped(state, shares)

    return ParallelStep(partial(_replicate, devices=devices), run, partial(jax.tree.map, _first))


def _replicate(state: TrainState, *, devices: Sequence[jax.Device]) -> TrainState:
    """Placed as the pmap wants it, so that its first call can donate the buffers."""
    sharding = NamedSharding(Mesh(np.asarray(devices), (DEVICES,)), PartitionSpec(DEVICES))
    return jax.device_put(jax.tree.map(lambda leaf: np.stack([leaf] * len(devices)), state), sharding)


def _first(leaf: jax.Array) -> jax.Array:
    return leaf.addressable_shards[0].data[0]
