"""A standard normal between two bounds, in float32, wherever they lie and however near to each other.

An interval is mirrored so that most of it is below 0 (`near` is then its upper bound, the one nearer to 0). There the
normal distribution function keeps its digits; in an interval that is short, or far out, the density is exponential but
for a part in a thousand, and that is what is computed. All arrays are of one shape.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

# Shorter than this, or with all of it this far out, an interval's density is taken to be exponential.
SHORT, FAR = 0.1, 9.0
# Rounding leaves more of the exponential's formulas than of the first terms of their series below this.
GENTLE = 0.2


class Truncated(NamedTuple):
    """A standard normal in an interval: its bound nearer to 0, mirrored to be the upper one; its `length`; whether it
    is `mirrored`; where it `is_exponential`, at the rate `decay` over the interval; the normal distribution function
    at `near`, and the probability `inside`."""

    near: Any
    length: Any
    mirrored: Any
    is_exponential: Any
    decay: Any
    below: Any
    inside: Any

    @classmethod
    def between(cls, low, high) -> Truncated:
        """The interval from `low` to `high`, which is above."""
        mirrored = low + high > 0
        near, length = jnp.where(mirrored, -low, high), high - low
        # The slope of the log-density where most of the interval's mass is.
        out = jnp.maximum(-near, 1e-6)
        decay = jnp.maximum(length * (jnp.minimum(length / 2, 1 / out) - near), 1e-6)
        below = _normal_cdf(near)
        # Where it is not used, any positive number, for gradients.
        inside = jnp.maximum(below - _normal_cdf(near - length), 1e-30)
        return cls(near, length, mirrored, (length < SHORT) | (near < -FAR), decay, below, inside)

    def log_mean_density(self):
        """log of the mean of exp(-z^2 / 2) over the interval."""
        k = jnp.maximum(self.decay, GENTLE)
        # expm1 and log1p would say it in one line, but take CPUs ten times as long.
        short = jnp.where(self.decay < GENTLE, self.decay * (self.decay / 24 - 0.5), jnp.log((1 - jnp.exp(-k)) / k))
        short = short - 0.5 * self.near**2
        exact = jnp.log(self.inside) - jnp.log(self.length) + 0.5 * math.log(2 * math.pi)
        return jnp.where(self.is_exponential, short, exact)

    def mean_place(self):
        """The mean, as a share of the way from the lower bound to the upper."""
        k = self.decay
        short = jnp.where(k < GENTLE, 0.5 - k / 12, 1 / k - 1 / (jnp.exp(jnp.clip(k, GENTLE, 80.0)) - 1))
        densities = jnp.exp(-0.5 * (self.near - self.length) ** 2) - jnp.exp(-0.5 * self.near**2)
        mean = densities / (self.inside * math.sqrt(2 * math.pi))
        return self._from_low(jnp.where(self.is_exponential, short, (self.near - mean) / self.length))

    def place(self, uniform):
        """The inverse of the distribution function, as a share of the way from the lower bound to the upper."""
        short = -jnp.log1p(uniform * jnp.expm1(-self.decay)) / self.decay
        level = jnp.clip(self.below - uniform * self.inside, 1e-30, 1 - 2.0**-24)
        exact = (self.near - jax.scipy.special.ndtri(level)) / self.length
        return self._from_low(jnp.where(self.is_exponential, short, exact))

    def _from_low(self, from_near):
        from_near = jnp.clip(from_near, 0, 1)
        return jnp.where(self.mirrored, from_near, 1 - from_near)


def _normal_cdf(z):
    return 0.5 * jax.lax.erfc(-math.sqrt(0.5) * z)


def standard(clean, noisy, alpha_bar):
    """How far sqrt(abar) x_0 is above x_t, in deviations of the noise."""
    return (alpha_bar**0.5 * clean - noisy) / (1 - alpha_bar) ** 0.5


def chosen(parts: tuple[Any, Any, Any], uniform) -> tuple[Any, Any, Any]:
    """Where `uniform` numbers (cell, gene) fall when parts are laid end to end from 0, the last one without end: the
    part's low and width, and the share of it that is reached. `parts` are all lows, widths and probabilities, the last
    (part, cell, gene)."""
    lows, widths, probabilities = parts
    # Else each part would compute all anew, on a CPU.
    probabilities = jax.lax.optimization_barrier(probabilities)
    begins = low = width = share = jnp.zeros_like(uniform)
    for this_low, this_width, probability in zip(lows, widths, probabilities, strict=True):
        here = uniform > begins
        low, width = jnp.where(here, this_low, low), jnp.where(here, this_width, width)
        share = jnp.where(here, (uniform - begins) / jnp.maximum(probability, 1e-30), share)
        begins = begins + probability
    return low, width, jnp.clip(share, 0, 1)
