"""The jitted sampler of one model: what a batch of cells is computed by."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ..checkpoint import Model
from ..data.scaling import Scaling
from ..devices import device_kind, free_memory
from ..diffusion.predictions import Prediction, guided, make_prediction
from ..errors import BadConfig
from ..networks import CONDITIONING_LAYERS, make_network
from ..sampling.sampler import PredictClean, cell_keys, draw_keys, integrate
from ..sampling.solvers import Coefficients
from .conditions import DrawnConditions, NewConditions, States, draw_conditions
from .quantisation import body_dtype, denoise, round_weights

CELLS_AXIS = "cells"
# Kept free for what the compiler's account leaves out: the runtime's own buffers, the cells on their way to the host.
USABLE_MEMORY = 0.8


def network_of(model: Model) -> tuple[nn.Module, Prediction]:
    """A model's network, without its weights, and what its outputs mean."""
    prediction = make_prediction(model.config.diffusion.prediction, model.metadata.scaling)
    known = model.metadata
    conditions = {"labels": known.categories, "states": known.conditioned_states}
    return make_network(model.config.network, len(known.genes), prediction.outputs, **conditions), prediction


@partial(jax.jit, static_argnames=("network", "dtype"))
def prepare(params: Any, timesteps: jax.Array, *, network: nn.Module, dtype: str) -> tuple[Any, jax.Array]:
    """What does not change from batch to batch: (weights of `denoise`, modulations without conditions (step, 1, ...)).

    All cells share t, so every shift, scale and gate is computed once a step, in float32, and not once a cell. Weights
    are rounded here, once; see `round_weights`.
    """
    table = network.apply(params, timesteps, method="modulations")[:, None]
    layers = {name: layer for name, layer in params["params"].items() if name not in CONDITIONING_LAYERS}
    weights = {"params": round_weights(network, layers, table[0], dtype)}
    return weights, table.astype(body_dtype(dtype))


def evaluate(
    weights: Any,
    modulations: jax.Array,
    noisy: jax.Array,
    alpha_bar: jax.Array,
    *,
    network: nn.Module,
    prediction: Prediction,
) -> jax.Array:
    """One evaluation: predicted clean cells (cell, gene) in float32, of the size that cells were scaled to; the network
    computes in its weights' dtype."""
    of_cells = prediction.for_cells(jnp.zeros(len(noisy)))
    return of_cells.clean(noisy, denoise(network, weights, noisy, modulations), alpha_bar)


class Guide(NamedTuple):
    """Modulations without conditions (step, 1, ...), or the params that make them of a cell's `conditions` (see
    networks.conditioning_params); with guidance both, and its weights (1,). With guidance by column the params and a
    weight for each column that is guided, (column,).

    Those of conditions are computed as a step comes: kept for every step they would take gigabytes. States are drawn in
    any case: counts are made with their library size.
    """

    table: jax.Array | None = None
    params: Any = None
    guidance: jax.Array | None = None
    conditions: NewConditions = NewConditions()


class Method(NamedTuple):
    """What of a solver a program is compiled for: whether clean cells are drawn, and whether fresh noise is added."""

    draws: bool
    noise: bool


class Sampled(NamedTuple):
    """What a program computes, static under `jit`: the network, what its outputs mean, the scale, the solver's kind,
    how states are made, and the places of the columns that are guided by themselves."""

    network: nn.Module
    prediction: Prediction
    scaling: Scaling
    method: Method
    states: States
    guided: tuple[int, ...] = ()


class SampledBatch(NamedTuple):
    """Cells (cell, gene) float32 on the log scale, after how many evaluations each was still finite (cell,) int32, and
    its library size (cell,) float32, NaN where there is none."""

    cells: jax.Array
    finite_steps: jax.Array
    library_size: jax.Array


@partial(jax.jit, static_argnames=("sampled", "mesh"), donate_argnames="donated", keep_unused=True)
def sample_batch(
    weights: Any,
    guide: Guide,
    coefficients: Coefficients,
    seed: jax.Array,
    cell_indices: jax.Array,
    rows: jax.Array,
    donated: jax.Array,
    *,
    sampled: Sampled,
    mesh: Mesh | None = None,
) -> SampledBatch:
    """Cells on the log scale, zeros restored, for global `cell_indices` (cell,); see `prepare`.

    `rows` (cell,) int32 say which row of the guide's conditions is a cell's. The solver's state is float32. The result
    takes the place of `donated` (cell, gene), whose values do not matter. The cells are shared out over the devices of
    `mesh`.
    """
    sample = on_each_device(partial(_sample, sampled), mesh, alike=3, shared=2)
    return sample((weights, guide), coefficients, seed, cell_indices, rows)


def on_each_device(call: Callable[..., Any], mesh: Mesh | None, *, alike: int, shared: int) -> Callable[..., Any]:
    """`call` by each device of `mesh` for its own cells: of the arguments the first `alike` are the same on all, the
    next `shared` and what is returned have a leading axis of cells.

    No cell needs another, so nothing is exchanged; left to XLA, a kernel of our own would be given all cells.
    """
    if mesh is None or mesh.size == 1:
        return call
    cells = PartitionSpec(CELLS_AXIS)
    return jax.shard_map(
        call, mesh=mesh, in_specs=(PartitionSpec(),) * alike + (cells,) * shared, out_specs=cells, check_vma=False
    )


def _sample(
    sampled: Sampled,
    model: tuple[Any, Guide],
    coefficients: Coefficients,
    seed: jax.Array,
    cell_indices: jax.Array,
    rows: jax.Array,
) -> SampledBatch:
    """One device's share of `sample_batch`, with its weights and guide as `model`."""
    weights, guide = model
    keys = cell_keys(jax.random.key(seed), cell_indices)
    conditions = draw_conditions(guide.conditions, rows, keys, sampled.states)
    predict_clean = _clean_cells(weights, guide, keys, conditions, sampled)
    method = sampled.method
    # A drawn clean cell brings the step's noise with it: b (m0 + s/b z) = b m0 + s z.
    noise = coefficients.s / coefficients.b if method.draws else None
    steps = (coefficients.timestep, guide.table, noise)
    added = method.noise and not method.draws
    done = integrate(predict_clean, keys, coefficients, steps, genes=sampled.network.genes, noise=added)
    cells = sampled.scaling.unscale(done.cells)
    if sampled.states.whole_counts and guide.params is not None:
        cells = whole_counts(cells, conditions.library_size[:, None] / sampled.states.target_sum)
    return SampledBatch(cells, done.finite_steps, conditions.library_size)


def whole_counts(cells: jax.Array, factors: jax.Array) -> jax.Array:
    """log1p of whole counts / `factors` (cell, 1) nearest to `cells` (cell, gene); what is expressed has one at least.

    All genes with one count have one value in a cell, as in real ones.
    """
    counts = jnp.maximum(jnp.round(jnp.expm1(cells) * factors), 1)
    return jnp.where(cells > 0, jnp.log1p(counts / factors), cells)


def _clean_cells(
    weights: Any, guide: Guide, keys: jax.Array, conditions: DrawnConditions, sampled: Sampled
) -> PredictClean:
    """The function that the sampler asks for clean cells, drawn or on average.

    With guidance the predicted clean cells are moved away from those without conditions, or without a column of them
    (see `guided`); of a distribution that is drawn from, its log-odds and means are.
    """
    method = sampled.method
    prediction = sampled.prediction.for_cells(conditions.log_sizes)
    outputs = network_outputs(weights, guide, conditions, sampled)

    def predict_clean(noisy, alpha_bar, step):
        timestep, unconditional, noise = step
        drawn = None
        if method.draws:
            drawn = partial(prediction.draw, keys=draw_keys(keys, timestep), noise=noise)
        predicted, without = outputs(noisy, timestep, unconditional)
        if not without:
            return (drawn or prediction.clean)(noisy, predicted, alpha_bar)
        if drawn is not None:
            return drawn(noisy, prediction.guide(predicted, without, guide.guidance), alpha_bar)
        clean, *without = (prediction.clean(noisy, found, alpha_bar) for found in (predicted, *without))
        return guided(clean, without, guide.guidance)

    return predict_clean


def network_outputs(
    weights: Any, guide: Guide, conditions: DrawnConditions, sampled: Sampled
) -> Callable[[jax.Array, jax.Array, jax.Array | None], tuple[jax.Array, list[jax.Array]]]:
    """The function of (noisy, timestep, modulations without conditions) that gives what the network says of cells with
    these conditions and, with guidance, of the same without them, or without a column of them."""
    network = sampled.network

    def predict(modulations, noisy):
        return denoise(network, weights, noisy, modulations)

    def outputs(noisy, timestep, unconditional):
        if guide.params is None:
            return predict(unconditional, noisy), []
        dtype = guide.params["params"]["modulation"]["kernel"].dtype

        def modulations(labels):
            # One timestep for all cells: what is computed of it is computed once a step.
            given = timestep.reshape(1), labels, conditions.states, dtype
            return network.apply(guide.params, *given, method="modulations")

        predicted = predict(modulations(conditions.labels), noisy)
        if guide.guidance is None:
            return predicted, []
        others = [modulations(_without(conditions.labels, column)) for column in sampled.guided] or [unconditional]
        return predicted, [predict(other, noisy) for other in others]

    return outputs


def _without(labels: jax.Array | None, column: int) -> jax.Array | None:
    """The labels (cell, variable) with that one left out."""
    return None if labels is None else labels.at[:, column].set(-1)


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


@lru_cache(maxsize=16)
def compiled(
    leaves: tuple[jax.ShapeDtypeStruct, ...], structure: Any, sampled: Sampled, mesh: Mesh
) -> tuple[Any, float]:
    """`sample_batch` for arguments of these shapes, and the seconds it took; once a process, whatever their values."""
    started = time.perf_counter()
    program = sample_batch.lower(*jax.tree.unflatten(structure, leaves), sampled=sampled, mesh=mesh).compile()
    return program, time.perf_counter() - started


@dataclass(frozen=True)
class Program:
    """`sample_batch` compiled for one shape of batch, with all `arguments` on the devices but the cells' own.

    `bytes_needed` is per device.
    """

    batch_size: int
    sampled: Sampled
    coefficients: Coefficients
    placement: Placement
    compiled: Any
    arguments: tuple[Any, ...]
    compile_seconds: float
    bytes_needed: int

    @property
    def network(self) -> nn.Module:
        """The network, without its weights."""
        return self.sampled.network

    def __call__(self, first: int, rows: np.ndarray, donated: jax.Array) -> SampledBatch:
        """Begin the batch of cells `first`, `first` + 1, ...; returns at once. `donated` is used up."""
        indices = np.arange(first, first + self.batch_size, dtype=np.uint32)
        return self.compiled(*self.arguments, indices, rows, donated)


def make_program(
    sampled: Sampled,
    arguments: tuple[Any, ...],
    *,
    coefficients: Coefficients,
    placement: Placement,
    batch_size: int,
) -> Program:
    """Compile for batches of `batch_size` cells.

    Raises BadConfig, naming the largest, where a batch does not fit in the devices' memory.
    """
    shared_out = placement.shared_out
    indices = jax.ShapeDtypeStruct((batch_size,), np.uint32, sharding=shared_out)
    rows = jax.ShapeDtypeStruct((batch_size,), np.int32, sharding=shared_out)
    donated = jax.ShapeDtypeStruct((batch_size, sampled.network.genes), np.float32, sharding=shared_out)
    shapes = (*jax.tree.map(_shape, arguments), indices, rows, donated)
    leaves, structure = jax.tree.flatten(shapes)
    program, seconds = compiled(tuple(leaves), structure, sampled, shared_out.mesh)
    fixed = sum(leaf.nbytes for leaf in jax.tree.leaves(arguments))
    needed = require_fit(program, batch_size, placement, fixed)
    return Program(
        batch_size=batch_size,
        sampled=sampled,
        coefficients=coefficients,
        placement=placement,
        compiled=program,
        arguments=arguments,
        compile_seconds=seconds,
        bytes_needed=needed,
    )


def _shape(array: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=array.sharding)


def require_fit(program: Any, batch_size: int, placement: Placement, fixed: int) -> int:
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
