"""Which of the ways to compute a network's attention is fastest on the device at hand. Timed once, then remembered."""

from __future__ import annotations

from dataclasses import asdict

import flax.linen as nn
import jax
import jax.numpy as jnp

from .cache import cached_measurement, seconds_a_call
from .devices import describe_devices
from .networks import NETWORKS, attend, attention_shape, padded_tokens

# What there is beside XLA's own, by JAX's name of the platform.
OF_PLATFORM = {"gpu": ("xla", "cudnn"), "tpu": ("xla", "pallas")}
CELLS = 64


def attentions(network: nn.Module) -> tuple[str, ...]:
    """The ways in which the devices at hand may compute the attention of `network`."""
    here = OF_PLATFORM.get(jax.local_devices()[0].platform, ("xla",))
    return tuple(name for name in here if name in NETWORKS[network.config.architecture].attentions)


def with_fastest_attention(network: nn.Module, dtype: str, *, gradient: bool = False) -> nn.Module:
    """`network` with the attention that is fastest here; with `gradient`, to train with."""
    tried = attentions(network)
    if len(tried) == 1:
        return network
    key = {"what": "attention", "dtype": dtype, "gradient": gradient, "genes": network.genes}
    key |= {**asdict(network.config), **describe_devices()}
    found = cached_measurement(key, lambda: attention_seconds(network, dtype, tried, gradient=gradient))
    return network.clone(attention=choose_attention(found))


def attention_seconds(
    network: nn.Module, dtype: str, tried: tuple[str, ...], *, gradient: bool = False
) -> dict[str, float | None]:
    """Seconds of one attention for each of the ways that are `tried`, with its gradient or without; None where the
    device cannot."""
    keys, heads, size = attention_shape(network)

    def seconds(implementation: str) -> float | None:
        shape = CELLS, padded_tokens(keys, implementation), 3 * heads * size
        qkv = jax.random.normal(jax.random.key(0), shape).astype(dtype)

        def call(qkv: jax.Array) -> jax.Array:
            return attend(qkv, heads, keys, implementation)

        timed = jax.jit(jax.grad(lambda qkv: call(qkv).astype(jnp.float32).sum()) if gradient else call)
        try:
            return seconds_a_call(lambda: timed(qkv))
        except (RuntimeError, TypeError, ValueError, NotImplementedError):  # its version, the head, the device
            return None

    return {implementation: seconds(implementation) for implementation in tried}


def choose_attention(found: dict[str, float | None]) -> str:
    """The fastest of `attention_seconds`; XLA's where nothing else is faster."""
    return min(found, key=lambda name: (found[name] is None, found[name] or 0.0, name != "xla"))
