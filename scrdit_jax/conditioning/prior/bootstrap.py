"""States taken from training cells: what a model was given before it had a learnt prior, kept for comparison.

It holds the states of single cells, so a model with it gives them away, and no more states are ever drawn than there
are training cells.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Bootstrap(NamedTuple):
    """`states` (cell, column) float32 of the training cells, combination of categories after combination, of each as
    many as `cells` (combination,) int32 says."""

    states: np.ndarray
    cells: np.ndarray


def fit_bootstrap(states: np.ndarray, combinations: np.ndarray, count: int) -> Bootstrap:
    """Of training cells' states (cell, column) and the number (cell,) of each one's combination, of so many."""
    order = np.argsort(combinations, kind="stable")
    return Bootstrap(states[order].astype(np.float32), np.bincount(combinations, minlength=count).astype(np.int32))


def joined_bootstraps(bootstrap: Bootstrap, earlier: Bootstrap, kept: np.ndarray) -> Bootstrap:
    """`bootstrap` with combinations `kept` of an `earlier` one after its own."""
    of_combination = np.split(earlier.states, np.cumsum(earlier.cells)[:-1])
    states = np.concatenate([bootstrap.states, *(of_combination[k] for k in kept)])
    return Bootstrap(states, np.concatenate([bootstrap.cells, earlier.cells[kept]]))


def draw_bootstrap(bootstrap: Bootstrap, combination: jax.Array, keys: jax.Array) -> jax.Array:
    """(cell, column): for each cell the state of a training cell of its `combination` (cell,), by its key (cell,)."""
    ends, cells = jnp.cumsum(jnp.asarray(bootstrap.cells))[combination], jnp.asarray(bootstrap.cells)[combination]
    uniform = jax.vmap(jax.random.uniform)(keys)
    place = jnp.minimum((uniform * cells).astype(jnp.int32), cells - 1)
    return jnp.asarray(bootstrap.states)[ends - cells + place]
