"""The state of a run of the optimiser, and how it begins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from ..config import TrainingConfig


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
