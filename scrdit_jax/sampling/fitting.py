"""A sub-sequence fitted to a model: the path of least error along one fine trajectory of its own.

Exact dynamic programming over a cost that decomposes (Watson et al. 2021), where the cost is the solver's and not the
ELBO's: what a corrected step of UniPC misses of where the fine trajectory goes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .solvers import NoiseLevels
from .solvers.dpmpp_2m import dpm_solver_2m
from .solvers.unipc import unipc_weights


class Trajectory(NamedTuple):
    """A fine run: `noisy` (K + 1, values) at every level and at t = 0, and `clean` (K, values) as predicted there."""

    levels: NoiseLevels
    noisy: np.ndarray
    clean: np.ndarray


def trace(
    predict_clean: Callable[[np.ndarray, int], np.ndarray], start: np.ndarray, levels: NoiseLevels, keep: np.ndarray
) -> Trajectory:
    """Carry `start` (cell, gene) along `levels` by DPM-Solver++(2M); genes `keep` of what is met.

    `predict_clean(x, i)` is asked at row i of the levels.
    """
    table = dpm_solver_2m(levels)
    x, previous = start, np.zeros_like(start)
    noisy, cleans = [x[:, keep].ravel()], []
    for i in range(len(table.timestep)):
        clean = predict_clean(x, i)
        x, previous = table.a[i] * x + table.b[i] * clean + table.c[i] * previous, clean
        noisy.append(x[:, keep].ravel())
        cleans.append(clean[:, keep].ravel())
    return Trajectory(levels, np.stack(noisy), np.stack(cleans))


def step_errors(trajectory: Trajectory) -> np.ndarray:
    """costs[r + 1, t, s]: mean squared error of UniPC's step from level t to s > t, with history at level r < t.

    In units of clean cells, so divided by abar where the step leads; (K + 1, K, K + 1), the last s being t = 0, and
    r = -1 the first step, which has no history. Infinite where there is no such step.
    """
    levels, x, m = trajectory
    count = len(m)
    alpha_bars = np.append(levels.alpha_bars, levels.next_alpha_bars[-1])
    with np.errstate(divide="ignore"):
        log_levels = 0.5 * (np.log(alpha_bars) - np.log1p(-alpha_bars))
    # Every error is a sum of five of these vectors, so their products are all that is needed.
    vectors = np.concatenate([x, m])
    products = vectors @ vectors.T / vectors.shape[1]
    costs = np.full((count + 1, count, count + 1), np.inf)
    for t in range(count):
        # A step to t = 0 is not corrected, and lands on what was predicted at t.
        costs[min(t, 1) : t + 1, t, count] = np.mean((m[t] - x[count]) ** 2)
        r, s = np.arange(0 if t else -1, max(t, 0))[:, None], np.arange(t + 1, count)[None]
        before = np.where(r < 0, np.nan, log_levels[t] - log_levels[r])
        h = np.broadcast_to(log_levels[s] - log_levels[t], np.broadcast_shapes(r.shape, s.shape))
        late, now, early = np.sqrt(alpha_bars[s]) * unipc_weights(h, np.broadcast_to(before, h.shape))
        ratio = np.broadcast_to(np.sqrt((1 - alpha_bars[s]) / (1 - alpha_bars[t])), h.shape)
        parts = np.stack([ratio, -np.ones_like(h), late, now, early], axis=-1)
        rows = [np.full_like(h, t), s, count + 1 + s, np.full_like(h, count + 1 + t), count + 1 + np.maximum(r, 0)]
        positions = np.stack([np.broadcast_to(row, h.shape) for row in rows], axis=-1).astype(int)
        squares = np.einsum("rsi,rsij,rsj->rs", parts, products[positions[..., None], positions[..., None, :]], parts)
        costs[min(t, 1) : t + 1, t, t + 1 : count] = np.maximum(squares, 0)
    return costs / alpha_bars


def cheapest_path(costs: np.ndarray, steps: int) -> np.ndarray:
    """The `steps` levels, from the first on, whose steps down to t = 0 cost least; (steps,) of indices.

    Exact: what is still to come depends on the last two levels alone, so those are the state.
    """
    count = costs.shape[1]
    reached = np.full((count + 1, count), np.inf)  # by (level before + 1, level)
    reached[0, 0] = 0.0
    choices = []
    for _ in range(steps - 1):
        total = reached[:, :, None] + costs[:, :, :count]
        choices.append(np.argmin(total, axis=0))
        reached = np.concatenate([np.full((1, count), np.inf), np.min(total, axis=0)])
    before, level = map(int, np.unravel_index(np.argmin(reached + costs[:, :, count]), reached.shape))
    path = [level]
    for choice in reversed(choices):
        before, level = int(choice[before - 1, level]), before - 1
        path.append(level)
    return np.array(path[::-1])
