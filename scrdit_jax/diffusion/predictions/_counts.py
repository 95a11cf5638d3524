"""Zero-inflated negative binomial counts, as the weights of few numbers: each of 1 to 15, then intervals to 2^16.

The intervals are a third of an octave wide up to 256, and wider above. The probability of one is that of its counts,
summed by three Gauss-Legendre nodes of log c: against the exact sums, all intervals together are wrong by 3e-4 at most
for means up to 40, by 0.01 up to 300 and, where the dispersion is greatest, by 0.05 of means in the thousands. That of
zero is exact, and all sum to 1: there are no counts above 2^16. Of numbers of 16 and more, log-gamma is Stirling's
series, exact in float32; of those below, products are taken.
"""

from __future__ import annotations

import math
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ._zero_inflation import log_sum

FIRST = 16
# The least count of each interval, and one more than the greatest of the last.
INTERVALS = (16, 20, 25, 32, 40, 51, 64, 81, 102, 128, 161, 203, 256, 512, 1024, 4096, 65536)
LEAST_LOG_DISPERSION, LARGEST_LOG_DISPERSION = -4.0, 4.0
LEAST_LOG_MEAN, LARGEST_LOG_MEAN = -14.0, 11.0
# The nodes of each interval: their counts, and the logs of their weights in sums over counts.
_PLACES, _WEIGHTS = np.polynomial.legendre.leggauss(3)
_ENDS = np.log(np.array(INTERVALS) - 0.5)
_NODES = np.exp(_ENDS[:-1, None] + np.diff(_ENDS)[:, None] * (_PLACES + 1) / 2)
_LOG_WEIGHTS = np.log(_NODES * np.diff(_ENDS)[:, None] * _WEIGHTS / 2)
_INTERVALS = tuple(zip(_NODES.tolist(), _LOG_WEIGHTS.tolist(), strict=True))


class CountPrior(NamedTuple):
    """Of every gene the log-odds of a count above zero and, if so, the log weights of the support (support, cell,
    gene); what `log_weight` needs, (cell, gene) each: the dispersion theta, the log of each count's factor mean / (mean
    + theta), and the log of the odds of a count above zero that is not switched off."""

    log_odds: Any
    log_weights: Any
    dispersion: Any
    log_factor: Any
    log_present: Any

    @classmethod
    def of(cls, not_inflated, log_mean, log_dispersion) -> CountPrior:
        """Of negative binomial counts; `not_inflated` are the log-odds of not being zero whatever the mean."""
        log_mean = jnp.clip(log_mean, LEAST_LOG_MEAN, LARGEST_LOG_MEAN)
        log_dispersion = jnp.clip(log_dispersion, LEAST_LOG_DISPERSION, LARGEST_LOG_DISPERSION)
        dispersion, log_factor = jnp.exp(log_dispersion), -jax.nn.softplus(log_dispersion - log_mean)
        # The log of the probability of zero is -`none`.
        none = dispersion * jax.nn.softplus(log_mean - log_dispersion)
        log_zero = jnp.logaddexp(jax.nn.log_sigmoid(-not_inflated), jax.nn.log_sigmoid(not_inflated) - none)
        present = jnp.log(-jnp.expm1(-none))
        log_odds = jax.nn.log_sigmoid(not_inflated) + present - log_zero
        rising = _rising(dispersion)
        singles = jnp.stack([c * log_factor + rising[c] for c in range(1, FIRST)])
        beyond = rising[FIRST] + math.lgamma(FIRST + 1) - _log_gamma(FIRST + dispersion)
        # An array for each node, and not one for all: XLA vectorises what is no reduction.
        masses = [_log_mass(*interval, dispersion, log_factor) for interval in _INTERVALS]
        log_weights = jnp.concatenate([singles, jnp.stack(masses) + beyond[None]])
        log_weights = log_weights - log_sum(log_weights)[None]
        return cls(log_odds, log_weights, dispersion, log_factor, present + none)

    def log_weight(self, counts):
        """The log of the probability of each count among those of 1 or more, exact; (cell, gene)."""
        rising = _rising(self.dispersion)
        small = rising[1]
        for c in range(2, FIRST):
            small = jnp.where(counts >= c, rising[c], small)
        # Where it is not used, of a count that it holds for, for gradients.
        counted = jnp.maximum(counts, FIRST)
        large = _ratio(counted, self.dispersion, jnp.log1p(self.dispersion / counted))
        large = large + rising[FIRST] + math.lgamma(FIRST + 1) - _log_gamma(FIRST + self.dispersion)
        return counts * self.log_factor + jnp.where(counts < FIRST, small, large) - self.log_present


def on_log_scale(log_size) -> tuple[Any, Any]:
    """log1p(c / f) of the single counts of the support, (count, cell), and of the bounds of its intervals, (interval +
    1, cell), half a count below the least of each; `log_size` (cell,) is log f."""
    counts = np.arange(1, FIRST), np.array(INTERVALS) - 0.5
    singles, bounds = (jnp.log1p(jnp.asarray(c, jnp.float32)[:, None] * jnp.exp(-log_size)[None]) for c in counts)
    return singles, bounds


def _rising(dispersion) -> list[Any]:
    """log of theta (theta + 1) ... (theta + c - 1) / c!, for each c from 0 to FIRST."""
    found = [jnp.zeros_like(dispersion)]
    for j in range(FIRST):
        found.append(found[-1] + jnp.log((dispersion + j) / (j + 1)))
    return found


def _ratio(counts, dispersion, apart):
    """log Gamma(c + theta) - log c!, for counts of FIRST or more and log(1 + theta / c): Stirling's series of both,
    less what they share."""
    leading = (dispersion - 1) * jnp.log(counts) + (counts + dispersion - 0.5) * apart - dispersion
    return leading + 1 / (12 * (counts + dispersion)) - 1 / (12 * counts)


def _log_gamma(x):
    """For x of FIRST or more."""
    return (x - 0.5) * jnp.log(x) - x + 0.5 * math.log(2 * math.pi) + 1 / (12 * x)


def _log_mass(nodes, log_weights, dispersion, log_factor):
    """The log of the sum over an interval's nodes of Gamma(c + theta) / c! factor^c."""
    # log1p would keep digits that do not matter beside the nodes' own error, and takes CPUs ten times as long.
    apart = (jnp.log(1 + dispersion / c) for c in nodes)
    terms = [c * log_factor + _ratio(c, dispersion, x) for c, x in zip(nodes, apart, strict=True)]
    terms = [term + weight for term, weight in zip(terms, log_weights, strict=True)]
    greatest = jax.lax.stop_gradient(reduce(jnp.maximum, terms))
    return greatest + jnp.log(sum(jnp.exp(term - greatest) for term in terms))
