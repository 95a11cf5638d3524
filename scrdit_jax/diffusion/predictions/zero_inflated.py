"""The network predicts how each clean gene is distributed: zero, or a value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ._prediction import Scale

# Deviations of log expression below and above these mean nothing; nor do values many deviations from the mean.
LEAST_LOG_SPREAD, LARGEST_LOG_SPREAD = -5.0, 1.0
FARTHEST = 4.0
# The largest float32 below 1.
LARGEST_UNIFORM = 1 - 2.0**-24
# On the network's scale: no expressed value is so near to where zeros are, and rounding keeps within it.
CLOSE_TO_ZERO = 1e-4


class Posterior(NamedTuple):
    """A clean gene given its noisy value, (cell, gene) each: log-odds that it is expressed, mean and variance if so."""

    log_odds: jax.Array
    mean: jax.Array
    variance: jax.Array


@dataclass(frozen=True)
class ZeroInflated:
    """For each gene of each cell: the log-odds that it is expressed, and mean and log-deviation of its value if so.

    Given those, a gene is a mixture of one point (zero) and one Gaussian, whose posterior mean given the noisy value is
    known in closed form; so the network only learns what depends on the rest of the cell, and no gene stops half-way
    between zero and expressed. Mean and deviation are on the log-expression scale; `zero` is where zeros lie on the
    network's scale, `mean` and `std` lead from one scale to the other.
    """

    zero: float
    mean: float
    std: float
    outputs = 3
    is_distribution = True

    @classmethod
    def for_scale(cls, scale: Scale) -> ZeroInflated:
        """For cells whose zeros are where `scale` puts them."""
        return cls(scale.zero, scale.mean, scale.std)

    def for_cells(self, log_library_size):
        """The same for every cell."""
        return self

    def initial_bias(self, marginals):
        """The marginals themselves: log-odds, mean and log-deviation."""
        return marginals

    def posterior(self, noisy, predicted, alpha_bar) -> Posterior:
        """p(x_0 | x_t) of every gene by Bayes' rule from x_t ~ N(sqrt(abar) x_0, 1 - abar); in closed form."""
        log_odds, expressed = predicted[..., 0], (predicted[..., 1] - self.mean) / self.std
        log_spread = jnp.clip(predicted[..., 2], LEAST_LOG_SPREAD, LARGEST_LOG_SPREAD) - math.log(self.std)
        variance, noise, root = jnp.exp(2 * log_spread), 1 - alpha_bar, alpha_bar**0.5
        total = alpha_bar * variance + noise
        from_zero, from_expressed = noisy - root * self.zero, noisy - root * expressed
        evidence = 0.5 * (from_zero**2 / noise - from_expressed**2 / total + jnp.log(noise) - jnp.log(total))
        # Where the solver has left the data's range, the shift towards the noisy value would lead it further away.
        farthest = FARTHEST * jnp.exp(log_spread)
        value = expressed + jnp.clip(root * variance * from_expressed / total, -farthest, farthest)
        return Posterior(log_odds + evidence, value, variance * noise / total)

    def clean(self, noisy, predicted, alpha_bar):
        """E[x_0 | x_t] = (1 - p) zero + p m, p and m those of `posterior`."""
        log_odds, value, _ = self.posterior(noisy, predicted, alpha_bar)
        return self.zero + jax.nn.sigmoid(log_odds) * (value - self.zero)

    def draw(self, noisy, predicted, alpha_bar, keys, noise=0.0):
        """x_0 ~ p(x_0 | x_t), each gene by itself: zero, or a value of the posterior's Gaussian; (cell, gene).

        With `noise`, x_0 + noise z, z standard normal: what is Gaussian already only becomes wider, so that a step that
        adds noise to x_0 draws nothing more. Each gene has two random numbers of the cell's key, (cell,): it is
        expressed where a logistic one is at most its log-odds, and a normal one becomes its value.
        """
        log_odds, value, variance = self.posterior(noisy, predicted, alpha_bar)
        words = jax.vmap(lambda key: jax.random.bits(key, noisy.shape[1:], jnp.uint32))(keys)
        normal = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, 1), noisy.shape[1:]))(keys)
        # 31 bits, as CPUs convert signed numbers many times faster. Rare genes need those near 0, where all are kept.
        uniform = ((words >> 1).astype(jnp.int32).astype(jnp.float32) + 0.5) * 2.0**-31
        uniform = jnp.minimum(uniform, LARGEST_UNIFORM)
        # Apart from what the network says: as one loop with that, XLA does not vectorise them on a CPU.
        logistic, normal = jax.lax.optimization_barrier((jnp.log(uniform) - jnp.log1p(-uniform), normal))
        expressed = logistic <= log_odds
        centre = jnp.where(expressed, value, self.zero)
        return centre + jnp.sqrt(jnp.where(expressed, variance, 0.0) + noise**2) * normal

    def guide(self, conditional, unconditional, weight):
        """What is predicted under guidance, (cell, gene, outputs): log-odds and means moved away from the unconditional
        ones by `weight` times their difference (classifier-free guidance, Ho & Salimans 2022); spreads stay."""
        moved = unconditional + weight * (conditional - unconditional)
        return jnp.concatenate([moved[..., :2], conditional[..., 2:]], axis=-1)

    def log_likelihood(self, clean, noisy, predicted, alpha_bar):
        """log p(x_0 | x_t) of every gene, (cell, gene): of a zero its probability, of a value its density."""
        log_odds, value, variance = self.posterior(noisy, predicted, alpha_bar)
        expressed = -0.5 * ((clean - value) ** 2 / variance + jnp.log(2 * jnp.pi * variance))
        is_zero = jnp.abs(clean - self.zero) < CLOSE_TO_ZERO
        return jnp.where(is_zero, jax.nn.log_sigmoid(-log_odds), jax.nn.log_sigmoid(log_odds) + expressed)

    def error(self, clean, noise, noisy, predicted, alpha_bar):
        """That of v, which is the error of the clean cells divided by sqrt(1 - abar)."""
        return (clean - self.clean(noisy, predicted, alpha_bar)) / (1 - alpha_bar) ** 0.5


PREDICTION = ZeroInflated
