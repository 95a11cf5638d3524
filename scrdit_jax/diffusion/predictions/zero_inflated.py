"""The network predicts how each clean gene is distributed: zero, or a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ._zero_inflation import ZeroInflation, random_numbers


class Posterior(NamedTuple):
    """A clean gene given its noisy value, (cell, gene) each: log-odds that it is expressed, mean and variance if so."""

    log_odds: jax.Array
    mean: jax.Array
    variance: jax.Array


@dataclass(frozen=True)
class ZeroInflated(ZeroInflation):
    """For each gene of each cell: the log-odds that it is expressed, and mean and log-deviation of its value if so.

    Given those, a gene is a mixture of one point (zero) and one Gaussian, whose posterior mean given the noisy value is
    known in closed form; so the network only learns what depends on the rest of the cell, and no gene stops half-way
    between zero and expressed. Mean and deviation are on the log-expression scale. Guidance moves log-odds and means.
    """

    outputs = 3
    fixed = 1  # the deviation

    def initial_bias(self, marginals):
        """The marginals themselves: log-odds, mean and log-deviation."""
        return marginals

    def posterior(self, noisy, predicted, alpha_bar) -> Posterior:
        """p(x_0 | x_t) of every gene by Bayes' rule from x_t ~ N(sqrt(abar) x_0, 1 - abar); in closed form."""
        found = self.conjugate(noisy, predicted[..., 1], predicted[..., 2], alpha_bar)
        return Posterior(predicted[..., 0] + found.evidence, found.mean, found.variance)

    def clean(self, noisy, predicted, alpha_bar):
        """E[x_0 | x_t] = (1 - p) zero + p m, p and m those of `posterior`."""
        log_odds, value, _ = self.posterior(noisy, predicted, alpha_bar)
        return self.mixed(log_odds, value)

    def draw(self, noisy, predicted, alpha_bar, keys, noise=0.0):
        """x_0 ~ p(x_0 | x_t), each gene by itself: zero, or a value of the posterior's Gaussian; (cell, gene).

        With `noise`, x_0 + noise z, z standard normal: what is Gaussian already only becomes wider, so that a step that
        adds noise to x_0 draws nothing more. Each gene has two random numbers of the cell's key, (cell,): it is
        expressed where a logistic one is at most its log-odds, and a normal one becomes its value.
        """
        log_odds, value, variance = self.posterior(noisy, predicted, alpha_bar)
        uniform, normal = random_numbers(keys, noisy.shape[1:])
        # Apart from what the network says: as one loop with that, XLA does not vectorise them on a CPU.
        logistic, normal = jax.lax.optimization_barrier((jnp.log(uniform) - jnp.log1p(-uniform), normal))
        expressed = logistic <= log_odds
        centre = jnp.where(expressed, value, self.zero)
        return centre + jnp.sqrt(jnp.where(expressed, variance, 0.0) + noise**2) * normal

    def log_likelihood(self, clean, noisy, predicted, alpha_bar):
        """log p(x_0 | x_t) of every gene, (cell, gene): of a zero its probability, of a value its density."""
        log_odds, value, variance = self.posterior(noisy, predicted, alpha_bar)
        expressed = -0.5 * ((clean - value) ** 2 / variance + jnp.log(2 * jnp.pi * variance))
        return self.log_mixed(clean, log_odds, expressed)


PREDICTION = ZeroInflated
