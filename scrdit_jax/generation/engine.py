"""The sampler of one model, compiled once for one shape of batch: cells by their global indices, as fast as may be."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ..checkpoint import Model
from ..config import DiffusionConfig, SamplingConfig
from ..data.scaling import Scaling
from ..devices import device_kind, free_memory, usable_devices
from ..diffusion.predictions import Prediction, make_prediction
from ..diffusion.schedule import linear_schedule
from ..diffusion.timesteps import SCHEDULES, make_timesteps, steps_of_acceleration
from ..errors import BadConfig, Diverged
from ..networks.kinds import CONDITIONING_LAYERS, make_network
from ..sampling.sampler import Integrated, cell_keys, integrate
from ..sampling.solvers import Coefficients, find_solver, make_coefficients, noise_levels
from . import tuning
from .counts import Counting, make_counting
from .growing import Block, to_csr
from .labels import Drawn, Labels, Runs

DEFAULT_STEPS = 25
CELLS_AXIS = "cells"
# Kept free for what the compiler's account leaves out: the runtime's own buffers, the cells on their way to the host.
USABLE_MEMORY = 0.8


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


def network_of(model: Model) -> tuple[nn.Module, Prediction]:
    """A model's network, without its weights, and what its outputs mean."""
    prediction = make_prediction(model.config.diffusion.prediction, model.facts.scaling)
    # In a family no model has labels: each knows its own type.
    labels = () if model.members else model.facts.label_sizes
    return make_network(model.config.network, len(model.facts.genes), prediction.outputs, labels=labels), prediction


@partial(jax.jit, static_argnames=("network", "dtype"))
def prepare(params: Any, timesteps: jax.Array, *, network: nn.Module, dtype: str) -> tuple[Any, jax.Array]:
    """What does not change from batch to batch: (weights of `denoise`, modulations of no label (step, 1, ...)).

    All cells share t, so every shift, scale and gate is computed once a step, in float32, and not once a cell.
    """
    table = network.apply(params, timesteps, method="modulations")[:, None]
    layers = {name: layer for name, layer in params["params"].items() if name not in CONDITIONING_LAYERS}
    return jax.tree.map(lambda leaf: leaf.astype(dtype), ({"params": layers}, table))


def evaluate(
    weights: Any,
    modulations: jax.Array,
    noisy: jax.Array,
    alpha_bar: jax.Array,
    *,
    network: nn.Module,
    prediction: Prediction,
) -> jax.Array:
    """One evaluation: predicted clean cells (cell, gene) in float32; the network computes in its weights' dtype."""
    predicted = network.apply(weights, noisy.astype(modulations.dtype), modulations, method="denoise")
    return prediction.clean(noisy, predicted.astype(jnp.float32), alpha_bar)


class Conditioning(NamedTuple):
    """Modulations of no label (step, 1, ...), or the params, float32, that make them of what a cell is told; with
    guidance both, and its weight ().

    Those of what cells are told are computed as a step comes: kept for every step they would take gigabytes.
    """

    table: jax.Array | None = None
    params: Any = None
    guidance: jax.Array | None = None


@partial(jax.jit, static_argnames=("network", "prediction", "scaling"), donate_argnames="recycled", keep_unused=True)
def sample_batch(
    weights: Any,
    conditioning: Conditioning,
    coefficients: Coefficients,
    seed: jax.Array,
    cell_indices: jax.Array,
    labels: jax.Array | None,
    recycled: jax.Array,
    *,
    network: nn.Module,
    prediction: Prediction,
    scaling: Scaling,
) -> Integrated:
    """Cells (cell, gene) on the log scale, zeros restored, for global `cell_indices` (cell,); see `prepare`.

    `labels` (cell, column) are what each cell is told; None where that is nothing. With guidance w the predicted
    clean cells are those without labels plus w times what the labels change (Ho & Salimans 2022; Saharia et al. 2022).
    The solver's state is float32. The result takes the place of `recycled` (cell, gene), whose values do not matter.
    """
    predict = partial(evaluate, weights, network=network, prediction=prediction)

    dtype = jax.tree.leaves(weights)[0].dtype

    def predict_clean(noisy, alpha_bar, step):
        timestep, unlabelled = step
        if labels is None:
            return predict(unlabelled, noisy, alpha_bar)
        timesteps = jnp.repeat(timestep, len(labels))
        told = network.apply(conditioning.params, timesteps, labels, method="modulations")
        clean = predict(told.astype(dtype), noisy, alpha_bar)
        if unlabelled is None:
            return clean
        plain = predict(unlabelled, noisy, alpha_bar)
        return plain + conditioning.guidance * (clean - plain)

    keys = cell_keys(jax.random.key(seed), cell_indices)
    steps = (coefficients.timestep, conditioning.table)
    done = integrate(predict_clean, keys, coefficients, steps, genes=network.genes)
    return Integrated(scaling.unscale(done.cells), done.finite_steps)


class Placement(NamedTuple):
    """Where things lie: the batch is shared out over the devices, all else is on each of them."""

    devices: tuple[jax.Device, ...]
    shared_out: NamedSharding
    on_each: NamedSharding


def place(devices: Sequence[jax.Device]) -> Placement:
    """The placement over `devices`."""
    mesh = Mesh(np.asarray(devices), (CELLS_AXIS,))
    shared_out, on_each = NamedSharding(mesh, PartitionSpec(CELLS_AXIS)), NamedSharding(mesh, PartitionSpec())
    return Placement(tuple(devices), shared_out, on_each)


@jax.jit
def _choose(first: Integrated, second: Integrated, from_second: jax.Array) -> Integrated:
    """Cell by cell from one batch or the other; `from_second` (cell,) bool."""
    cells = jnp.where(from_second[:, None], second.cells, first.cells)
    return Integrated(cells, jnp.where(from_second, second.finite_steps, first.finite_steps))


@dataclass(frozen=True)
class Engine:
    """A compiled sampler with all it needs but the cells' indices; `bytes_needed` is per device.

    `variants` are what the program is given: once, with the labels that cells are told; or, for a family, once for
    each label, as each has a model of its own.
    """

    batch_size: int
    coefficients: Coefficients
    network: nn.Module
    devices: tuple[jax.Device, ...]
    compile_seconds: float
    bytes_needed: int
    program: Any
    variants: tuple[tuple[Any, ...], ...]
    shared_out: NamedSharding
    told: Drawn
    counting: Counting | None

    @property
    def evaluations(self) -> int:
        """Network evaluations a cell."""
        return len(self.coefficients.timestep)

    def empty(self) -> jax.Array:
        """A buffer for a batch, to `dispatch` into."""
        return jax.device_put(np.zeros((self.batch_size, self.network.genes), np.float32), self.shared_out)

    def dispatch(self, first: int, recycled: jax.Array | None = None) -> Integrated:
        """Begin the batch of cells `first`, `first` + 1, ...; returns at once. `recycled` is used up."""
        indices = np.arange(first, first + self.batch_size, dtype=np.uint32)
        rows = self.told.rows(first, self.batch_size)
        if len(self.variants) == 1:
            conditioning = self.variants[0][1]
            labels = None if conditioning.params is None else self.told.codes[rows]
            return self.program(*self.variants[0], indices, labels, self.empty() if recycled is None else recycled)
        batch = None
        for row in np.unique(rows):
            place = self.empty() if recycled is None else recycled
            made, recycled = self.program(*self.variants[row], indices, None, place), None
            here = jax.device_put(rows == row, self.shared_out)
            batch = made if batch is None else _choose(batch, made, here)
        return batch

    def fetch(self, batch: Integrated, first: int, count: int) -> np.ndarray:
        """The first `count` cells of a batch on the host, once it is done; Diverged if a value is not finite."""
        finite_steps = np.asarray(batch.finite_steps)[:count]
        if np.any(finite_steps < self.evaluations):
            raise Diverged(self._divergence(finite_steps, first))
        return np.asarray(batch.cells)[:count]

    def block(self, cells: np.ndarray, first: int) -> Block:
        """Cells that were fetched, from index `first` on, sparse, with their labels and, where wanted, counts."""
        rows, matrix = self.told.rows(first, len(cells)), to_csr(cells)
        counts, library = (None, None) if self.counting is None else self.counting.draw(matrix, first, rows)
        columns = self.told.labels.distinct.shape[1]
        return Block(matrix, self.told.codes[rows, :columns], counts, library)

    def batches(self, cells: int) -> Iterator[np.ndarray]:
        """Cells 0 to `cells` - 1 on the log scale, batch by batch; the next is dispatched before one is fetched."""
        ahead, spare = self.dispatch(0), None
        for first in range(0, cells, self.batch_size):
            current = ahead
            if first + self.batch_size < cells:
                ahead = self.dispatch(first + self.batch_size, spare)
            yield self.fetch(current, first, min(self.batch_size, cells - first))
            spare = current.cells

    def _divergence(self, finite_steps: np.ndarray, first: int) -> str:
        broken = np.flatnonzero(finite_steps < self.evaluations)
        low, high = int(finite_steps[broken].min()), int(finite_steps[broken].max())
        taus = self.coefficients.timestep
        steps = f"step {low + 1} (timestep {taus[low]})"
        if high > low:
            steps = f"steps {low + 1} to {high + 1} (timesteps {taus[low]} to {taus[high]})"
        return (
            f"{len(broken)} of cells {first} to {first + len(finite_steps) - 1} stopped being finite at {steps} of "
            f"{self.evaluations}; the model may have diverged (see metrics.jsonl), or the steps are too few for this "
            "solver: try --solver ddim --steps 100"
        )


def make_engine(
    model: Model, config: SamplingConfig, labels: Runs = (), *, devices: Sequence[jax.Device] | None = None
) -> Engine:
    """The engine for `config`; without a batch size in it, with the one that was measured to be fastest here.

    `labels` are runs in the order of the cells; a conditional model without any makes cells of no label. `devices` are
    all local ones among which the batch can be shared out evenly, unless they are given.

    Raises BadConfig, naming the largest, where a batch does not fit in the devices' memory.
    """
    network, prediction = network_of(model)
    network, scaling = tuning.with_fastest_attention(network, config.dtype), model.facts.scaling
    coefficients = coefficients_for(model.config.diffusion, config)
    batch_size = config.batch_size
    if batch_size is None:
        batch_size = tuned_batch_size(model, network, prediction, config.dtype)
    placement = place(usable_devices(batch_size) if devices is None else devices)
    told = Drawn.of(Labels.of(labels, model.facts.conditions), model, config.seed)
    variants = _variants(model, network, config, told, coefficients, placement)
    indices = jax.ShapeDtypeStruct((batch_size,), np.uint32, sharding=placement.shared_out)
    told_as = (batch_size, told.codes.shape[1])
    labels = jax.ShapeDtypeStruct(told_as, np.int32, sharding=placement.shared_out)
    labels = None if variants[0][1].params is None else labels
    recycled = jax.ShapeDtypeStruct((batch_size, network.genes), np.float32, sharding=placement.shared_out)
    shapes = (*jax.tree.map(_shape, variants[0]), indices, labels, recycled)
    leaves, structure = jax.tree.flatten(shapes)
    program, seconds = _compiled(tuple(leaves), structure, network, prediction, scaling)
    needed = _require_fit(program, batch_size, placement, sum(leaf.nbytes for leaf in jax.tree.leaves(variants[0])))
    return Engine(
        batch_size, coefficients, network, placement.devices, seconds, needed, program, variants,
        placement.shared_out, told, make_counting(model, config, told),
    )  # fmt: skip


def is_guided(model: Model, config: SamplingConfig) -> bool:
    """Whether a step takes a second evaluation, without labels; BadConfig where the model has no labels to go without.

    Guidance 1 is what the labels say and 0 is no labels, so neither needs the other.
    """
    if config.guidance != 1 and (model.members or not model.facts.conditions):
        what = "a family of models, one a cell type" if model.members else "trained without labels"
        raise BadConfig(f"this model is {what}, so nothing can be guided; leave --guidance out")
    return config.guidance not in (0, 1)


def _variants(
    model: Model,
    network: nn.Module,
    config: SamplingConfig,
    told: Drawn,
    coefficients: Coefficients,
    placement: Placement,
) -> tuple[tuple[Any, ...], ...]:
    """The program's arguments but for the cells' own, on the devices; see Engine."""
    on_each = placement.on_each
    timesteps = jax.device_put(coefficients.timestep.astype(np.int32), on_each)
    steps = jax.device_put(Coefficients(timesteps, *(c.astype(np.float32) for c in coefficients[1:])), on_each)
    seed = jax.device_put(np.uint32(config.seed), on_each)
    guided = is_guided(model, config)
    each = [model.params[model.members[code]] for code in told.codes[:, 0]] if model.members else [model.params]
    labelled = not model.members and told.codes.size > 0 and config.guidance != 0
    variants = []
    for params in jax.device_put(each, on_each):
        weights, table = prepare(params, timesteps, network=network, dtype=config.dtype)
        conditioning = Conditioning(table)
        if labelled:
            guidance = jax.device_put(np.float32(config.guidance), on_each) if guided else None
            conditioning = Conditioning(table if guided else None, params, guidance)
        variants.append((weights, conditioning, steps, seed))
    return tuple(variants)


def _shape(array: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=array.sharding)


@lru_cache(maxsize=16)
def _compiled(
    leaves: tuple[jax.ShapeDtypeStruct, ...],
    structure: Any,
    network: nn.Module,
    prediction: Prediction,
    scaling: Scaling,
) -> tuple[Any, float]:
    """`sample_batch` for arguments of these shapes, and the seconds it took; once a process, whatever their values."""
    started = time.perf_counter()
    shapes = jax.tree.unflatten(structure, leaves)
    program = sample_batch.lower(*shapes, network=network, prediction=prediction, scaling=scaling).compile()
    return program, time.perf_counter() - started


def _require_fit(program: Any, batch_size: int, placement: Placement, fixed: int) -> int:
    """The bytes a device needs for `program`, by the compiler's account; BadConfig where it has not got them."""
    memory = program.memory_analysis()
    # The inputs are on the device already, and so no part of what is still free.
    growing = memory.argument_size_in_bytes + memory.temp_size_in_bytes + memory.output_size_in_bytes - fixed
    growing -= memory.alias_size_in_bytes
    free = int(USABLE_MEMORY * free_memory(placement.devices[0]))
    if growing > free:
        # A little less than in proportion: not all of it grows with the batch.
        largest = int(0.95 * batch_size * free / growing) // len(placement.devices) * len(placement.devices)
        raise BadConfig(
            f"a batch of {batch_size} cells needs {growing * len(placement.devices) / 1e9:.1f} GB of memory, "
            f"{device_kind()} has {free * len(placement.devices) / 1e9:.1f} GB to spare; the largest that fits is "
            f"about {largest}: use --batch-size {largest}, or leave it out to have it chosen"
        )
    return growing + fixed


def tuned_batch_size(model: Model, network: nn.Module, prediction: Prediction, dtype: str) -> int:
    """The batch size that is fastest on the local devices for this network; timed once and remembered."""
    return tuning.choose_batch_size(model_sweep(model, network, prediction, dtype))


def model_sweep(
    model: Model, network: nn.Module, prediction: Prediction, dtype: str, *, fresh: bool = False
) -> list[list[float]]:
    """[[batch size, cell-evaluations a second], ...] of `network` on the local devices; see `tuning.sweep`."""
    placement = place(jax.local_devices())
    params = model.params[model.members[0]] if model.members else model.params
    weights, table = prepare(
        jax.device_put(params, placement.on_each), jnp.ones(1, jnp.int32), network=network, dtype=dtype
    )
    step = partial(evaluate, network=network, prediction=prediction)
    return tuning.sweep(
        step, weights, table[0], network=network, dtype=dtype, shared_out=placement.shared_out, fresh=fresh
    )
