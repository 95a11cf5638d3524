"""Which prior a model has, and what of it a request needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import numpy as np
from threadpoolctl import threadpool_limits

from .bootstrap import Bootstrap, draw_bootstrap, fit_bootstrap, joined_bootstraps
from .mixture import Mixture, draw_mixture, fit_mixture, joined_mixtures, mixed_weights

Prior = Mixture | Bootstrap


def fit_prior(name: str, states: np.ndarray, combinations: np.ndarray, count: int, *, seed: int) -> Prior:
    """The prior called `name` (see config.CONDITIONS) of training cells' `states` (cell, column), each of one of
    `count` `combinations` (cell,) of categories."""
    if name == "bootstrap":
        return fit_bootstrap(states, combinations, count)
    # Many small products: threads cost more by waiting than they bring, and differ in the last bits.
    with threadpool_limits(1):
        return fit_mixture(states, combinations, count, seed=seed)


def joined(prior: Prior, earlier: Prior, kept: np.ndarray) -> Prior:
    """`prior` with combinations of these numbers of an `earlier` prior of the same kind after its own."""
    if isinstance(prior, Mixture) and isinstance(earlier, Mixture):
        return joined_mixtures(prior, earlier, kept)
    if isinstance(prior, Bootstrap) and isinstance(earlier, Bootstrap):
        return joined_bootstraps(prior, earlier, kept)
    raise TypeError(f"a {type(prior).__name__} and a {type(earlier).__name__} are not of the same kind")


def given(
    prior: Prior, alike: Sequence[np.ndarray], cells: np.ndarray, prior_rows: np.ndarray
) -> tuple[Prior, np.ndarray]:
    """(the prior for a request, which of its rows is for new cells r, (r,) int32): they are like the training cells of
    combinations `alike[r]`, in proportion to those combinations' numbers of training `cells` (combination,).

    `prior_rows` (combination,) are the combinations' rows in `prior`. What is alike has one row; there are a power of
    two of them, so that requests of similar size share a program.
    """
    places: dict[bytes, int] = {}
    kept: list[np.ndarray] = []
    rows = np.empty(len(alike), np.int32)
    for r, numbers in enumerate(alike):
        own = prior_rows[numbers] if len(numbers) == 1 else np.unique(prior_rows[numbers])
        key = (own if len(own) == 1 else numbers).astype(np.int64).tobytes()
        if key not in places:
            places[key] = len(kept)
            kept.append(numbers)
        rows[r] = places[key]
    kept += kept[-1:] * ((1 << (len(kept) - 1).bit_length()) - len(kept))
    if isinstance(prior, Mixture):
        shares = (np.bincount(prior_rows[n], cells[n] / cells[n].sum(), len(prior.log_weights)) for n in kept)
        return prior._replace(log_weights=np.stack([mixed_weights(prior, of_row) for of_row in shares])), rows
    of_combination = np.split(prior.states, np.cumsum(prior.cells)[:-1])
    of_rows = [np.concatenate([of_combination[k] for k in numbers]) for numbers in kept]
    return Bootstrap(np.concatenate(of_rows), np.array([len(states) for states in of_rows], np.int32)), rows


def draw_states(prior: Prior, rows: jax.Array, keys: jax.Array) -> jax.Array:
    """(cell, column) float32: a state for each cell, of its row (cell,) of a `given` prior, by its key (cell,)."""
    if isinstance(prior, Mixture):
        return draw_mixture(prior, rows, keys)
    return draw_bootstrap(prior, rows, keys)


def prior_from_arrays(arrays: Mapping[str, np.ndarray]) -> Prior:
    """The inverse of `_asdict`."""
    kind = Bootstrap if "states" in arrays else Mixture
    return kind(**{name: np.asarray(arrays[name]) for name in kind._fields})
