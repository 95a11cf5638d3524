"""Whole numbers by inversion: of each uniform number one count, so that counts with one number move together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import stats

# Sums of probabilities are made term by term where so many terms are enough, and by SciPy elsewhere.
MOST_TERMS, LEAST_LOG_ZERO = 200, -30.0


def binomial(uniform: np.ndarray, trials: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """The least k with P(K <= k) >= uniform, K binomial; all of one shape, 0 < probability < 1; float64."""
    odds = probability / (1 - probability)
    log_zero = trials * np.log1p(-probability)
    return _inverted(uniform, log_zero, trials * odds, -odds, lambda at: stats.binom.ppf(
        uniform[at], trials[at], probability[at]))  # fmt: skip


def negative_binomial(uniform: np.ndarray, shape: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """The same of Poisson counts whose rate is gamma with this `shape` and `mean`, which are above zero."""
    share = mean / (mean + shape)
    log_zero = -shape * np.log1p(mean / shape)
    return _inverted(uniform, log_zero, shape * share, share, lambda at: stats.nbinom.ppf(
        uniform[at], shape[at], 1 - share[at]))  # fmt: skip


def poisson(uniform: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """The same of Poisson counts of this `mean`, 0 or more."""
    return _inverted(uniform, -mean, mean, np.zeros_like(mean), lambda at: stats.poisson.ppf(uniform[at], mean[at]))


def _inverted(
    uniform: np.ndarray, log_zero: np.ndarray, a: np.ndarray, b: np.ndarray, exact: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Where p(0) = exp(log_zero) and p(k + 1) / p(k) = (a + b k) / (k + 1) (Katz 1965; Panjer 1981); 1-D arrays.

    `exact` gives the quantiles of chosen elements, where there are too many terms.
    """
    found = np.zeros(uniform.shape)
    large = log_zero < LEAST_LOG_ZERO
    mass = np.exp(np.maximum(log_zero, LEAST_LOG_ZERO))
    left = np.flatnonzero((uniform > mass) & ~large)
    mass, reached = mass[left], mass[left].copy()
    for k in range(MOST_TERMS):
        if not len(left):
            break
        mass = mass * np.maximum(a[left] + b[left] * k, 0) / (k + 1)
        reached += mass
        found[left] = k + 1
        on = (uniform[left] > reached) & (mass > 0)
        left, mass, reached = left[on], mass[on], reached[on]
    rest = np.concatenate([np.flatnonzero(large), left])
    if len(rest):
        found[rest] = exact(rest)
    return found
