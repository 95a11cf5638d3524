"""Seconds of work that is waited for, and the rate of a plain matrix product to hold it against."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ..cache import cached_measurement
from ..devices import describe_devices, usable_cores
from ..generation.quantisation import EIGHT_BITS

MATRIX_SIDE = {"cpu": 2048, "gpu": 8192, "tpu": 8192}
MATRIX_REPEATS = 7


@dataclass(frozen=True)
class Timing:
    """Repeated measurements of one thing, in seconds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle of the repeats."""
        return float(np.median(self.seconds))

    @property
    def quartiles(self) -> tuple[float, float]:
        """What half of the repeats lie between."""
        low, high = np.percentile(self.seconds, [25, 75])
        return float(low), float(high)


def seconds_of(call: Callable[[], Any], *, clock: Callable[[], float] = time.perf_counter) -> tuple[float, Any]:
    """(seconds, what `call` returned), its arrays waited for: JAX returns before the work is done."""
    started = clock()
    result = jax.block_until_ready(call())
    return clock() - started, result


def in_turn(
    calls: Sequence[Callable[[], Any]], repeats: int, *, clock: Callable[[], float] = time.perf_counter
) -> list[Timing]:
    """Each of `calls` once to warm up, then A B A B ...: what disturbs the machine disturbs all of them alike."""
    for call in calls:
        seconds_of(call, clock=clock)
    rounds = [[seconds_of(call, clock=clock)[0] for call in calls] for _ in range(repeats)]
    return [Timing(tuple(column)) for column in zip(*rounds, strict=True)]


def known_matrix_rate(dtype: str) -> float:
    """`matrix_product_rate` of the devices of all processes together; measured on this one's once, then remembered."""
    key = {"what": "matrix product", "dtype": dtype, "cores": usable_cores(), **describe_devices()}
    return jax.process_count() * cached_measurement(key, lambda: matrix_product_rate(dtype, jax.local_devices()))


def matrix_product_rate(dtype: str, devices: Sequence[jax.Device]) -> float:
    """FLOP/s of square matrix products of random numbers in `dtype`, on all `devices` together; the median of several.

    What the network's dense layers could reach if they did nothing else.
    """
    side, kind = MATRIX_SIDE.get(devices[0].platform, 4096), EIGHT_BITS.get(dtype)
    sharding = NamedSharding(Mesh(np.asarray(devices), ("product",)), PartitionSpec("product"))

    @partial(jax.jit, out_shardings=sharding)
    def numbers(key):
        # Of 8 bits, the greatest of these numbers would be near 100.
        many = jax.random.normal(key, (len(devices), side, side))
        return many.astype(dtype) if kind is None else (16 * many).astype(kind.factors)

    a, b = numbers(jax.random.key(0)), numbers(jax.random.key(1))
    # One product a device, with nothing to exchange between them.
    product = jax.jit(
        jax.shard_map(
            partial(jnp.matmul, preferred_element_type=kind and kind.sums),
            mesh=sharding.mesh,
            in_specs=sharding.spec,
            out_specs=sharding.spec,
        )
    )
    (timing,) = in_turn([lambda: product(a, b)], MATRIX_REPEATS)
    return len(devices) * 2 * side**3 / timing.median
