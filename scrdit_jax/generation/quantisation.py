"""Sampling in 8 bits: dense layers multiply int8 or float8 weights by int8 or float8 activations, through qwix.

A kernel has a scale for each output channel (and each layer, where layers are stacked), made once of the float32
weights. Activations are scaled as they come, each token of each cell by itself, so that no cell depends on the others
of its batch. Sums are int32 or float32, what comes of them is scaled in float32, and all else is bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from ..extras import optional
from ..networks import OUTPUT_LAYERS

# What the rest of a network computes in.
BODY = "bfloat16"


class EightBits(NamedTuple):
    """What is multiplied, what products are summed in, and how qwix finds a scale."""

    factors: Any
    sums: Any
    calibration: str


EIGHT_BITS = {
    # The greatest becomes 127; qwix's own 127.5 fits only where what overflows is clipped, which XLA leaves to devices.
    "int8": EightBits(jnp.int8, jnp.int32, f"absmax,{127.5 / 127}"),
    "fp8": EightBits(jnp.float8_e4m3fn, jnp.float32, "absmax"),
}


def body_dtype(dtype: str) -> str:
    """What a network computes in but for products of 8 bits."""
    return BODY if dtype in EIGHT_BITS else dtype


def require_library(dtype: str) -> None:
    """MissingExtra where `dtype` needs a library that is not installed."""
    if dtype in EIGHT_BITS:
        optional("qwix", extra="quantised")


def round_weights(network: nn.Module, layers: dict[str, Any], modulations: jax.Array, dtype: str) -> dict[str, Any]:
    """The float32 `layers` of `denoise` in `dtype`; of 8 bits are the kernels of its inner dense layers alone.

    Output layers keep the body's dtype: of all that 8 bits change in the cells, most came from those. `modulations`
    (1, ...) are those of any step, for their shape.
    """
    flat = flatten_dict(layers)
    kernels = _dense_kernels(network, layers, modulations) if dtype in EIGHT_BITS else set()
    rounded = {
        path: _quantise(leaf, dtype, axis=-2) if path in kernels else leaf.astype(body_dtype(dtype))
        for path, leaf in flat.items()
    }
    return unflatten_dict(rounded)


def denoise(network: nn.Module, weights: Any, noisy: jax.Array, modulations: jax.Array) -> jax.Array:
    """The network's `denoise` in the dtype of its `weights`, see `round_weights`; the prediction is float32."""
    dtype = _body_dtype_of(weights)
    with nn.intercept_methods(_multiply):
        predicted = network.apply(weights, noisy.astype(dtype), modulations.astype(dtype), method="denoise")
    return predicted.astype(jnp.float32)


def _dense_kernels(network: nn.Module, layers: dict[str, Any], modulations: jax.Array) -> set[tuple[str, ...]]:
    """Paths of the kernels of the dense layers that `denoise` calls, but for those of the output."""
    found = set()

    def note(call: Callable[..., Any], args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
        if isinstance(context.module, nn.Dense) and context.module.path[0] not in OUTPUT_LAYERS:
            found.add((*context.module.path, "kernel"))
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        cells = jax.ShapeDtypeStruct((1, network.genes), jnp.float32)
        # With XLA's attention all of them are plain dense layers.
        plain = network.clone(attention="xla") if hasattr(network, "attention") else network
        jax.eval_shape(partial(plain.apply, method="denoise"), {"params": layers}, cells, modulations)
    return found


def _multiply(call: Callable[..., Any], args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
    """A dense layer's product of 8 bits where its kernel has them; anything else as it is."""
    if not isinstance(context.module, nn.Dense) or context.method_name != "__call__":
        return call(*args, **kwargs)
    kernel, bias = (context.module.get_variable("params", name) for name in ("kernel", "bias"))
    if isinstance(kernel, jax.Array):
        return call(*args, **kwargs)
    (inputs,) = args
    dtype = next(name for name, kind in EIGHT_BITS.items() if kind.factors == kernel.qvalue.dtype)
    rows = _quantise(inputs.astype(jnp.float32), dtype, axis=-1)
    dimensions = (((inputs.ndim - 1,), (0,)), ((), ()))
    # Products of float8 leave in the body's dtype, half the bytes of float32; those of int8 leave as the sums they are.
    product = optional("qwix", extra="quantised").dot_general(
        rows, kernel, dimensions, preferred_element_type=inputs.dtype
    )
    return product if bias is None else product + jnp.expand_dims(bias, tuple(range(inputs.ndim - 1)))


def _quantise(array: jax.Array, dtype: str, *, axis: int) -> Any:
    """In 8 bits, with a float32 scale for all that is summed over, along `axis`."""
    kind, others = EIGHT_BITS[dtype], [i for i in range(array.ndim) if i != axis % array.ndim]
    return optional("qwix", extra="quantised").quantize(
        array, kind.factors, channelwise_axes=others, calibration_method=kind.calibration
    )


def _body_dtype_of(weights: Any) -> Any:
    plain = jax.tree.leaves(weights, is_leaf=lambda leaf: hasattr(leaf, "qvalue"))
    return next(leaf.dtype for leaf in plain if isinstance(leaf, jax.Array))
