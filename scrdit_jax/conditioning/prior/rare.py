"""Components of a mixture for combinations of categories that few training cells have."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# A component is an average over at least so many cells; where there are fewer there is one component.
LEAST_CELLS = 12
# One begins with the cells of a rare combination that has so many for each dimension of a state. With half as many the
# lung set's states were learnt worse, which have 25 dimensions; with this PBMC 3k's and the head and neck set's better.
CELLS_A_DIMENSION = 2
# What has fewer, and LEAST_CELLS / 2, gets one when all is fitted, with this share of its weight. Cells of three data
# sets set aside from the training cells, in sixteen splits: those of rare combinations had higher densities with both
# kinds of components in each split, by 0.02 to 1.4 nats. There are no more than:
RARE_SHARE, MOST_RARE = 2 / 3, 100
# Share of a column's variance that is added to every component's.
FLOOR = 1e-3


def cells_to_begin_with(d: int) -> int:
    """How many a combination must have for a component to begin with them, in states of `d` columns."""
    return max(LEAST_CELLS, CELLS_A_DIMENSION * d)


def rare_combinations(sizes: np.ndarray, d: int) -> np.ndarray:
    """Which combinations, of `sizes` (combination,) cells, have fewer than `cells_to_begin_with` and LEAST_CELLS / 2 or
    more; ascending. None where there is only one."""
    rare = np.flatnonzero((sizes < cells_to_begin_with(d)) & (2 * sizes >= LEAST_CELLS))
    return np.sort(rare[np.argsort(-sizes[rare], kind="stable")[:MOST_RARE]]) if len(sizes) > 1 else rare[:0]


# Log weights (combination, component), means (component, d), covariances (component, d, d).
Components = tuple[np.ndarray, np.ndarray, np.ndarray]


def with_rare(
    components: Components, rare: np.ndarray, states: Sequence[np.ndarray], others: np.ndarray, shares: np.ndarray
) -> Components:
    """The mixture with a component more for each combination of `rare` (r,), with RARE_SHARE of its weight.

    It is of the combination's cells, `states[r]` (cell, d), and, where these are under LEAST_CELLS, of so many of
    `others` (cell, d) as are missing, the nearest; its covariance is drawn towards what is common to all components, by
    LEAST_CELLS cells' worth. `shares` (combination,) of all cells have each combination.
    """
    log_weights, means, covariances = components
    weights = shares @ np.exp(log_weights)
    common = np.einsum("j,jab->ab", weights / weights.sum(), covariances)
    found = [_with_nearest(each, others) for each in states]
    own_means = np.stack([each.mean(axis=0) for each in found])
    own = [
        ((each - mean).T @ (each - mean) + LEAST_CELLS * common) / (len(each) + LEAST_CELLS)
        for each, mean in zip(found, own_means, strict=True)
    ]
    rest = log_weights.copy()
    rest[rare] += np.log(1 - RARE_SHARE)
    weight = np.where(np.arange(len(rest))[:, None] == rare, np.log(RARE_SHARE), -np.inf)
    return (
        np.hstack([rest, weight]),
        np.vstack([means, own_means]),
        np.concatenate([covariances, np.stack(own) + FLOOR * np.eye(means.shape[1])]),
    )


def _with_nearest(states: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The cells of a combination and, up to LEAST_CELLS, the nearest of `others`, some of which may be the same."""
    missing = max(0, LEAST_CELLS - len(states))
    distance = ((others - states.mean(axis=0)) ** 2).sum(axis=1)
    nearest = others[np.argsort(distance, kind="stable")[: len(states) + missing]]
    strange = nearest[~(nearest[:, None] == states[None]).all(axis=2).any(axis=1)]
    return np.vstack([states, strange[:missing]])
