"""The jitted sampler of one model: what a batch of cells is computed by, and how it is packed for the host."""

from __future__ import annotations

import time
from collections.abc import Sequence
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
from ..diffusion.predictions import Prediction, make_prediction
from ..errors import BadConfig
from ..networks import CONDITIONING_LAYERS, make_network
from ..sampling.sampler import Integrated, cell_keys, draw_keys, integrate
from ..sampling.solvers import Coefficients

CELLS_AXIS = "cells"
# Kept free for what the compiler's account leaves out: the runtime's own buffers, the cells on their way to the host.
USABLE_MEMORY = 0.8


def network_of(model: Model) -> tuple[nn.Module, Prediction]:
    """A model's network, without its weights, and what its outputs mean."""
    prediction = make_prediction(model.config.diffusion.prediction, model.metadata.scaling)
    # In a family no model has labels: each knows its own type.
    labels = () if model.members else model.metadata.label_sizes
    return make_network(model.config.network, len(model.metadata.genes), prediction.outputs, labels=labels), prediction


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


class Method(NamedTuple):
    """What of a solver the program is compiled for: whether clean cells are drawn, and whether fresh noise is added."""

    draws: bool
    noise: bool


@partial(
    jax.jit,
    static_argnames=("network", "prediction", "scaling", "method"),
    donate_argnames="donated",
    keep_unused=True,
)
def sample_batch(
    weights: Any,
    conditioning: Conditioning,
    coefficients: Coefficients,
    seed: jax.Array,
    cell_indices: jax.Array,
    labels: jax.Array | None,
    donated: jax.Array,
    *,
    network: nn.Module,
    prediction: Prediction,
    scaling: Scaling,
    method: Method,
) -> Integrated:
    """Cells (cell, gene) on the log scale, zeros restored, for global `cell_indices` (cell,); see `prepare`.

    `labels` (cell, column) are what each cell is told; None where that is nothing. With guidance w the predicted
    clean cells are those without labels plus w times what the labels change (Ho & Salimans 2022; Saharia et al. 2022);
    of a distribution that is drawn from, its log-odds and means are. The solver's state is float32. The result takes
    the place of `donated` (cell, gene), whose values do not matter.
    """
    dtype = jax.tree.leaves(weights)[0].dtype
    keys = cell_keys(jax.random.key(seed), cell_indices)

    def predict(modulations, noisy):
        return network.apply(weights, noisy.astype(dtype), modulations, method="denoise").astype(jnp.float32)

    def predict_clean(noisy, alpha_bar, step):
        timestep, unlabelled, noise = step
        drawn = None
        if method.draws:
            drawn = partial(prediction.draw, keys=draw_keys(keys, timestep), noise=noise)
        meant = drawn or prediction.clean
        if labels is None:
            return meant(noisy, predict(unlabelled, noisy), alpha_bar)
        # One timestep for all cells: what is computed of it is computed once a step.
        told = network.apply(conditioning.params, timestep.reshape(1), labels, method="modulations")
        predicted = predict(told.astype(dtype), noisy)
        if unlabelled is None:
            return meant(noisy, predicted, alpha_bar)
        plain = predict(unlabelled, noisy)
        if drawn is not None:
            return drawn(noisy, prediction.guide(predicted, plain, conditioning.guidance), alpha_bar)
        clean, plain = (prediction.clean(noisy, found, alpha_bar) for found in (predicted, plain))
        return plain + conditioning.guidance * (clean - plain)

    # A drawn clean cell brings the step's noise with it: b (m0 + s/b z) = b m0 + s z.
    noise = coefficients.s / coefficients.b if method.draws else None
    steps = (coefficients.timestep, conditioning.table, noise)
    added = method.noise and not method.draws
    done = integrate(predict_clean, keys, coefficients, steps, genes=network.genes, noise=added)
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


@lru_cache(maxsize=16)
def compiled(
    leaves: tuple[jax.ShapeDtypeStruct, ...],
    structure: Any,
    network: nn.Module,
    prediction: Prediction,
    scaling: Scaling,
    method: Method,
) -> tuple[Any, float]:
    """`sample_batch` for arguments of these shapes, and the seconds it took; once a process, whatever their values."""
    started = time.perf_counter()
    shapes = jax.tree.unflatten(structure, leaves)
    static = {"network": network, "prediction": prediction, "scaling": scaling, "method": method}
    program = sample_batch.lower(*shapes, **static).compile()
    return program, time.perf_counter() - started


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


class Packed(NamedTuple):
    """A batch without its zeros, device by device: `values` float32 and `genes` int32 (device, most), of which as many
    count as the `counts` (cell,) int32 of the device's cells say together; cell after cell, genes ascending."""

    values: jax.Array | np.ndarray
    genes: jax.Array | np.ndarray
    counts: jax.Array | np.ndarray

    @property
    def per_device(self) -> np.ndarray:
        """How many values the cells of each device have, (device,)."""
        return self.counts.reshape(len(self.values), -1).sum(axis=1)


@lru_cache(maxsize=16)
def packer(placement: Placement, most: int) -> Any:
    """A jitted function: dense cells (cell, gene), shared out as `placement` has it -> Packed, by each device alone.

    A device keeps `most` values; where its cells have more, `counts` say so and the rest is missing.
    """
    mesh, cells = placement.shared_out.mesh, PartitionSpec(CELLS_AXIS)

    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=cells, out_specs=Packed(cells, cells, cells))
    def pack(dense):
        flat = dense.reshape(-1)
        there = flat != 0
        # Where each value goes; what is zero, and what there is no room for, goes past the end and is dropped.
        position = jnp.where(there, jnp.cumsum(there) - 1, most)
        genes = jnp.tile(jnp.arange(dense.shape[1], dtype=jnp.int32), len(dense))
        values = jnp.zeros(most, dense.dtype).at[position].set(flat, mode="drop")
        genes = jnp.zeros(most, jnp.int32).at[position].set(genes, mode="drop")
        return Packed(values[None], genes[None], jnp.sum(dense != 0, axis=1, dtype=jnp.int32))

    return pack
