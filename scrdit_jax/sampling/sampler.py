"""The one loop. It knows a function that predicts clean cells, a table of coefficients, and a key per cell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from .solvers import Coefficients

DRAW = 1

PredictClean = Callable[[jax.Array, jax.Array, Any], jax.Array]


def cell_keys(root: jax.Array, cell_indices: jax.Array) -> jax.Array:
    """One key per cell from its global index (cell,): a cell is the same whatever batch it is made in."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(root, cell_indices)


def draw_keys(keys: jax.Array, timestep: jax.Array) -> jax.Array:
    """One key per cell (cell,) for drawing clean cells at a timestep, apart from that of its `cell_noise`."""
    return jax.vmap(lambda key: jax.random.fold_in(jax.random.fold_in(key, timestep), DRAW))(keys)


def cell_noise(keys: jax.Array, timestep: jax.Array | int, genes: int) -> jax.Array:
    """Standard normal (cell, gene) that depends on each cell's key and the timestep alone; timestep 0 is the start."""
    return jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, timestep), (genes,)))(keys)


class Integrated(NamedTuple):
    """Cells at t = 0 (cell, gene), float32, and after how many evaluations each was still finite (cell,), int32."""

    cells: jax.Array
    finite_steps: jax.Array


def integrate(
    predict_clean: PredictClean,
    keys: jax.Array,
    coefficients: Coefficients,
    conditioning: Any,
    *,
    genes: int,
    noise: bool = True,
) -> Integrated:
    """Run x' = a x + b m0 + c m1 + d m2 + s z from pure noise to t = 0; without `noise`, s is 0 throughout.

    `predict_clean(x, alpha_bar, row)` gets the noisy cells, the level as (1, 1), and row i of the `conditioning`
    pytree, whose leaves have a leading axis of one entry per evaluation. Nothing along the way is kept. A table with
    other numbers and the same length runs without compiling again.
    """
    start = cell_noise(keys, 0, genes)

    def body(carry, step):
        x, previous, earlier, finite_steps = carry
        row, conditions = step
        clean = predict_clean(x, row.alpha_bar.reshape(1, 1), conditions)
        following = row.a * x + row.b * clean + row.c * previous + row.d * earlier
        if noise:
            following = following + row.s * cell_noise(keys, row.timestep, genes)
        # Counted cell by cell: what is not finite stays so, and a batch that is shared out needs no exchange.
        finite_steps = finite_steps + jnp.isfinite(following).all(axis=-1)
        return (following, clean, previous, finite_steps), None

    timestep: Any = jnp.asarray(coefficients.timestep)
    columns: list[Any] = [jnp.asarray(column, jnp.float32) for column in coefficients[1:]]
    rows = Coefficients(timestep, *columns)
    none = jnp.zeros_like(start)
    first = (start, none, none, jnp.zeros(len(start), jnp.int32))
    (cells, _, _, finite_steps), _ = lax.scan(body, first, (rows, conditioning))
    return Integrated(cells, finite_steps)
