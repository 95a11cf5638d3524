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

from ..config import DiffusionConfig, RunConfig, TrainingConfig
from ..data.batches import Batch
from ..data.packed import Packed
from ..data.scaling import Scaling
from ..diffusion.forward import add_noise
from ..diffusion.predictions import make_prediction
from ..diffusion.schedule import linear_schedule, timestep_probabilities
from ..networks import conditioning_params
from .objectives import OBJECTIVES, NoisedBatch, Teacher
from .state import TrainState, make_optimizer
from .teacher import TeacherModel

# What a step's key is folded with to decide whose conditions are dropped, what is added to states, and which single
# conditions are dropped; the halves of its split decide the rest.
LABEL_DROPOUT, STATE_NOISE, COLUMN_DROPOUT = 2, 3, 4

Step = Callable[..., tuple[TrainState, "Metrics"]]
Losses = Callable[..., jax.Array]


class Metrics(NamedTuple):
    """Scalars of one step: the mean loss per gene (eq. 10, averaged), and the gradient's norm before clipping. With
    differential privacy there is no loss, and the norm is that of the noisy gradient."""

    loss: jax.Array | None
    gradient_norm: jax.Array


def make_losses(
    network: nn.Module, config: RunConfig, scaling: Scaling, *, teacher: TeacherModel | None = None
) -> Losses:
    """(params, batch, key, positions, whole, teacher_params) -> each cell's loss, (cell,) float32; see `objectives`.

    `positions` (cell,) are the cells' numbers in the `whole` batch of so many; noise and level follow from `key` and
    position. The params of a `teacher` are handed in, as those of the network are, that no program holds them.
    """
    prediction, objective = make_prediction(config.diffusion.prediction, scaling), OBJECTIVES[config.training.loss]
    draw_levels = _level_draws(config.diffusion, config.training)
    alpha_bars = jnp.asarray(linear_schedule(config.diffusion).alpha_bars, jnp.float32)
    predict = _predictor(network, config.training.dtype)
    teach = None if teacher is None else _predictor(teacher.network, config.training.dtype)

    def losses(
        params: Any, batch: Batch, key: jax.Array, positions: jax.Array, whole: int, teacher_params: Any = None
    ) -> jax.Array:
        level_key, noise_key = jax.random.split(key)
        timesteps = draw_levels(level_key, positions, whole)
        alpha_bar = alpha_bars[timesteps][:, None]
        cells = spread(batch.cells, network.genes) if isinstance(batch.cells, Packed) else batch.cells
        clean = scaling.scale(cells)
        noise = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(noise_key, i), clean.shape[1:]))(positions)
        noisy = add_noise(clean, noise, alpha_bar)
        conditions = _conditions(batch, key, positions, config.training)
        taught = None
        if teacher is not None:
            taught = Teacher(
                teacher.prediction.for_cells(batch.log_sizes),
                lambda x, t: teach(teacher_params, x, t, conditions),
                alpha_bars,
            )
        predicted = predict(params, noisy, timesteps, conditions)
        return objective.loss(
            prediction.for_cells(batch.log_sizes),
            NoisedBatch(clean, noise, noisy, timesteps, alpha_bar, predicted, taught),
        )

    return losses


def spread(cells: Packed, genes: int) -> jax.Array:
    """Packed cells with their zeros, (cell, gene)."""

    def spread_one(values: jax.Array, numbers: jax.Array, count: jax.Array) -> jax.Array:
        # What a cell has no value for is put beyond the last gene, and dropped.
        there = jnp.arange(values.shape[0], dtype=jnp.int32) < count
        numbers = jnp.where(there, numbers.astype(jnp.int32), genes)
        return jnp.zeros(genes, values.dtype).at[numbers].set(values, mode="drop")

    return jax.vmap(spread_one)(*cells)


def _conditions(
    batch: Batch, key: jax.Array, positions: jax.Array, training: TrainingConfig
) -> tuple[jax.Array | None, jax.Array | None]:
    """(labels, states) that the network is given: noise on the states; of some cells neither, of some not all columns.

    The states are dropped as one more column. Where there is but one, dropping it is dropping all.
    """
    labels, states = batch.labels, batch.states
    dropped = _uniform(jax.random.fold_in(key, LABEL_DROPOUT), positions)[:, None] < training.label_dropout
    of_labels = of_states = dropped
    columns = 0 if labels is None else labels.shape[1]
    groups = columns + (states is not None)
    if training.column_dropout > 0 and groups > 1:
        apart = _uniform(jax.random.fold_in(key, COLUMN_DROPOUT), positions, (groups,)) < training.column_dropout
        of_labels, of_states = dropped | apart[:, :columns], dropped | apart[:, -1:]
    if labels is not None:
        labels = jnp.where(of_labels, -1, labels)
    if states is not None:
        noise_key = jax.random.fold_in(key, STATE_NOISE)
        noise = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(noise_key, i), states.shape[1:]))(positions)
        states = jnp.where(of_states, jnp.nan, states + training.state_noise * noise)
    return labels, states


def _level_draws(diffusion: DiffusionConfig, training: TrainingConfig) -> Callable[..., jax.Array]:
    """(key, positions, whole) -> the timestep of each cell, (cell,) int32."""
    schedule = linear_schedule(diffusion)
    cumulative = jnp.asarray(np.cumsum(timestep_probabilities(schedule, training)), jnp.float32)

    def draw(key: jax.Array, positions: jax.Array, whole: int) -> jax.Array:
        quantiles = _quantiles(key, positions, whole, stratified=training.stratified_levels)
        # One comparison with all; a binary search is a loop on the device.
        found = jnp.searchsorted(cumulative, quantiles, side="right", method="compare_all")
        return 1 + jnp.minimum(found, schedule.timesteps - 1)

    return draw


def _predictor(network: nn.Module, dtype: str) -> Callable[..., jax.Array]:
    """(params, noisy, timesteps, (labels, states)) -> the network's output, float32.

    In bfloat16 the network's body and the conditioning's last product compute with rounded copies of the params; what
    leads to that, norms, softmax and what is made of the output stay in float32.
    """

    def predict(params: Any, noisy: jax.Array, timesteps: jax.Array, conditions: tuple) -> jax.Array:
        if dtype == "float32":
            return network.apply(params, noisy, timesteps, *conditions)
        conditioning = conditioning_params(params, dtype)
        labels, states = conditions
        modulations = network.apply(conditioning, timesteps, labels, states, dtype, method="modulations")
        rounded = jax.tree.map(lambda leaf: leaf.astype(dtype), (params, noisy, modulations))
        params, noisy, modulations = rounded
        return network.apply(params, noisy, modulations, method="denoise").astype(jnp.float32)

    return predict


def make_step(
    network: nn.Module,
    config: RunConfig,
    scaling: Scaling,
    *,
    teacher: TeacherModel | None = None,
    axis_name: str | None = None,
) -> Step:
    """A pure function (state, batch, the teacher's params or None) -> (state, metrics).

    Every random number derives from the seed, the step and the cell's position in the whole batch, so the result does
    not depend on how many devices share the batch, nor on how many parts `accumulate` takes it in, but for rounding.
    With `axis_name` the function is one device's share of a pmap.
    """
    training = config.training
    losses = make_losses(network, config, scaling, teacher=teacher)
    optimizer = make_optimizer(training)

    def step(state: TrainState, batch: Batch, teacher_params: Any = None) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(training.seed), state.step)
        mine = len(jax.tree.leaves(batch.cells)[0])
        first, whole = 0, mine
        if axis_name is not None:
            first, whole = lax.axis_index(axis_name) * mine, lax.axis_size(axis_name) * mine

        def loss(params: Any, batch: Batch, positions: jax.Array) -> jax.Array:
            return jnp.mean(losses(params, batch, key, positions, whole, teacher_params))

        found = _accumulated(loss, state.params, (batch, first + jnp.arange(mine)), training.accumulate)
        loss_, gradient = found if axis_name is None else lax.pmean(found, axis_name)
        return following(state, gradient, optimizer, training.ema_decay), Metrics(loss_, optax.tree.norm(gradient))

    return step


def following(
    state: TrainState, gradient: Any, optimizer: optax.GradientTransformation, ema_decay: float | None
) -> TrainState:
    """The state after a step by this `gradient`."""
    updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.params)
    params = optax.apply_updates(state.params, updates)
    return TrainState(state.step + 1, params, _average(state, params, ema_decay), optimizer_state)


def _accumulated(loss: Callable[..., jax.Array], params: Any, batch: tuple, parts: int) -> tuple[jax.Array, Any]:
    """(loss, gradient) of `loss` (params, *batch), the batch taken in so many equal parts one after another."""
    if parts == 1:
        return jax.value_and_grad(loss)(params, *batch)

    def add(total: Any, part: tuple) -> tuple[Any, None]:
        found = jax.value_and_grad(loss)(params, *part)
        return jax.tree.map(lambda sum_, value: sum_ + value / parts, total, found), None

    split = jax.tree.map(lambda leaf: leaf.reshape(parts, len(leaf) // parts, *leaf.shape[1:]), batch)
    zero = jnp.zeros(()), jax.tree.map(jnp.zeros_like, params)
    return lax.scan(add, zero, split)[0]


def _quantiles(key: jax.Array, positions: jax.Array, batch: int, *, stratified: bool) -> jax.Array:
    """Uniform in [0, 1), one a cell: independent, or one in each of `batch` equal strata (less noise in the loss)."""
    if stratified:
        return (positions + jax.random.uniform(key)) / batch
    return _uniform(key, positions)


def _uniform(key: jax.Array, positions: jax.Array, shape: tuple[int, ...] = ()) -> jax.Array:
    return jax.vmap(lambda i: jax.random.uniform(jax.random.fold_in(key, i), shape))(positions)


def _average(state: TrainState, params: Any, decay: float | None) -> Any:
    """EMA with a horizon that grows with the step at first, so that the initial weights are soon forgotten."""
    if decay is None:
        return None
    step = state.step.astype(jnp.float32)
    return optax.incremental_update(params, state.ema, 1 - jnp.minimum(decay, (1 + step) / (10 + step)))
