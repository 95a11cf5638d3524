"""The training step of DP-SGD: each unit's gradient is clipped, noise is added to their sum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax

from ...config import RunConfig
from ...data.batches import Batch
from ...data.scaling import Scaling
from ...extras import optional
from ..state import TrainState, make_optimizer
from ..step import Losses, Metrics, Step, following, make_losses
from .key import StepKeys


class Drawn(NamedTuple):
    """What a step is fed: the cells (slot, k, ...) of the drawn units, their `rows` (slot, k) among the training cells,
    and which are `present` (slot, k); see units.Draw."""

    batch: Batch
    rows: jax.Array
    present: jax.Array


def make_clipped_sum(losses: Losses, *, clip: float, microbatch: int) -> Callable[[Any, Drawn, jax.Array], Any]:
    """(params, drawn, key) -> the sum over units of the gradient of each one's mean loss, clipped to the norm `clip`.

    So many units' gradients are there at once. With one unit more or less the sum changes by a norm of `clip` at most:
    what a cell is trained at, its noise, its level and what is dropped, follows from the key and its own row, whoever
    else is drawn.
    """

    def unit_loss(params: Any, batch: Batch, rows: jax.Array, present: jax.Array, key: jax.Array) -> jax.Array:
        found = losses(params, batch, key, rows, 1)
        return jnp.sum(jnp.where(present, found, 0)) / jnp.maximum(jnp.sum(present), 1)

    clipped = optional("jax_privacy.clipping", extra="privacy").clipped_grad(
        unit_loss, l2_clip_norm=clip, batch_argnums=(1, 2, 3), keep_batch_dim=False, microbatch_size=microbatch
    )

    def clipped_sum(params: Any, drawn: Drawn, key: jax.Array) -> Any:
        return clipped(params, *drawn, key, is_padding_example=~jnp.any(drawn.present, axis=1))

    return clipped_sum


def make_private_step(
    network: nn.Module,
    config: RunConfig,
    scaling: Scaling,
    *,
    multiplier: float,
    expected: float,
    microbatch: int,
    axis_name: str | None = None,
) -> Step:
    """A pure function (state, Drawn, StepKeys) -> (state, metrics) as `step.make_step` has it, with noise of deviation
    `multiplier` * clip on the sum of the clipped gradients, which is divided by how many units are `expected`.

    The metrics are of the noisy gradient: the loss and the gradient's own norm would tell of the cells.
    """
    training, privacy = config.training, config.privacy
    losses = make_losses(network, config, scaling)
    clipped_sum = make_clipped_sum(losses, clip=privacy.dp_clip, microbatch=microbatch)
    privatizer = optional("jax_privacy.noise_addition", extra="privacy").gaussian_privatizer
    optimizer = make_optimizer(training)

    def step(state: TrainState, drawn: Drawn, keys: StepKeys) -> tuple[TrainState, Metrics]:
        cells, noise = (
            jax.random.fold_in(jax.random.wrap_key_data(jnp.asarray(key), impl="threefry2x32"), state.step)
            for key in (keys.cells, keys.noise)
        )
        total = clipped_sum(state.params, drawn, cells)
        total = total if axis_name is None else lax.psum(total, axis_name)
        # One of its own for this step: its state holds the key, and what holds the key is not saved.
        adder = privatizer(stddev=multiplier * privacy.dp_clip, prng_key=noise)
        noisy, _ = adder.update(total, adder.init(total))
        gradient = jax.tree.map(lambda leaf: leaf / expected, noisy)
        return following(state, gradient, optimizer, training.ema_decay), Metrics(None, optax.tree.norm(gradient))

    return step
