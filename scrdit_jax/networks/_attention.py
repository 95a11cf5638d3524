"""Self-attention as a device computes it best (Vaswani et al. 2017, eq. 1): XLA's, cuDNN's, or a kernel for TPUs.

The scores of all cells do not fit on a chip, and what goes to its main memory and back takes longer than the products.
cuDNN's attention and the kernel here keep them on the chip; XLA's own does where a batch is small.
"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp

# The sides of a TPU's registers: numbers side by side, and how many rows of tokens are kept together.
LANES, ROWS = 128, 8
# What masks a score: far below any, and finite, as the difference of two infinities is no number.
MASKED = -1e30


def padded_tokens(tokens: int, implementation: str) -> int:
    """How many tokens are computed with: cuDNN trains on multiples of 8 alone, and TPUs copy what is none."""
    return tokens if implementation == "xla" else -(-tokens // ROWS) * ROWS


def attend_parts(q: jax.Array, k: jax.Array, v: jax.Array, keys: int, implementation: str) -> jax.Array:
    """Attention of (cell, token, head, number) each, to the first `keys` tokens; by "xla" or "cudnn"."""
    if keys == q.shape[1]:
        return jax.nn.dot_product_attention(q, k, v, implementation=implementation)
    lengths = jnp.full(len(q), keys, jnp.int32)
    queries = jnp.full(len(q), q.shape[1], jnp.int32)
    return jax.nn.dot_product_attention(
        q, k, v, query_seq_lengths=queries, key_value_seq_lengths=lengths, implementation=implementation
    )


def attend(qkv: jax.Array, heads: int, keys: int, implementation: str) -> jax.Array:
    """Attention of (cell, token, 3 width), queries, keys and values side by side, -> (cell, token, width)."""
    if implementation == "pallas":
        return attend_on_tpu(qkv, heads, keys)
    cells, tokens, threefold = qkv.shape
    q, k, v = (part.reshape(cells, tokens, heads, -1) for part in jnp.split(qkv, 3, axis=2))
    return attend_parts(q, k, v, keys, implementation).reshape(cells, tokens, threefold // 3)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def attend_on_tpu(qkv: jax.Array, heads: int, keys: int) -> jax.Array:
    """Attention of (cell, token, 3 width), queries, keys and values side by side, -> (cell, token, width).

    One kernel, a few cells at a time: no scores leave the chip, and heads are read where they lie. Tokens are a
    multiple of ROWS; scores and sums are float32.
    """
    return _call(_forward, (qkv,), qkv.shape[-1] // 3, heads=heads, keys=keys, products=2)


def _attend_forward(qkv: jax.Array, heads: int, keys: int) -> tuple[jax.Array, jax.Array]:
    return attend_on_tpu(qkv, heads, keys), qkv


def _attend_backward(heads: int, keys: int, qkv: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    return (_call(_backward, (qkv, gradient), qkv.shape[-1], heads=heads, keys=keys, products=5),)


attend_on_tpu.defvjp(_attend_forward, _attend_backward)


def _call(kernel, inputs: tuple[jax.Array, ...], width: int, *, heads: int, keys: int, products: int) -> jax.Array:
    """Run a kernel over the cells of `inputs` (cell, token, ...) -> (cell, token, `width`)."""
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import tpu as pltpu

    cells, tokens, threefold = inputs[0].shape
    # Two forwards, whose products and sums take turns; backwards there are enough for one cell.
    together = 2 if cells % 2 == 0 and products == 2 else 1

    def block(last: int) -> pl.BlockSpec:
        return pl.BlockSpec((together, tokens, last), lambda i: (i, 0, 0))

    moved = sum(array.size for array in inputs) + cells * tokens * width
    cost = pl.CostEstimate(
        flops=2 * products * cells * tokens**2 * (threefold // 3),
        bytes_accessed=moved * inputs[0].dtype.itemsize,
        transcendentals=cells * heads * tokens**2,
    )
    return pl.pallas_call(
        partial(kernel, heads=heads, keys=keys),
        grid=(cells // together,),
        in_specs=[block(array.shape[-1]) for array in inputs],
        out_specs=block(width),
        out_shape=jax.ShapeDtypeStruct((cells, tokens, width), inputs[0].dtype),
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel",)),
        cost_estimate=cost,
        name="attention",
    )(*inputs)


def _product(a: jax.Array, b: jax.Array, side_a: int, side_b: int) -> jax.Array:
    return jax.lax.dot_general(a, b, (((side_a,), (side_b,)), ((), ())), preferred_element_type=jnp.float32)


class _Head:
    """Where head number `head` lies: the registers from lane `low` to `high` hold it, and what is `mine` in them.

    Moving a head to where a register begins would cost more than to multiply the registers with what is not its own
    masked, which a unit for products of 128 or 256 numbers does in the same time.
    """

    def __init__(self, head: int, size: int, tokens: int, width: int) -> None:
        first, last = head * size, (head + 1) * size
        self.low, self.high = first // LANES * LANES, min(-(-last // LANES) * LANES, width)
        lane = jax.lax.broadcasted_iota(jnp.int32, (tokens, self.high - self.low), 1) + self.low
        self.mine = (lane >= first) & (lane < last)
        self.registers = [(lane, min(lane + LANES, width)) for lane in range(self.low, self.high, LANES)]
        self.finished = [(low, high) for low, high in self.registers if high <= last]

    def part(self, array, cell: int, start: int = 0) -> jax.Array:
        """Its registers in the `array` (cell, token, ...) whose part begins at `start`."""
        return array[cell, :, start + self.low : start + self.high]

    def own(self, array: jax.Array) -> jax.Array:
        """With zeros for what is another head's."""
        return jnp.where(self.mine, array, jnp.zeros((), array.dtype))


def _probabilities(q: jax.Array, k: jax.Array, size: int, keys: int) -> tuple[jax.Array, jax.Array]:
    """(exp(score - highest), sum) of masked queries (token, lane): softmax but for the division."""
    # In powers of 2, which is what there is an instruction for.
    scores = _product(q * jnp.asarray(size**-0.5 * math.log2(math.e), q.dtype), k, 1, 1)
    if keys < scores.shape[1]:
        scores = jnp.where(jax.lax.broadcasted_iota(jnp.int32, scores.shape, 1) < keys, scores, MASKED)
    weights = jnp.exp2(scores - scores.max(axis=-1, keepdims=True))
    return weights, weights.sum(axis=-1, keepdims=True)


class _Output:
    """Heads add what is theirs to the registers that they share; a register is stored once its last head is done."""

    def __init__(self, out, cell: int, start: int = 0) -> None:
        self._out, self._cell, self._start, self._waiting = out, cell, start, {}

    def add(self, head: _Head, values: jax.Array) -> None:
        values = head.own(values)
        for low, high in head.registers:
            part = values[:, low - head.low : high - head.low]
            self._waiting[low] = self._waiting[low] + part if low in self._waiting else part
        for low, high in head.finished:
            done = self._waiting.pop(low).astype(self._out.dtype)
            self._out[self._cell, :, self._start + low : self._start + high] = done


def _forward(qkv, out, *, heads: int, keys: int) -> None:
    cells, tokens, threefold = qkv.shape
    width = threefold // 3
    size = width // heads
    for cell in range(cells):
        attended = _Output(out, cell)
        for number in range(heads):
            head = _Head(number, size, tokens, width)
            q, k, v = (head.part(qkv, cell, part * width) for part in range(3))
            weights, total = _probabilities(head.own(q), k, size, keys)
            attended.add(head, _product(weights.astype(v.dtype), v, 1, 0) * (1 / total))


def _backward(qkv, gradient, out, *, heads: int, keys: int) -> None:
    """The scores are computed again, which costs less than to keep them."""
    cells, tokens, threefold = qkv.shape
    width = threefold // 3
    size = width // heads
    for cell in range(cells):
        outputs = [_Output(out, cell, part * width) for part in range(3)]
        for number in range(heads):
            head = _Head(number, size, tokens, width)
            q, k, v = (head.part(qkv, cell, part * width) for part in range(3))
            q, given = head.own(q), head.own(head.part(gradient, cell))
            weights, total = _probabilities(q, k, size, keys)
            weights = weights * (1 / total)
            of_weights = _product(given, v, 1, 1)
            of_scores = weights * (of_weights - (of_weights * weights).sum(axis=-1, keepdims=True))
            of_scores = (of_scores * size**-0.5).astype(q.dtype)
            outputs[0].add(head, _product(of_scores, k, 1, 0))
            outputs[1].add(head, _product(of_scores, q, 0, 0))
            outputs[2].add(head, _product(weights.astype(q.dtype), given, 0, 0))
