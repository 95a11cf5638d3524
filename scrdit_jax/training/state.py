"""The state of a run of the optimiser, and how it begins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from ..config import RunConfig, TrainingConfig
from ..devices import free_memory
from ..errors import BadConfig
from ..networks import attention_shape


class TrainState(NamedTuple):
    """An immutable pytree with all that changes while training.

    `step` int32, from which keys and batches derive; `params`; `ema`, the averaged params that sampling uses, or None
    without averaging; `optimizer`, Adam's moments and the clipping's and schedule's own state.
    """

    step: jax.Array
    params: Any
    ema: Any
    optimizer: Any


def sampled_params(state: TrainState) -> Any:
    """What cells are sampled with: the averaged params where there are, else the params."""
    return state.params if state.ema is None else state.ema


def make_optimizer(config: TrainingConfig) -> optax.GradientTransformation:
    """AdamW behind optional clipping by global norm; linear warm-up, then a constant rate or a cosine to zero."""
    peak, warmup = config.learning_rate, config.warmup_steps
    if config.learning_rate_schedule == "cosine":
        rate = optax.warmup_cosine_decay_schedule(
            0.0 if warmup else peak, peak, warmup, max(config.steps, warmup + 1), end_value=0.0
        )
    elif warmup:
        rate = optax.linear_schedule(0.0, peak, warmup)
    else:
        rate = peak
    adamw = optax.adamw(rate, weight_decay=config.weight_decay)
    if config.gradient_clip is None:
        return adamw
    return optax.chain(optax.clip_by_global_norm(config.gradient_clip), adamw)


def require_memory(network: nn.Module, config: RunConfig) -> None:
    """BadConfig where the state of training, or one layer of a batch, takes more than is free on a device.

    The least that it can be: what is refused could not have been trained, and what passes may still be too much.
    """
    training, free = config.training, free_memory(jax.local_devices()[0])
    cells, timesteps = jax.ShapeDtypeStruct((1, network.genes), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.int32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), cells, timesteps)
    params = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    needed = 4 * params * (4 + (training.ema_decay is not None))  # with its gradient and the two averages of Adam
    if needed > free:
        raise BadConfig(
            f"a network of {params:,} params takes {needed / 1e9:,.1f} GB or more to train, of which "
            f"{free / 1e9:,.1f} GB are free; choose a smaller network, by its width or its depth"
        )
    tokens, heads, size = attention_shape(network)
    each = 4 * network.genes * 2 + 2 * tokens * heads * size * 4  # the cell and its noise; what attention is given
    needed = each * (training.batch_size // training.accumulate // jax.device_count())
    if needed > free and not config.privacy.on:  # whose gradients are taken a few at once
        raise BadConfig(
            f"a batch of {training.batch_size:,} cells takes {needed / 1e9:,.1f} GB or more, of which "
            f"{free / 1e9:,.1f} GB are free; lower --batch-size, or raise --accumulate"
        )


def initial_state(
    network: nn.Module,
    genes: int,
    config: TrainingConfig,
    *,
    initial_params: Callable[[Any, Any], Any] | None = None,
    teacher_params: Any = None,
    params: Any = None,
) -> TrainState:
    """Step 0, with these `params`; without any, from `config.seed`: `initial_params` (fresh params, those of a teacher)
    are then the params to begin with."""

    def fresh(params: Any, teacher_params: Any) -> TrainState:
        if params is None:
            params = network.init(jax.random.key(config.seed), jnp.zeros((1, genes)), jnp.ones((1,), jnp.int32))
            params = params if initial_params is None else initial_params(params, teacher_params)
        ema = None if config.ema_decay is None else params
        return TrainState(jnp.zeros((), jnp.int32), params, ema, make_optimizer(config).init(params))

    # Compiled as one: layer by layer, starting would take longer than many steps.
    return jax.jit(fresh)(params, teacher_params)
