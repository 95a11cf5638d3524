"""The training step over devices and processes: pmap, and how state and batches get to the devices and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ..config import TrainingConfig
from ..data.batches import Batch
from ..errors import BadConfig
from .state import TrainState
from .step import Metrics, Step

DEVICES = "devices"


@dataclass(frozen=True)
class Placement:
    """The devices of all processes that share a batch, and how arrays get to this process's own."""

    devices: tuple[jax.Device, ...]

    @cached_property
    def local(self) -> tuple[jax.Device, ...]:
        """This process's devices."""
        return tuple(device for device in self.devices if device.process_index == jax.process_index())

    @cached_property
    def sharding(self) -> NamedSharding:
        """A leading axis of this process's devices."""
        return NamedSharding(Mesh(np.asarray(self.local), (DEVICES,)), PartitionSpec(DEVICES))

    @property
    def in_turn(self) -> bool:
        """Whether a step may not begin before the last has ended: where several devices are one CPU's cores they share
        its threads, and it could take those that an all-reduce is waiting for."""
        return len(self.devices) > 1 and self.devices[0].platform == "cpu"

    def copies(self, tree: Any) -> Any:
        """A copy on every local device, placed as the pmap wants it, so that its first call can donate the buffers."""
        return jax.device_put(
            jax.tree.map(lambda leaf: np.stack([np.asarray(leaf)] * len(self.local)), tree), self.sharding
        )

    def shares(self, tree: Any) -> Any:
        """An equal share of the rows on every local device."""
        count = len(self.local)
        return jax.device_put(
            jax.tree.map(lambda leaf: leaf.reshape(count, len(leaf) // count, *leaf.shape[1:]), tree), self.sharding
        )


@dataclass(frozen=True)
class ParallelStep:
    """A step on all devices: `place` a state there, `share` a batch out, `run` the step on both, `fetch` the state.

    `share` takes this process's rows of a batch (all, where there is one process), or of row numbers (cell,) int32
    where the training cells lie on the devices. `run` (state, shared) -> (state, metrics) returns before the devices
    have done it, and the state it is given is donated. `fetch` gives the state as it is on one device.
    """

    placement: Placement
    mapped: Callable[..., tuple[TrainState, Metrics]]
    constants: Any

    def place(self, state: TrainState) -> TrainState:
        """See the class."""
        return self.placement.copies(state)

    def share(self, batch: Any) -> Any:
        """See the class."""
        return self.placement.shares(batch)

    def run(self, state: TrainState, shared: Any) -> tuple[TrainState, Metrics]:
        """See the class."""
        following = self.mapped(state, shared, *self.constants)
        return jax.block_until_ready(following) if self.placement.in_turn else following

    def fetch(self, state: TrainState) -> TrainState:
        """See the class."""
        return jax.tree.map(first_of, state)


def gather(cells: Batch, rows: jax.Array) -> Batch:
    """The cells of these rows."""
    return jax.tree.map(lambda leaf: leaf[rows], cells)


def parallelise(
    step: Step,
    devices: Sequence[jax.Device],
    *,
    resident: Batch | None = None,
    constant: Any = None,
    gather: Callable[[Batch, Any], Any] = gather,
) -> ParallelStep:
    """A `step` with the axis DEVICES as a pmap, each device with an equal share of the batch and a whole state.

    With `resident`, all training cells, those lie on each device, and what is shared out are row numbers, by which
    `gather` takes a batch of them. `constant` is handed to each step: a teacher's params, or keys.
    """
    placement = Placement(tuple(devices))

    def on_device(state: TrainState, shared: Any, cells: Batch | None, constant: Any) -> tuple:
        return step(state, shared if cells is None else gather(cells, shared), constant)

    mapped = jax.pmap(on_device, axis_name=DEVICES, devices=devices, donate_argnums=0)
    return ParallelStep(placement, mapped, placement.copies((resident, constant)))


def require_even_shares(training: TrainingConfig, devices: int) -> None:
    """BadConfig where devices and `accumulate` do not divide the batch evenly."""
    parts = devices * training.accumulate
    if training.batch_size % parts:
        among = f"{devices} devices" + (f" x {training.accumulate} parts" if training.accumulate > 1 else "")
        raise BadConfig(
            f"a batch of {training.batch_size} cells cannot be shared out over {among}; "
            f"use --batch-size {-(-training.batch_size // parts) * parts}"
        )


def first_of(leaf: jax.Array) -> jax.Array:
    """What lies on this process's first device, of a leaf that has a copy on each."""
    return leaf.addressable_shards[0].data[0]
