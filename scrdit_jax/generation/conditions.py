"""The conditions of new cells, in the jitted sampler: labels by their quota, states by the prior and the cell's key."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..checkpoint import Model
from ..conditioning.prior import draw_states
from ..conditioning.state import LIBRARY_SIZE
from .request import drops_columns

# What a cell's key is folded with for its state, for the noise on it, and for its row of conditions; timesteps are
# numbers from 0 on.
STATE, NOISE, ROW = 2**31 + 1, 2**31 + 2, 2**31 + 3


class States(NamedTuple):
    """How a program makes states, static under `jit`: the first `conditioned` of their numbers go to the network, with
    normal noise of this deviation. `library_size` is (place, center, scale) of the logarithm of that, None where cells
    have none, and `target_sum` what cells were scaled to before log1p, None where they were not."""

    conditioned: int
    noise: float
    library_size: tuple[int, float, float] | None
    target_sum: float | None

    @property
    def whole_counts(self) -> bool:
        """Whether cells are made log1p of whole counts: where the network is given the library size of counts."""
        given = self.library_size is not None and self.library_size[0] < self.conditioned
        return given and self.target_sum is not None


class NewConditions(NamedTuple):
    """What rows of conditions are, on the devices: `codes` (row, variable) int32, None without variables, the prior of
    states given them, and which of its rows is whose, (row,) int32; both None without states. `withheld` (row,) bool:
    of whose states the network is given none; None: it is given all."""

    codes: Any = None
    prior: Any = None
    prior_rows: Any = None
    withheld: Any = None


class DrawnConditions(NamedTuple):
    """Of a batch's cells: `labels` (cell, variable) int32 and noisy `states` (cell, number) for the network, None for
    none; `library_size` (cell,) float32, NaN where cells have none, and `log_sizes` (cell,), log(library size / target
    sum), None where they have none."""

    labels: jax.Array | None
    states: jax.Array | None
    library_size: jax.Array
    log_sizes: jax.Array | None


def states_of(model: Model) -> States:
    """How the states of a model's new cells are made."""
    columns = () if model.conditions is None or model.conditions.prior is None else model.conditions.space.columns
    library = None
    for place, column in enumerate(columns):
        if column.source == LIBRARY_SIZE:
            library = (place, column.center, column.scale)
    known = model.metadata.normalization
    target_sum = known.target_sum if known.method == "log1p" else None
    return States(sum(c.conditioned for c in columns), model.config.training.state_noise, library, target_sum)


def new_conditions(model: Model, codes: np.ndarray) -> NewConditions:
    """For cells of the rows of `codes` (row, variable); without columns, cells have states alone."""
    table = model.conditions
    if table is None:
        return NewConditions(codes if codes.shape[1] else None)
    # A power of two, so that requests of similar size share a program.
    padded = codes[np.minimum(np.arange(1 << (len(codes) - 1).bit_length()), len(codes) - 1)]
    prior, prior_rows = table.prior_for(padded) or (None, None)
    unseen = np.array([table.seen(row) is None for row in padded.tolist()])
    # The states of cells that are like these contradict what is new in the combination, and a network that has learnt
    # to predict without states does better so.
    withheld = unseen if prior is not None and unseen.any() and drops_columns(model) else None
    return NewConditions(padded if codes.shape[1] else None, prior, prior_rows, withheld)


def draw_conditions(known: NewConditions, rows: jax.Array, keys: jax.Array, states: States) -> DrawnConditions:
    """The conditions of cells of these `rows` (cell,), by their keys (cell,) alone."""
    labels = None if known.codes is None else jnp.asarray(known.codes)[rows]
    library = jnp.full(rows.shape, jnp.nan, jnp.float32)
    if known.prior is None:
        return DrawnConditions(labels, None, library, None)
    drawn = draw_states(known.prior, jnp.asarray(known.prior_rows)[rows], _folded(keys, STATE))
    log_sizes = None
    if states.library_size is not None:
        place, center, scale = states.library_size
        log_library = drawn[:, place] * scale + center
        library = jnp.exp(log_library)
        log_sizes = log_library - np.float32(np.log(states.target_sum)) if states.target_sum else None
    given = None
    if states.conditioned:
        given = drawn[:, : states.conditioned]
        normal = jax.vmap(lambda key: jax.random.normal(key, (states.conditioned,)))(_folded(keys, NOISE))
        given = given + states.noise * normal
        if known.withheld is not None:
            given = jnp.where(jnp.asarray(known.withheld)[rows][:, None], jnp.nan, given)
    return DrawnConditions(labels, given, library, log_sizes)


def drawn_as_training_cells(model: Model, keys: jax.Array) -> DrawnConditions:
    """Conditions for cells of these `keys` (cell,), in the training cells' proportions."""
    codes = np.zeros((1, 0), np.int32) if model.conditions is None else model.conditions.codes
    cells = np.ones(1) if model.conditions is None else model.conditions.cells
    uniform = jax.vmap(jax.random.uniform)(_folded(keys, ROW))
    rows = jnp.searchsorted(jnp.asarray(np.cumsum(cells) / cells.sum(), jnp.float32), uniform, method="compare_all")
    rows = jnp.minimum(rows, len(codes) - 1).astype(jnp.int32)
    return draw_conditions(new_conditions(model, codes), rows, keys, states_of(model))


def _folded(keys: jax.Array, number: int) -> jax.Array:
    return jax.vmap(lambda key: jax.random.fold_in(key, np.uint32(number)))(keys)
