"""What predictions have in common that say of each gene: zero, or a value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp

from ._prediction import BasePrediction, Scale, guided

# Deviations of log expression above this mean nothing; nor do values many deviations from the mean.
LARGEST_LOG_SPREAD = 1.0
FARTHEST = 4.0
# The largest float32 below 1.
LARGEST_UNIFORM = 1 - 2.0**-24
# On the network's scale: no expressed value is so near to where zeros are, and rounding keeps within it.
CLOSE_TO_ZERO = 1e-4


class Conjugate(NamedTuple):
    """A Gaussian value given its noisy one: the log of its evidence over that of a zero, and by itself but for a
    constant; its mean and variance."""

    evidence: Any
    own_evidence: Any
    mean: Any
    variance: Any


@dataclass(frozen=True)
class ZeroInflation(BasePrediction):
    """Zero, or a value: `zero` is where zeros lie on the network's scale, `mean` and `std` lead to it from the log
    scale. Log-deviations below `least_log_spread` count as that."""

    zero: float
    mean: float
    std: float
    is_distribution = True
    least_log_spread = -5.0

    @classmethod
    def for_scale(cls, scale: Scale) -> Self:
        """For cells whose zeros are where `scale` puts them."""
        return cls(scale.zero, scale.mean, scale.std)

    @property
    def fixed(self) -> int:
        """How many of the outputs, the last ones, guidance leaves as they are."""
        return 0

    def conjugate(self, noisy, mean, log_deviation, alpha_bar) -> Conjugate:
        """Bayes' rule for x_0 ~ N(mean, exp(log_deviation)^2), on the log scale, and x_t ~ N(sqrt(abar) x_0, 1 - abar).

        All of one rank, `mean` and `log_deviation` of one shape, which is that of what is returned.
        """
        expressed = (mean - self.mean) / self.std
        log_spread = jnp.clip(log_deviation, self.least_log_spread, LARGEST_LOG_SPREAD) - math.log(self.std)
        variance, noise, root = jnp.exp(2 * log_spread), 1 - alpha_bar, alpha_bar**0.5
        total = alpha_bar * variance + noise
        from_zero, from_expressed = noisy - root * self.zero, noisy - root * expressed
        evidence = 0.5 * (from_zero**2 / noise - from_expressed**2 / total + jnp.log(noise) - jnp.log(total))
        # Where the solver has left the data's range, the shift towards the noisy value would lead it further away.
        farthest = FARTHEST * jnp.exp(log_spread)
        value = expressed + jnp.clip(root * variance * from_expressed / total, -farthest, farthest)
        own = -0.5 * (from_expressed**2 / total + jnp.log(total))
        return Conjugate(evidence, own, value, variance * noise / total)

    def probability(self, noisy, predicted, alpha_bar):
        """p(x_0 is expressed | x_t), (cell, gene); `draw` gives a value where its uniform number is at most that."""
        return jax.nn.sigmoid(self.posterior(noisy, predicted, alpha_bar).log_odds)

    def posterior(self, noisy, predicted, alpha_bar) -> Any:
        """p(x_0 | x_t), with `log_odds` (cell, gene) that a gene is expressed."""
        raise NotImplementedError

    def zero_evidence(self, noisy, alpha_bar):
        """What `own_evidence` is for a zero."""
        noise = 1 - alpha_bar
        return -0.5 * ((noisy - alpha_bar**0.5 * self.zero) ** 2 / noise + jnp.log(noise))

    def mixed(self, log_odds, value):
        """(1 - p) zero + p value, where `log_odds` are those of p."""
        return self.zero + jax.nn.sigmoid(log_odds) * (value - self.zero)

    def log_mixed(self, clean, log_odds, log_density):
        """log (1 - p) of a zero, log p + `log_density` of a value; both (cell, gene)."""
        is_zero = jnp.abs(clean - self.zero) < CLOSE_TO_ZERO
        return jnp.where(is_zero, jax.nn.log_sigmoid(-log_odds), jax.nn.log_sigmoid(log_odds) + log_density)

    def clean(self, noisy, predicted, alpha_bar):
        """E[x_0 | x_t], (cell, gene)."""
        raise NotImplementedError

    def guide(self, conditional, without, weights):
        """`guided` log-odds and means, (cell, gene, outputs); spreads stay those of `conditional`."""
        moving = conditional.shape[-1] - self.fixed
        moved = guided(conditional, without, weights)
        return jnp.concatenate([moved[..., :moving], conditional[..., moving:]], axis=-1)

    def error(self, clean, noise, noisy, predicted, alpha_bar):
        """That of v, which is the error of the clean cells divided by sqrt(1 - abar)."""
        return (clean - self.clean(noisy, predicted, alpha_bar)) / (1 - alpha_bar) ** 0.5


class Numbers(NamedTuple):
    """What a gene is drawn by: uniform in (0, 1) and standard normal, (cell, gene) each; given in place of keys."""

    uniform: Any
    normal: Any


def random_numbers(keys, shape):
    """(uniform in (0, 1), standard normal) for every gene of every cell: (cell, *shape) each, of the `keys` (cell,).

    `Numbers` in their place are given back as they are.
    """
    if isinstance(keys, Numbers):
        return keys
    words = jax.vmap(lambda key: jax.random.bits(key, shape, jnp.uint32))(keys)
    normal = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, 1), shape))(keys)
    # 31 bits, as CPUs convert signed numbers many times faster. Rare genes need those near 0, where all are kept.
    uniform = ((words >> 1).astype(jnp.int32).astype(jnp.float32) + 0.5) * 2.0**-31
    return jnp.minimum(uniform, LARGEST_UNIFORM), normal


@jax.custom_jvp
def total(terms):
    """The sum over the first axis, written out, since XLA does not vectorise reductions over it on a CPU; behind a
    barrier, since it would compute all terms anew for each."""
    return sum(jax.lax.optimization_barrier(terms))


@total.defjvp
def _total_jvp(primals, tangents):
    # Not that of the slices, which backwards would each be padded to the whole.
    return total(*primals), jnp.sum(tangents[0], axis=0)


def log_sum(terms):
    """log(sum(exp(terms))) over the first axis; all are finite."""
    greatest = reduce(jnp.maximum, jax.lax.optimization_barrier(jax.lax.stop_gradient(terms)))
    return greatest + jnp.log(total(jnp.exp(terms - greatest[None])))
