"""The sampler of one model, compiled once for one shape of batch: cells by their global indices, as fast as may be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from scipy import sparse

from ..checkpoint import Model
from ..conditioning.assignment import Assignment, Labels, Runs
from ..config import SamplingConfig
from ..devices import usable_devices
from ..diffusion.predictions import Prediction
from ..errors import BadConfig, Diverged
from ..io.append import CellBlock, to_csr
from ..sampling.sampler import Integrated
from ..sampling.solvers import Coefficients, find_solver
from . import tuning
from .counts import Counting, make_counting
from .plan import Shard
from .program import (
    Conditioning,
    Method,
    Packed,
    Placement,
    compiled,
    evaluate,
    network_of,
    packer,
    place,
    prepare,
    require_fit,
)
from .settings import coefficients_for, resolve_sampling

# Of the values that cells of a device may have, how many are made room for where batches are packed there.
PACKED_SHARE = 0.4


@jax.jit
def _choose(first: Integrated, second: Integrated, from_second: jax.Array) -> Integrated:
    """Cell by cell from one batch or the other; `from_second` (cell,) bool."""
    cells = jnp.where(from_second[:, None], second.cells, first.cells)
    return Integrated(cells, jnp.where(from_second, second.finite_steps, first.finite_steps))


class Job(NamedTuple):
    """Cells `first` to `first` + `count` - 1 of a shard: a batch, or the part of one that is wanted."""

    first: int
    count: int
    shard: Shard


class Dispatched(NamedTuple):
    """A batch on its way; `packed` where the device packs it; `idle` if it was done before the next was dispatched."""

    job: Job
    batch: Integrated
    packed: Packed | None
    idle: bool = False


Collected = np.ndarray | Packed


def jobs_of(shards: Iterable[Shard], batch_size: int) -> Iterator[Job]:
    """The batches of the shards, of each of which the last may be short."""
    for shard in shards:
        for first, count in shard.batches(batch_size):
            yield Job(first, count, shard)


def unpack(packed: Packed, count: int, genes: int) -> sparse.csr_matrix:
    """The first `count` cells of a packed batch as CSR; `packed` is on the host, and held all values."""
    values, columns = (
        np.concatenate([row[:there] for row, there in zip(rows, packed.per_device, strict=True)])
        for rows in (packed.values, packed.genes)
    )
    indptr = np.concatenate([[0], np.cumsum(packed.counts[:count])]).astype(np.int32)
    return sparse.csr_matrix((values[: indptr[-1]], columns[: indptr[-1]], indptr), shape=(count, genes))


@dataclass(frozen=True)
class Engine:
    """A compiled sampler with all it needs but the cells' indices; `bytes_needed` is per device.

    `variants` are what the program is given: once, with the labels that cells are told; or, for a family, once for
    each label, as each has a model of its own.
    """

    batch_size: int
    coefficients: Coefficients
    network: nn.Module
    compile_seconds: float
    bytes_needed: int
    program: Any
    variants: tuple[tuple[Any, ...], ...]
    placement: Placement
    told: Assignment
    counting: Counting | None
    packs: bool

    @property
    def devices(self) -> tuple[jax.Device, ...]:
        """Those that a batch is shared out over."""
        return self.placement.devices

    @property
    def shared_out(self) -> NamedSharding:
        """How the cells of a batch lie over the devices."""
        return self.placement.shared_out

    @property
    def evaluations(self) -> int:
        """Network evaluations a cell."""
        return len(self.coefficients.timestep)

    def empty(self) -> jax.Array:
        """A buffer for a batch, to `dispatch` into."""
        return jax.device_put(np.zeros((self.batch_size, self.network.genes), np.float32), self.shared_out)

    def dispatch(self, first: int, donated: jax.Array | None = None) -> Integrated:
        """Begin the batch of cells `first`, `first` + 1, ...; returns at once. `donated` is used up."""
        indices = np.arange(first, first + self.batch_size, dtype=np.uint32)
        rows = self.told.rows(first, self.batch_size)
        if len(self.variants) == 1:
            conditioning = self.variants[0][1]
            labels = None if conditioning.params is None else self.told.codes[rows]
            return self.program(*self.variants[0], indices, labels, self.empty() if donated is None else donated)
        batch = None
        for row in np.unique(rows):
            place = self.empty() if donated is None else donated
            made, donated = self.program(*self.variants[row], indices, None, place), None
            here = jax.device_put(rows == row, self.shared_out)
            batch = made if batch is None else _choose(batch, made, here)
        return batch

    def fetch(self, batch: Integrated, first: int, count: int) -> np.ndarray:
        """The first `count` cells of a batch on the host, once it is done; Diverged if a value is not finite."""
        self._require_finite(batch, first, count)
        return np.asarray(batch.cells)[:count]

    def collect(self, dispatched: Dispatched) -> Collected:
        """A dispatched batch on the host, once it is done, in memory of its own; Diverged if a value is not finite."""
        batch, job = dispatched.batch, dispatched.job
        if dispatched.packed is not None:
            packed = Packed(*map(np.asarray, dispatched.packed))
            if packed.per_device.max() <= packed.values.shape[1]:
                self._require_finite(batch, job.first, job.count)
                return packed
        return self.fetch(batch, job.first, job.count).copy()

    def block(self, collected: Collected, first: int, count: int) -> CellBlock:
        """Cells that were collected, from index `first` on, sparse, with their labels and, where wanted, counts."""
        matrix = (
            to_csr(collected) if isinstance(collected, np.ndarray) else unpack(collected, count, self.network.genes)
        )
        rows = self.told.rows(first, count)
        counts, library = (None, None) if self.counting is None else self.counting.draw(matrix, first, rows)
        columns = self.told.labels.distinct.shape[1]
        return CellBlock(matrix, self.told.codes[rows, :columns], counts, library)

    def run(self, jobs: Iterable[Job]) -> Iterator[Dispatched]:
        """Each job's batch in turn, for `collect`; by then the device is already at the next.

        What was yielded is used up when the one after it is asked for.
        """
        ahead, spare = None, None
        for job in jobs:
            idle = ahead is not None and ahead.batch.cells.is_ready()
            batch = self.dispatch(job.first, spare)
            packed = packer(self.placement, self._room())(batch.cells) if self.packs else None
            for array in jax.tree.leaves((batch.finite_steps, batch.cells if packed is None else packed)):
                array.copy_to_host_async()
            spare = None
            if ahead is not None:
                yield ahead._replace(idle=idle)
                spare = ahead.batch.cells
            ahead = Dispatched(job, batch, packed)
        if ahead is not None:
            yield ahead

    def batches(self, cells: int) -> Iterator[np.ndarray]:
        """Cells 0 to `cells` - 1 on the log scale, dense, batch by batch."""
        for done in self.run(jobs_of([Shard(0, 0, cells)], self.batch_size)):
            # The device may write over the batch as soon as the next is dispatched into it.
            yield self.fetch(done.batch, done.job.first, done.job.count).copy()

    def _room(self) -> int:
        return int(PACKED_SHARE * self.batch_size // len(self.devices) * self.network.genes)

    def _require_finite(self, batch: Integrated, first: int, count: int) -> None:
        finite_steps = np.asarray(batch.finite_steps)[:count]
        if np.any(finite_steps < self.evaluations):
            raise Diverged(self._divergence(finite_steps, first))

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
    model: Model,
    config: SamplingConfig,
    labels: Runs = (),
    *,
    devices: Sequence[jax.Device] | None = None,
    coefficients: Coefficients | None = None,
) -> Engine:
    """The engine for `config`; without a batch size in it, with the one that was measured to be fastest here.

    `labels` are runs in the order of the cells; a conditional model without any makes cells of no label. `devices` are
    all local ones among which the batch can be shared out evenly, unless they are given. `coefficients` take the place
    of those that `config` says.

    Raises BadConfig, naming the largest, where a batch does not fit in the devices' memory.
    """
    config = resolve_sampling(model, config)
    network, prediction = network_of(model)
    network, scaling = tuning.with_fastest_attention(network, config.dtype), model.metadata.scaling
    if coefficients is None:
        coefficients = coefficients_for(model.config.diffusion, config, model)
    batch_size = config.batch_size
    if batch_size is None:
        batch_size = tuned_batch_size(model, network, prediction, config.dtype)
    placement = place(usable_devices(batch_size) if devices is None else devices)
    told = Assignment.of(Labels.of(labels, model.metadata.conditions), model, config.seed)
    variants = _variants(model, network, config, told, coefficients, placement)
    indices = jax.ShapeDtypeStruct((batch_size,), np.uint32, sharding=placement.shared_out)
    told_as = (batch_size, told.codes.shape[1])
    labels = jax.ShapeDtypeStruct(told_as, np.int32, sharding=placement.shared_out)
    labels = None if variants[0][1].params is None else labels
    donated = jax.ShapeDtypeStruct((batch_size, network.genes), np.float32, sharding=placement.shared_out)
    shapes = (*jax.tree.map(_shape, variants[0]), indices, labels, donated)
    leaves, structure = jax.tree.flatten(shapes)
    method = Method(find_solver(config.solver).draws, bool(np.any(coefficients.s > 0)))
    program, seconds = compiled(tuple(leaves), structure, network, prediction, scaling, method)
    needed = require_fit(program, batch_size, placement, sum(leaf.nbytes for leaf in jax.tree.leaves(variants[0])))
    return Engine(
        batch_size, coefficients, network, seconds, needed, program, variants, placement, told,
        make_counting(model, config, told), packs=placement.devices[0].platform != "cpu",
    )  # fmt: skip


def is_guided(model: Model, config: SamplingConfig) -> bool:
    """Whether a step takes a second evaluation, without labels; BadConfig where the model has no labels to go without.

    Guidance 1 is what the labels say and 0 is no labels, so neither needs the other.
    """
    if config.guidance != 1 and (model.members or not model.metadata.conditions):
        what = "a family of models, one a cell type" if model.members else "trained without labels"
        raise BadConfig(f"this model is {what}, so nothing can be guided; leave --guidance out")
    return config.guidance not in (0, 1)


def _variants(
    model: Model,
    network: nn.Module,
    config: SamplingConfig,
    told: Assignment,
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
