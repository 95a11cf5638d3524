"""A mixture of Gaussians that never comes down to one training cell: who is fitted is the crowd.

p(s | k) = sum_j w_kj N(s; m_j, S_j): components are shared by all combinations k of categories, whose weights differ.
Each m_j and S_j is an average over at least LEAST_CELLS training cells; S_j is drawn towards the covariance within all
components, w_kj towards the weights of all cells, so that a combination of two cells is no special case; one of six or
more has a component of its own, made up to LEAST_CELLS by its nearest cells. How many
components there are, and how far weights are drawn, is what gives training cells set aside the highest density.
EM finds other components from each start; the mixture is the mean of MEMBERS such densities, which is nearer to cells
that were not seen than any one (Ormoneit and Tresp 1998).

Expectation-maximisation (Dempster et al. 1977) with k-means++ (Arthur and Vassilvitskii 2007) to start from. The log
of a Gaussian is linear in 1, s and s s', so each step is one product of matrices with those features of the cells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse
from scipy.linalg import solve_triangular
from scipy.special import logsumexp

from .rare import FLOOR, LEAST_CELLS, cells_to_begin_with, rare_combinations, with_rare

# So many cells are looked at when choosing, and by each member when fitting what was chosen; not always the same.
MOST_CELLS = 12_000
MEMBERS, MEMBERS_TO_CHOOSE = 8, 3
# Where they are fewer of each combination, the combinations' weights are of so many of each.
CELLS_OF_A_COMBINATION = 100
# Tried: components (fewer where cells are few), and cells' worth of the common weights.
COMPONENTS = (1, 4, 12, 24, 36, 48, 72)
SMOOTHINGS = (0.1, 1.0, 4.0)
# Cells' worth of the common covariance for each dimension of a state. Four times less and twice as much were no better
# on the three data sets of benchmarks.fidelity.priors, and a choice by few cells is a matter of luck.
SHRINKAGE = 0.5
STEPS, LLOYD_STEPS = 40, 8
# Expectation-maximisation ends when a step gains less than this in nats for each cell.
LEAST_GAIN = 1e-3
# Columns that do not vary count as this wide.
LEAST_WIDTH = 1e-6


class Mixture(NamedTuple):
    """`log_weights` (combination, component), `means` (component, d) and lower Cholesky `factors` (component, d, d) of
    the covariances, all float32: nothing has an entry for each training cell."""

    log_weights: np.ndarray
    means: np.ndarray
    factors: np.ndarray


class _Chosen(NamedTuple):
    """How many components, and how far covariances and weights are drawn to the common ones, in cells' worth."""

    components: int
    shrinkage: float
    smoothing: float


class _Cells(NamedTuple):
    """Cells as EM sees them: states (cell, d), features (cell, 1 + d + d(d+1)/2), combination (cell,) of so many."""

    states: np.ndarray
    features: np.ndarray
    combination: np.ndarray
    combinations: int

    @classmethod
    def of(cls, states: np.ndarray, combination: np.ndarray, count: int) -> _Cells:
        upper = np.triu_indices(states.shape[1])
        squares = states[:, upper[0]] * states[:, upper[1]]
        return cls(states, np.hstack([np.ones((len(states), 1)), states, squares]), combination, count)

    def at(self, rows: np.ndarray) -> _Cells:
        return _Cells(self.states[rows], self.features[rows], self.combination[rows], self.combinations)


class _Fit(NamedTuple):
    """Float64: log weights (combination, component), means (component, d), covariances (component, d, d)."""

    log_weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray


def fit_mixture(
    states: np.ndarray, combinations: np.ndarray, count: int, *, seed: int, components: int | None = None
) -> Mixture:
    """The mixture for training cells' `states` (cell, d) and `combinations` (cell,), integers below `count`.

    With `components` each member has so many, or fewer where they would be of under LEAST_CELLS cells; else as many as
    suit the cells. The same cells, seed and kind of machine give the same mixture.
    """
    states, combinations = np.asarray(states), np.asarray(combinations)
    rng = np.random.default_rng(seed)
    centre, spread = states.mean(axis=0, dtype=np.float64), states.std(axis=0, dtype=np.float64)
    width = np.where(spread > LEAST_WIDTH * np.maximum(1, np.abs(centre)), spread, LEAST_WIDTH)

    def at(rows: np.ndarray) -> _Cells:
        scaled = np.where(width > LEAST_WIDTH, (states[rows].astype(np.float64) - centre) / width, 0.0)
        return _Cells.of(scaled, combinations[rows], count)

    def some(most: int) -> _Cells:
        return at(rng.permutation(len(states))[:most])

    chosen = _choose(some(MOST_CELLS), components, rng)
    # From one component EM has one way to go.
    members = MEMBERS if chosen.components > 1 else 1
    fits = [_expect_and_maximise(some(MOST_CELLS), chosen, rng) for _ in range(members)]
    if len(states) > MOST_CELLS < CELLS_OF_A_COMBINATION * count:
        fits = _weighed_by_more(fits, at, combinations, count, chosen, rng)
    fit = _Fit(
        np.hstack([fit.log_weights - np.log(members) for fit in fits]),
        np.concatenate([fit.means for fit in fits]),
        np.concatenate([fit.covariances for fit in fits]),
    )
    sizes = np.bincount(combinations, minlength=count)
    rare = rare_combinations(sizes, states.shape[1])
    if len(rare):
        own = at(np.flatnonzero(np.isin(combinations, rare)))
        states_of = [own.states[own.combination == k] for k in rare]
        fit = _Fit(*with_rare(fit, rare, states_of, some(MOST_CELLS).states, sizes / sizes.sum()))
    return Mixture(
        fit.log_weights.astype(np.float32),
        (fit.means * width + centre).astype(np.float32),
        np.linalg.cholesky(fit.covariances * np.outer(width, width)).astype(np.float32),
    )


def draw_mixture(mixture: Mixture, combination: jax.Array, keys: jax.Array) -> jax.Array:
    """A state for each cell, (cell, d) float32, by its `combination` (cell,) int32 and its own key of `keys` (cell,).

    To be called in a jitted program. A cell's state depends on nothing else, so not on the cells beside it.
    """
    log_weights, means, factors = (jnp.asarray(array) for array in mixture)

    def draw(code: jax.Array, key: jax.Array) -> jax.Array:
        of_component, of_noise = jax.random.split(key)
        component = jax.random.categorical(of_component, log_weights[code])
        noise = jax.random.normal(of_noise, means.shape[1:], jnp.float32)
        # No dot product: an accelerator would round it.
        return means[component] + jnp.sum(factors[component] * noise[None, :], axis=-1)

    return jax.vmap(draw)(combination, keys)


def log_prob(mixture: Mixture, states: np.ndarray, combination: np.ndarray) -> np.ndarray:
    """log p(s | k) of `states` (cell, d) given `combination` (cell,), in nats, (cell,) float64."""
    states = np.asarray(states, np.float64)
    log_weights, means, factors = (np.asarray(array, np.float64) for array in mixture)
    joint = log_weights[np.asarray(combination)]
    for j, (mean, factor) in enumerate(zip(means, factors, strict=True)):
        white = solve_triangular(factor, (states - mean).T, lower=True)
        joint[:, j] -= 0.5 * (white**2).sum(axis=0) + np.log(np.diag(factor)).sum()
    return logsumexp(joint, axis=1) - 0.5 * states.shape[1] * np.log(2 * np.pi)


def mixed_weights(mixture: Mixture, shares: Sequence[float] | np.ndarray) -> np.ndarray:
    """(component,) float32: log weights of cells of which these `shares` (combination,) are of each combination.

    For a combination that no training cell has: the shares of all cells, or of those of the same cell type.
    """
    shares = np.asarray(shares, np.float64)
    some = np.flatnonzero(shares)
    weighted = np.log(shares[some] / shares.sum())[:, None] + mixture.log_weights[some]
    return logsumexp(weighted, axis=0).astype(np.float32)


def joined_mixtures(mixture: Mixture, earlier: Mixture, kept: np.ndarray) -> Mixture:
    """`mixture` with combinations `kept` of an `earlier` one after its own, each with the components it had: those of
    one mixture have no weight, log 0, in the combinations of the other."""
    used = np.isfinite(earlier.log_weights[kept]).any(axis=0)
    weights = np.full((len(mixture.log_weights) + len(kept), len(mixture.means) + used.sum()), -np.inf, np.float32)
    weights[: len(mixture.log_weights), : len(mixture.means)] = mixture.log_weights
    weights[len(mixture.log_weights) :, len(mixture.means) :] = earlier.log_weights[kept][:, used]
    return Mixture(
        weights,
        np.concatenate([mixture.means, earlier.means[used]]),
        np.concatenate([mixture.factors, earlier.factors[used]]),
    )


def _choose(cells: _Cells, components: int | None, rng: np.random.Generator) -> _Chosen:
    """What gives a fifth of the cells, set aside, the highest mean density: one setting after another."""
    most = max(1, len(cells.states) // (2 * LEAST_CELLS))
    d = cells.states.shape[1]
    tried = [n for n in COMPONENTS if n <= most] if components is None else [components]
    best = _Chosen(tried[0], SHRINKAGE * d, SMOOTHINGS[1])
    if len(cells.states) < 2 * LEAST_CELLS:
        return best
    rows, fifth = np.arange(len(cells.states)), len(cells.states) // 5
    aside, rest = cells.at(rows[:fifth]), cells.at(rows[fifth:])
    seed = int(rng.integers(1 << 32))

    def density(chosen: _Chosen) -> float:
        rng = np.random.default_rng(seed)
        # One mixture alone would be drawn together further than is best for the mean of several.
        members = [_expect_and_maximise(rest, chosen, rng) for _ in range(MEMBERS_TO_CHOOSE)]
        return float(logsumexp(np.hstack([_log_joint(aside, fit) for fit in members]), axis=1).mean())

    best = max((best._replace(components=n) for n in tried), key=density)
    return max((best._replace(smoothing=tau) for tau in SMOOTHINGS), key=density)


def _expect_and_maximise(cells: _Cells, chosen: _Chosen, rng: np.random.Generator) -> _Fit:
    """EM from k-means++ until it gains little; the last step maximises, so that components have their cells."""
    near = _starts(cells, chosen.components, rng)
    responsibility = _enough_cells(np.where(near[:, None] == np.arange(near.max() + 1), 0.0, -50.0))[0]
    before = -np.inf
    for _ in range(STEPS):
        fit = _maximise(cells, responsibility, chosen)
        responsibility, gained = _enough_cells(_log_joint(cells, fit))
        if responsibility.shape[1] == len(fit.means) and gained - before < LEAST_GAIN:
            break
        before = gained
    return _maximise(cells, responsibility, chosen)


def _starts(cells: _Cells, components: int, rng: np.random.Generator) -> np.ndarray:
    """Which component each cell is in to begin with, (cell,), consecutive numbers from 0."""
    near = _nearest_centres(cells.states, components, rng)
    components, sizes = near.max() + 1, np.bincount(cells.combination, minlength=cells.combinations)
    # A combination rarer than a component is large is lost among its neighbours, unless one begins with its cells.
    rare = (sizes >= cells_to_begin_with(cells.states.shape[1])) & (sizes * components < len(near))
    apart = np.where(rare[cells.combination], components + cells.combination, near)
    return np.unique(apart, return_inverse=True)[1]


def _enough_cells(joint: np.ndarray) -> tuple[np.ndarray, float]:
    """(responsibilities (cell, component), mean log density) from log p(s, j); the smallest component is dissolved
    until each has LEAST_CELLS cells, so there may be fewer than there were."""
    while True:
        highest = joint.max(axis=1, keepdims=True)
        responsibility = np.exp(joint - highest)
        total = responsibility.sum(axis=1, keepdims=True)
        responsibility /= total
        sizes = responsibility.sum(axis=0)
        if len(sizes) == 1 or sizes.min() >= LEAST_CELLS:
            return responsibility, float((highest + np.log(total)).mean())
        joint = np.delete(joint, sizes.argmin(), axis=1)


def _maximise(cells: _Cells, responsibility: np.ndarray, chosen: _Chosen) -> _Fit:
    """The mixture that these responsibilities (cell, component) make most likely, drawn together as was chosen."""
    d = cells.states.shape[1]
    upper = np.triu_indices(d)
    moments = responsibility.T @ cells.features
    sizes = moments[:, 0]
    means = moments[:, 1 : d + 1] / sizes[:, None]
    scatter = np.empty((len(sizes), d, d))
    scatter[:, upper[0], upper[1]] = scatter[:, upper[1], upper[0]] = moments[:, d + 1 :]
    scatter -= sizes[:, None, None] * means[:, :, None] * means[:, None, :]
    common = scatter.sum(axis=0)
    # Few cells say little of how columns go together.
    common = (common + d * np.diag(np.diag(common)) / len(cells.states)) / (len(cells.states) + d)
    nu = chosen.shrinkage
    covariances = (scatter + nu * common) / (sizes + nu)[:, None, None] + FLOOR * np.eye(d)
    return _Fit(_log_weights(_totals(cells, responsibility), sizes / sizes.sum(), chosen), means, covariances)


def _totals(cells: _Cells, responsibility: np.ndarray) -> np.ndarray:
    """Responsibilities summed over the cells of each combination, (combination, component)."""
    place = cells.combination, np.arange(len(cells.combination))
    member = sparse.csr_matrix((np.ones(len(place[1])), place), (cells.combinations, len(place[1])))
    return member @ responsibility


def _log_weights(totals: np.ndarray, common: np.ndarray, chosen: _Chosen) -> np.ndarray:
    """Of `totals` (combination, component), drawn to the `common` weights (component,)."""
    weights = totals + chosen.smoothing * common
    return np.log(weights / weights.sum(axis=1, keepdims=True))


def _weighed_by_more(
    fits: Sequence[_Fit],
    at: Callable[[np.ndarray], _Cells],
    combinations: np.ndarray,
    count: int,
    chosen: _Chosen,
    rng: np.random.Generator,
) -> list[_Fit]:
    """The same components, and the weights of one more step of EM with up to CELLS_OF_A_COMBINATION cells of each
    combination: those that components are fitted to leave too few to many."""
    order = rng.permutation(len(combinations))
    order = order[np.argsort(combinations[order], kind="stable")]
    sizes = np.bincount(combinations, minlength=count)
    within = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    rows = order[within < CELLS_OF_A_COMBINATION]
    totals = [np.zeros_like(fit.log_weights) for fit in fits]
    for first in range(0, len(rows), MOST_CELLS):
        cells = at(rows[first : first + MOST_CELLS])
        for total, fit in zip(totals, fits, strict=True):
            joint = _log_joint(cells, fit)
            total += _totals(cells, np.exp(joint - logsumexp(joint, axis=1, keepdims=True)))
    of_all = sizes / np.maximum(np.minimum(sizes, CELLS_OF_A_COMBINATION), 1) / sizes.sum()
    return [
        fit._replace(log_weights=_log_weights(total, of_all @ total, chosen))
        for fit, total in zip(fits, totals, strict=True)
    ]


def _log_joint(cells: _Cells, fit: _Fit) -> np.ndarray:
    """log p(s, j | k), (cell, component)."""
    d = cells.states.shape[1]
    rows, columns = np.triu_indices(d)
    precisions = np.linalg.inv(fit.covariances)
    linear = np.einsum("jab,jb->ja", precisions, fit.means)
    constant = -0.5 * (np.einsum("ja,ja->j", linear, fit.means) + np.linalg.slogdet(fit.covariances)[1])
    quadratic = precisions[:, rows, columns] * np.where(rows == columns, -0.5, -1.0)
    table: Any = np.hstack([(constant - 0.5 * d * np.log(2 * np.pi))[:, None], linear, quadratic])
    return cells.features @ table.T + fit.log_weights[cells.combination]


def _nearest_centres(states: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """(cell,): which of at most `count` centres is nearest, by k-means from k-means++; consecutive numbers from 0."""
    centres = states[[rng.integers(len(states))]]
    distance = ((states - centres[0]) ** 2).sum(axis=1)
    while len(centres) < count and distance.max() > 0:
        chosen = np.searchsorted(np.cumsum(distance), rng.random() * distance.sum())
        centres = np.vstack([centres, states[min(chosen, len(states) - 1)]])
        distance = np.minimum(distance, ((states - centres[-1]) ** 2).sum(axis=1))
    for _ in range(LLOYD_STEPS):
        near = ((centres**2).sum(axis=1) - 2 * states @ centres.T).argmin(axis=1)
        centres = np.stack([states[near == j].mean(axis=0) for j in np.unique(near)])
    return np.unique(near, return_inverse=True)[1]
