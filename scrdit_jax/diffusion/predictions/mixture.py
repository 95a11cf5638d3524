"""The network predicts how each clean gene is distributed: zero, or a value of one of a few Gaussians."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ._zero_inflation import ZeroInflation, log_sum, random_numbers, total

# Where the outermost components begin, in deviations from the mean of the gene's expressed values.
APART = 0.8


class MixturePosterior(NamedTuple):
    """A clean gene given its noisy value: log-odds (cell, gene) that it is expressed and, if so, each component's log
    weight, mean and variance, (component, cell, gene)."""

    log_odds: jax.Array
    log_weights: jax.Array
    mean: jax.Array
    variance: jax.Array


@dataclass(frozen=True)
class Mixture(ZeroInflation):
    """For each gene of each cell: the log-odds that it is expressed and, if so, a mixture of `components` Gaussians.

    An expressed gene may then be skewed, or have two modes (off in one state of the cell and on in another), which one
    Gaussian cannot say (mixture density networks, Bishop 1994). The outputs are in this order: log-odds, the logits of
    the weights, the means and the log-deviations, both on the log-expression scale. Guidance moves all but the last.
    """

    components = 3
    # A deviation of 0.22. Whole counts are few values in a cell of known library size: components would become spikes
    # there, whose densities are all that training is then about, and cells far less like real ones. What is below is
    # cut off, and so pushed no further down; as a variance that is added it was worse (benchmarks/README.md).
    least_log_spread = -1.5

    @property
    def outputs(self) -> int:
        """1 + 3 for each component."""
        return 1 + 3 * self.components

    @property
    def fixed(self) -> int:
        """The deviations."""
        return self.components

    def initial_bias(self, marginals):
        """The log-odds, and equal components side by side with the mean and, if it is enough, the variance of the
        marginals."""
        log_odds, mean, log_deviation = np.split(np.asarray(marginals), 3, axis=1)
        offsets = APART * np.linspace(-1, 1, self.components) if self.components > 1 else np.zeros(1)
        means = mean + np.exp(log_deviation) * offsets[None]
        within = 0.5 * math.log(1 - np.mean(offsets**2))
        deviations = np.repeat(np.maximum(log_deviation + within, self.least_log_spread), self.components, axis=1)
        return np.concatenate([log_odds, 0 * means, means, deviations], axis=1).astype(np.float32)

    def posterior(self, noisy, predicted, alpha_bar) -> MixturePosterior:
        """p(x_0 | x_t) of every gene: each component by Bayes' rule, its weight times its evidence."""
        log_odds, *of_components = jnp.split(jnp.moveaxis(predicted, -1, 0), [1, *self._ends], axis=0)
        logits, means, log_deviations = of_components
        found = self.conjugate(noisy[None], means, log_deviations, jnp.asarray(alpha_bar)[None])
        # Weighed among themselves first: beside a zero that is many deviations away, their digits would be lost.
        log_weights = logits - log_sum(logits)[None] + found.own_evidence
        evidence = log_sum(log_weights)
        log_odds = log_odds[0] + (evidence - self.zero_evidence(noisy, alpha_bar))
        return MixturePosterior(log_odds, log_weights - evidence[None], found.mean, found.variance)

    def clean(self, noisy, predicted, alpha_bar):
        """E[x_0 | x_t] = (1 - p) zero + p sum_k w_k m_k, all those of `posterior`."""
        log_odds, log_weights, mean, _ = self.posterior(noisy, predicted, alpha_bar)
        return self.mixed(log_odds, total(jnp.exp(log_weights) * mean))

    def draw(self, noisy, predicted, alpha_bar, keys, noise=0.0):
        """x_0 ~ p(x_0 | x_t), each gene by itself: zero, or a value of one component; (cell, gene). With `noise`,
        x_0 + noise z, as for ZeroInflated.

        Each gene has two random numbers of the cell's key, (cell,): a uniform one is below the probability that the
        gene is expressed, and the share of it that it has reached says by which component; a normal one becomes its
        value.
        """
        log_odds, log_weights, mean, variance = self.posterior(noisy, predicted, alpha_bar)
        # Apart from what the network says: as one loop with that, XLA does not vectorise them on a CPU.
        uniform, normal = jax.lax.optimization_barrier(random_numbers(keys, noisy.shape[1:]))
        weights, top = jnp.exp(log_weights), jax.nn.sigmoid(log_odds)
        centre, spread = jnp.full_like(noisy, self.zero), jnp.zeros_like(noisy)
        # From the last component to the first: what is below a lower bound too is overwritten. That of the last is
        # the probability itself, so that rounding in the sum of the weights makes no zeros.
        for k in reversed(range(self.components)):
            bound = top if k == self.components - 1 else top * sum(weights[: k + 1])
            reached = uniform <= bound
            centre, spread = jnp.where(reached, mean[k], centre), jnp.where(reached, variance[k], spread)
        return centre + jnp.sqrt(spread + noise**2) * normal

    def log_likelihood(self, clean, noisy, predicted, alpha_bar):
        """log p(x_0 | x_t) of every gene, (cell, gene): of a zero its probability, of a value its density."""
        log_odds, log_weights, mean, variance = self.posterior(noisy, predicted, alpha_bar)
        densities = -0.5 * ((clean[None] - mean) ** 2 / variance + jnp.log(2 * jnp.pi * variance))
        return self.log_mixed(clean, log_odds, log_sum(log_weights + densities))

    @property
    def _ends(self) -> tuple[int, int]:
        return 1 + self.components, 1 + 2 * self.components


PREDICTION = Mixture
