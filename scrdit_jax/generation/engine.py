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
    return make_network(model.config.network, len(model.facts.genes), prediction.outputs), prediction


@partial(jax.jit, static_argnames=("network", "dtype"))
def prepare(params: Any, timesteps: jax.Array, *, network: nn.Module, dtype: str) -> tuple[Any, jax.Array]:
    """What does not change from batch to batch: (weights of `denoise`, modulations with axes step, 1, ...).

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


@partial(jax.jit, static_argnames=("network", "prediction", "scaling"), donate_argnames="recycled", keep_unused=True)
def sample_batch(
    weights: Any,
    table: jax.Array,
    coefficients: Coefficients,
    seed: jax.Array,
    cell_indices: jax.Array,
    recycled: jax.Array,
    *,
    network: nn.Module,
    prediction: Prediction,
    scaling: Scaling,
) -> Integrated:
    """Cells (cell, gene) on the log scale, zeros restored, for global `cell_indices` (cell,); see `prepare`.

    The solver's state is float32. The result takes the place of `recycled` (cell, gene), whose values do not matter.
    """

    def predict_clean(noisy, alpha_bar, modulations):
        return evaluate(weights, modulations, noisy, alpha_bar, network=network, prediction=prediction)

    keys = cell_keys(jax.random.key(seed), cell_indices)
    done = integrate(predict_clean, keys, coefficients, table, genes=network.genes)
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


@dataclass(frozen=True)
class Engine:
    """A compiled sampler with all it needs but the cells' indices; `bytes_needed` and `free_bytes` are per device."""

    batch_size: int
    coefficients: Coefficients
    network: nn.Module
    devices: tuple[jax.Device, ...]
    compile_seconds: float
    bytes_needed: int
    program: Any
    inputs: tuple[Any, ...]
    shared_out: NamedSharding

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
        return self.program(*self.inputs, indices, self.empty() if recycled is None else recycled)

    def fetch(self, batch: Integrated, first: int, count: int) -> np.ndarray:
        """The first `count` cells of a batch on the host, once it is done; Diverged if a value is not finite."""
        finite_steps = np.asarray(batch.finite_steps)[:count]
        if np.any(finite_steps < self.evaluations):
            raise Diverged(self._divergence(finite_steps, first))
        return np.asarray(batch.cells)[:count]

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


def make_engine(model: Model, config: SamplingConfig, *, devices: Sequence[jax.Device] | None = None) -> Engine:
    """The engine for `config`; without a batch size in it, with the one that was measured to be fastest here.

    `devices` are all local ones among which the batch can be shared out evenly, unless they are given.

    Raises BadConfig, naming the largest, where a batch does not fit in the devices' memory.
    """
    network, prediction = network_of(model)
    network, scaling = tuning.with_fastest_attention(network, config.dtype), model.facts.scaling
    coefficients = coefficients_for(model.config.diffusion, config)
    batch_size = config.batch_size
    if batch_size is None:
        batch_size = tuned_batch_size(model, network, prediction, config.dtype)
    placement = place(usable_devices(batch_size) if devices is None else devices)
    params, timesteps = jax.device_put((model.params, coefficients.timestep.astype(np.int32)), placement.on_each)
    weights, table = prepare(params, timesteps, network=network, dtype=config.dtype)
    rows = jax.device_put(Coefficients(timesteps, *(c.astype(np.float32) for c in coefficients[1:])), placement.on_each)
    inputs = (weights, table, rows, jax.device_put(np.uint32(config.seed), placement.on_each))
    indices = jax.ShapeDtypeStruct((batch_size,), np.uint32, sharding=placement.shared_out)
    recycled = jax.ShapeDtypeStruct((batch_size, network.genes), np.float32, sharding=placement.shared_out)
    shapes = (*jax.tree.map(_shape, inputs), indices, recycled)
    leaves, structure = jax.tree.flatten(shapes)
    program, seconds = _compiled(tuple(leaves), structure, network, prediction, scaling)
    needed = _require_fit(program, batch_size, placement, sum(leaf.nbytes for leaf in jax.tree.leaves(inputs)))
    return Engine(
        batch_size, coefficients, network, placement.devices, seconds, needed, program, inputs, placement.shared_out
    )


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
    weights, table = prepare(
        jax.device_put(model.params, placement.on_each), jnp.ones(1, jnp.int32), network=network, dtype=dtype
    )
    step = partial(evaluate, network=network, prediction=prediction)
    return tuning.sweep(
        step, weights, table[0], network=network, dtype=dtype, shared_out=placement.shared_out, fresh=fresh
    )
