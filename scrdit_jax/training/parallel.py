"""The training step over devices and processes: pmap, and how state and batches get to the devices and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ..config import RunConfig
from ..data.batches import Batch
from ..data.scaling import Scaling
from ..errors import BadConfig
from .state import TrainState
from .step import Metrics, make_step

DEVICES = "devices"


class ParallelStep(NamedTuple):
    """`place` a state on the devices, `feed` a share of a batch, `run` the step on both, `fetch` the state back.

    `feed` takes this process's rows of a batch (all, where there is one process); `run` (state, fed) -> (state,
    metrics) returns before the devices have done it; `fetch` gives the state as it is on one device.
    """

    place: Callable[[TrainState], TrainState]
    feed: Callable[[Any], Any]
    run: Callable[[TrainState, Any], tuple[TrainState, Metrics]]
    fetch: Callable[[TrainState], TrainState]


def parallelise(
    network: nn.Module,
    config: RunConfig,
    scaling: Scaling,
    devices: Sequence[jax.Device],
    *,
    resident: Batch | None = None,
) -> ParallelStep:
    """The step as a pmap over `devices` of all processes, each with an equal share of the batch and a whole state.

    With `resident`, all training cells, those lie on each device, and what is fed are row numbers (cell,) int32.
    Raises BadConfig where devices and `accumulate` do not divide the batch evenly.
    """
    training, count = config.training, len(devices)
    if training.batch_size % (count * training.accumulate):
        parts = f"{count} devices x {training.accumulate} parts" if training.accumulate > 1 else f"{count} devices"
        raise BadConfig(
            f"a batch of {training.batch_size} cells cannot be shared out over {parts}; "
            f"use --batch-size {-(-training.batch_size // (count * training.accumulate)) * count * training.accumulate}"
        )
    step = make_step(network, config, scaling, axis_name=DEVICES)
    local = [device for device in devices if device.process_index == jax.process_index()]
    sharding = NamedSharding(Mesh(np.asarray(local), (DEVICES,)), PartitionSpec(DEVICES))
    # Where several devices are one CPU's cores they share its threads, and a step begun before the last has ended
    # can take those that an all-reduce is waiting for.
    in_turn = count > 1 and devices[0].platform == "cpu"

    def place(tree: Any) -> Any:
        """A copy on every local device, placed as the pmap wants it, so that its first call can donate the buffers."""
        return jax.device_put(jax.tree.map(lambda leaf: np.stack([np.asarray(leaf)] * len(local)), tree), sharding)

    def feed(share: Any) -> Any:
        return jax.device_put(
            jax.tree.map(lambda leaf: leaf.reshape(len(local), len(leaf) // len(local), *leaf.shape[1:]), share),
            sharding,
        )

    if resident is None:
        mapped = jax.pmap(step, axis_name=DEVICES, devices=devices, donate_argnums=0)
        begin = mapped
    else:

        def gathered(state: TrainState, cells: Batch, rows: jax.Array) -> tuple[TrainState, Metrics]:
            return step(state, jax.tree.map(lambda leaf: leaf[rows], cells))

        mapped = jax.pmap(gathered, axis_name=DEVICES, devices=devices, donate_argnums=0)
        on_devices = place(resident)

        def begin(state: TrainState, rows: Any) -> tuple[TrainState, Metrics]:
            return mapped(state, on_devices, rows)

    def run(state: TrainState, fed: Any) -> tuple[TrainState, Metrics]:
        following = begin(state, fed)
        return jax.block_until_ready(following) if in_turn else following

    return ParallelStep(place, feed, run, lambda state: jax.tree.map(first_of, state))


def first_of(leaf: jax.Array) -> jax.Array:
    """What lies on this process's first device, of a leaf that has a copy on each."""
    return leaf.addressable_shards[0].data[0]
