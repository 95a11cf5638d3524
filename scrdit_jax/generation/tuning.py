"""What only timing can tell on the device at hand: how large a batch. Timed once, then remembered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from ..attention import with_fastest_attention
from ..cache import cached_measurement, seconds_a_call
from ..checkpoint import Model
from ..devices import describe_devices, free_memory
from .program import evaluate, network_of, on_each_device, place, prepare
from .quantisation import body_dtype

# Of a batch size nearly as fast as the fastest, the smaller is the better: less memory, a shorter tail.
NEARLY = 0.97
LONGEST_EVALUATION = 2.0
MEMORY_SHARE = 0.4


def batch_sizes(devices: int, platform: str) -> Iterator[int]:
    """Candidates, smallest first, each a multiple of the devices.

    CPUs are fastest with what their caches hold, TPUs with what their vector memory does: some 16 to 32 cells of the
    paper's network (benchmarks/speed/compile). A GPU wants many.
    """
    per_device, factor = {"cpu": (4, 2), "tpu": (8, 2)}.get(platform, (64, 4))
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
    program = jax.jit(
        on_each_device(lambda w, m, level, noisy: step(w, m, noisy, level), shared_out.mesh, alike=3, shared=1)
    )

    def measure() -> list[list[float]]:
        found: list[list[float]] = []
        for batch in batch_sizes(shared_out.num_devices, jax.local_devices()[0].platform):
            shape = jax.ShapeDtypeStruct((batch, network.genes), np.float32, sharding=shared_out)
            compiled = program.lower(weights, modulations, alpha_bar, shape).compile()
            needed = compiled.memory_analysis().temp_size_in_bytes
            if found and needed > MEMORY_SHARE * free_memory(jax.local_devices()[0]):
                break
            noisy = jax.device_put(np.zeros(shape.shape, np.float32), shared_out)
            seconds = seconds_a_call(lambda c=compiled, n=noisy: c(weights, modulations, alpha_bar, n))
            found.append([batch, batch / seconds])
            if stops_paying([rate for _, rate in found]) or seconds > LONGEST_EVALUATION:
                break
        return found

    return measure() if fresh else cached_measurement(_key("batch sizes", network, dtype), measure)


def model_sweep(model: Model, dtype: str, *, fresh: bool = False) -> list[list[float]]:
    """[[batch size, cell-evaluations a second], ...] of a model's network on the local devices; see `sweep`."""
    network, prediction = network_of(model)
    network, placement = with_fastest_attention(network, body_dtype(dtype)), place(jax.local_devices())
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


def _key(what: str, network: nn.Module, dtype: str) -> dict[str, Any]:
    shape = {"genes": network.genes, "outputs": network.outputs, "attention": network.attention}
    return {"what": what, "dtype": dtype, **shape, **asdict(network.config), **describe_devices()}
