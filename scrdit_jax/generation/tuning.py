"""What only timing can tell on the device at hand: how large a batch, which attention. Timed once, then remembered."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from ..cache import cached_measurement
from ..checkpoint import Model
from ..devices import describe_devices, free_memory
from ..networks import attention_shape
from .program import evaluate, network_of, place, prepare
from .quantisation import body_dtype

# Of a batch size nearly as fast as the fastest, the smaller is the better: less memory, a shorter tail.
NEARLY = 0.97
LONGEST_EVALUATION = 2.0
TIMED_SECONDS = 0.25
MEMORY_SHARE = 0.4
ATTENTION_CELLS = 64


def seconds_a_call(call: Callable[[], Any], *, least_seconds: float = TIMED_SECONDS) -> float:
    """The least of several timed calls after one to warm up; `call` returns arrays, which are waited for."""
    jax.block_until_ready(call())
    best, spent = np.inf, 0.0
    while spent < least_seconds:
        started = time.perf_counter()
        jax.block_until_ready(call())
        seconds = time.perf_counter() - started
        best, spent = min(best, seconds), spent + seconds
    return best


def batch_sizes(devices: int, platform: str) -> Iterator[int]:
    """Candidates, smallest first, each a multiple of the devices; CPUs are fastest with what their caches hold."""
    per_device, factor = (4, 2) if platform == "cpu" else (64, 4)
    while True:
        yield per_device * devices
        per_device *= factor


def sweep(
    step: Callable[..., jax.Array],
    weights: Any,
    modulations: jax.Array,
    *,
    network: nn.Module,
    dtype: str,
    shared_out: NamedSharding,
    fresh: bool = False,
) -> list[list[float]]:
    """[[batch size, cell-evaluations a second], ...] from small to where more cells no longer pay, or do not fit.

    `step(weights, modulations, noisy, alpha_bar)` is one evaluation. Remembered for network, dtype and devices,
    and not timed again unless `fresh`.
    """
    alpha_bar = jnp.full((1, 1), 0.5, jnp.float32)
    alpha_bar = jax.device_put(alpha_bar, modulations.sharding)
    program = jax.jit(step)

    def measure() -> list[list[float]]:
        found: list[list[float]] = []
        for batch in batch_sizes(shared_out.num_devices, jax.local_devices()[0].platform):
            shape = jax.ShapeDtypeStruct((batch, network.genes), np.float32, sharding=shared_out)
            compiled = program.lower(weights, modulations, shape, alpha_bar).compile()
            needed = compiled.memory_analysis().temp_size_in_bytes
            if found and needed > MEMORY_SHARE * free_memory(jax.local_devices()[0]):
                break
            noisy = jax.device_put(np.zeros(shape.shape, np.float32), shared_out)
            seconds = seconds_a_call(lambda c=compiled, n=noisy: c(weights, modulations, n, alpha_bar))
            found.append([batch, batch / seconds])
            if stops_paying([rate for _, rate in found]) or seconds > LONGEST_EVALUATION:
                break
        return found

    return measure() if fresh else cached_measurement(_key("batch sizes", network, dtype), measure)


def model_sweep(model: Model, dtype: str, *, fresh: bool = False) -> list[list[float]]:
    """[[batch size, cell-evaluations a second], ...] of a model's network on the local devices; see `sweep`."""
    network, prediction = network_of(model)
    network, placement = with_fastest_attention(network, dtype), place(jax.local_devices())
    params = jax.device_put(model.params, placement.on_each)
    weights, table = prepare(params, jnp.ones(1, jnp.int32), network=network, dtype=dtype)
    step = partial(evaluate, network=network, prediction=prediction)
    return sweep(step, weights, table[0], network=network, dtype=dtype, shared_out=placement.shared_out, fresh=fresh)


def fastest_batch_size(model: Model, dtype: str) -> int:
    """The batch size that is fastest on the local devices for a model's network; timed once and remembered."""
    return choose_batch_size(model_sweep(model, dtype))


def stops_paying(rates: list[float]) -> bool:
    """Whether the last two rates are no better than the best before them."""
    return len(rates) > 2 and max(rates[-2:]) < max(rates[:-2]) / NEARLY


def choose_batch_size(found: list[list[float]]) -> int:
    """The smallest batch size of a `sweep` that is nearly as fast as the fastest."""
    fastest = max(rate for _, rate in found)
    return int(min(batch for batch, rate in found if rate >= NEARLY * fastest))


def with_fastest_attention(network: nn.Module, dtype: str) -> nn.Module:
    """`network` with cuDNN's attention where the device has it and it is faster than XLA's own."""
    dtype = body_dtype(dtype)
    if jax.local_devices()[0].platform != "gpu" or dtype != "bfloat16":
        return network
    found = cached_measurement(_key("attention", network, dtype), lambda: attention_seconds(network, dtype))
    return network.clone(attention=choose_attention(found))


def attention_seconds(network: nn.Module, dtype: str) -> dict[str, float | None]:
    """Seconds of one attention for each way the device may compute it; None where it cannot."""
    shape = (ATTENTION_CELLS, *attention_shape(network))
    q, k, v = (jax.random.normal(jax.random.key(i), shape).astype(dtype) for i in range(3))

    def seconds(implementation: str) -> float | None:
        attend = jax.jit(lambda q, k, v: jax.nn.dot_product_attention(q, k, v, implementation=implementation))
        try:
            return seconds_a_call(lambda: attend(q, k, v))
        except (RuntimeError, TypeError, ValueError):  # its version, the head, the device
            return None

    return {implementation: seconds(implementation) for implementation in ("xla", "cudnn")}


def choose_attention(found: dict[str, float | None]) -> str:
    """The fastest of `attention_seconds`; XLA's where nothing else is faster."""
    return min(found, key=lambda name: (found[name] is None, found[name] or 0.0, name != "xla"))


def _key(what: str, network: nn.Module, dtype: str) -> dict[str, Any]:
    shape = {"genes": network.genes, "outputs": network.outputs, "attention": network.attention}
    return {"what": what, "dtype": dtype, **shape, **asdict(network.config), **describe_devices()}
