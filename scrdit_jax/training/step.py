"""One pure training step (scRDiT section 2.4, eq. 9 and 10)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from ..config import RunConfig
from ..data.batches import Batch
from ..data.scaling import Scaling
from ..diffusion.forward import add_noise
from ..diffusion.predictions import make_prediction
from ..diffusion.schedule import linear_schedule, timestep_probabilities
from .state import TrainState, make_optimizer

Step = Callable[[TrainState, Batch], tuple[TrainState, "Metrics"]]
Losses = Callable[..., jax.Array]


class Metrics(NamedTuple):
    """Scalars of one step: the mean loss per gene (eq. 10, averaged), and the gradient's norm before clipping."""

    loss: jax.Array
    gradient_norm: jax.Array


def make_losses(network: nn.Module, config: RunConfig, scaling: Scaling) -> Losses:
    """(params, batch, key, places, whole) -> each cell's loss, averaged over its genes, (cell,) float32.

    That is the squared error, or minus the log-likelihood in nats, which may be negative.

    `places` (cell,) are the cells' numbers in the `whole` batch of so many; noise and level follow from `key` and
    place. In bfloat16 the network's body computes with rounded copies of the params; the conditioning, norms, softmax
    and the error itself stay in float32.
    """
    prediction = make_prediction(config.diffusion.prediction, scaling)
    schedule = linear_schedule(config.diffusion)
    cumulative = jnp.asarray(np.cumsum(timestep_probabilities(schedule, config.training)), jnp.float32)
    alpha_bars = jnp.asarray(schedule.alpha_bars, jnp.float32)
    rounded = None if config.training.dtype == "float32" else jnp.dtype(config.training.dtype)

    def predict(params: Any, noisy: jax.Array, timesteps: jax.Array, labels: jax.Array | None) -> jax.Array:
        if rounded is None:
            return network.apply(params, noisy, timesteps, labels)
        modulations = network.apply(params, timesteps, labels, method="modulations")
        params, noisy, modulations = jax.tree.map(lambda leaf: leaf.astype(rounded), (params, noisy, modulations))
        return network.apply(params, noisy, modulations, method="denoise").astype(jnp.float32)

    def losses(params: Any, batch: Batch, key: jax.Array, places: jax.Array, whole: int) -> jax.Array:
        level_key, noise_key = jax.random.split(key)
        quantiles = _quantiles(level_key, places, whole, stratified=config.training.stratified_levels)
        timesteps = 1 + jnp.minimum(jnp.searchsorted(cumulative, quantiles, side="right"), schedule.timesteps - 1)
        alpha_bar = alpha_bars[timesteps][:, None]
        clean = scaling.scale(batch.cells)
        noise = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(noise_key, i), clean.shape[1:]))(places)
        noisy = add_noise(clean, noise, alpha_bar)
        labels = batch.labels
        if labels is not None:
            # All of a cell's labels at once: sampling asks for all of them or for none.
            dropped = _uniform(jax.random.fold_in(key, 2), places) < config.training.label_dropout
            labels = jnp.where(dropped[:, None], -1, labels)
        predicted = predict(params, noisy, timesteps, labels)
        if config.training.loss == "likelihood":
            return -jnp.mean(prediction.log_likelihood(clean, noisy, predicted, alpha_bar), axis=1)
        return jnp.mean(prediction.error(clean, noise, noisy, predicted, alpha_bar) ** 2, axis=1)

    return losses


def make_step(network: nn.Module, config: RunConfig, scaling: Scaling, *, axis_name: str | None = None) -> Step:
    """A pure function (state, batch) -> (state, metrics).

    Every random number derives from the seed, the step and the cell's place in the whole batch, so the result does
    not depend on how many devices share the batch, nor on how many parts `accumulate` takes it in, but for rounding.
    With `axis_name` the function is one device's share of a pmap.
    """
    training = config.training
    losses = make_losses(network, config, scaling)
    optimizer = make_optimizer(training)

    def loss_and_gradient(params: Any, batch: Batch, key: jax.Array, places: jax.Array, whole: int) -> tuple:
        def loss(params: Any, batch: Batch, places: jax.Array) -> jax.Array:
            return jnp.mean(losses(params, batch, key, places, whole))

        parts = training.accumulate
        if parts == 1:
            return jax.value_and_grad(loss)(params, batch, places)

        def add(total: Any, part: tuple[Batch, jax.Array]) -> tuple[Any, None]:
            found = jax.value_and_grad(loss)(params, *part)
            return jax.tree.map(lambda sum_, value: sum_ + value / parts, total, found), None

        split = jax.tree.map(lambda leaf: leaf.reshape(parts, len(leaf) // parts, *leaf.shape[1:]), (batch, places))
        zero = jnp.zeros(()), jax.tree.map(jnp.zeros_like, params)
        return lax.scan(add, zero, split)[0]

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(training.seed), state.step)
        mine = len(batch.cells)
        first, whole = 0, mine
        if axis_name is not None:
            first, whole = lax.axis_index(axis_name) * mine, lax.axis_size(axis_name) * mine
        loss, gradient = loss_and_gradient(state.params, batch, key, first + jnp.arange(mine), whole)
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


def _average(state: TrainState, params: Any, decay: float | None) -> Any:
    """EMA with a horizon that grows with the step at first, so that the initial weights are soon forgotten."""
    if decay is None:
        return None
    step = state.step.astype(jnp.float32)
    return optax.incremental_update(params, state.ema, 1 - jnp.minimum(decay, (1 + step) / (10 + step)))
