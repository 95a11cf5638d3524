"""What a network predicts, and what that says about the clean cells.

A prediction is a frozen value with `outputs`, how many numbers the network gives a gene; `clean`, the clean cells that
those numbers mean; and `error`, whose mean square is the training loss. Noisy and clean cells are (cell, gene),
`alpha_bar` is (cell, 1) or (1, 1), `predicted` is what the network gave. Sampling sees nothing but `clean`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp

# Deviations of log expression below and above these mean nothing; nor do values many deviations from the mean.
LEAST_LOG_SPREAD, LARGEST_LOG_SPREAD = -5.0, 1.0
FARTHEST = 4.0


class Prediction(Protocol):
    """See the module; frozen and hashable, so static under `jit`."""

    @property
    def outputs(self) -> int:
        """Numbers a gene: 1 (`predicted` is (cell, gene)), or more (`predicted` is (cell, gene, outputs))."""

    def clean(self, noisy: Any, predicted: Any, alpha_bar: Any) -> Any:
        """Predicted x_0, (cell, gene)."""

    def error(self, clean: Any, noise: Any, noisy: Any, predicted: Any, alpha_bar: Any) -> Any:
        """What is to be made small in mean square, (cell, gene)."""


@dataclass(frozen=True)
class Epsilon:
    """The noise (scRDiT eq. 10)."""

    outputs = 1

    def clean(self, noisy, predicted, alpha_bar):
        """(x_t - sqrt(1 - abar) eps) / sqrt(abar), as in eq. 11."""
        return (noisy - (1 - alpha_bar) ** 0.5 * predicted) / alpha_bar**0.5

    def error(self, clean, noise, noisy, predicted, alpha_bar):
        """The difference from eps (eq. 10)."""
        return predicted - noise


@dataclass(frozen=True)
class Velocity:
    """v = sqrt(abar) eps - sqrt(1 - abar) x_0 (Salimans & Ho 2022)."""

    outputs = 1

    def clean(self, noisy, predicted, alpha_bar):
        """sqrt(abar) x_t - sqrt(1 - abar) v."""
        return alpha_bar**0.5 * noisy - (1 - alpha_bar) ** 0.5 * predicted

    def error(self, clean, noise, noisy, predicted, alpha_bar):
        """The difference from v."""
        return predicted - (alpha_bar**0.5 * noise - (1 - alpha_bar) ** 0.5 * clean)


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

    def clean(self, noisy, predicted, alpha_bar):
        """E[x_0 | x_t] = (1 - p) zero + p m, with p and m by Bayes' rule from x_t ~ N(sqrt(abar) x_0, 1 - abar)."""
        log_odds, expressed = predicted[..., 0], (predicted[..., 1] - self.mean) / self.std
        log_spread = jnp.clip(predicted[..., 2], LEAST_LOG_SPREAD, LARGEST_LOG_SPREAD) - math.log(self.std)
        variance, noise, root = jnp.exp(2 * log_spread), 1 - alpha_bar, alpha_bar**0.5
        total = alpha_bar * variance + noise
        from_zero, from_expressed = noisy - root * self.zero, noisy - root * expressed
        evidence = 0.5 * (from_zero**2 / noise - from_expressed**2 / total + jnp.log(noise) - jnp.log(total))
        # Where the solver has left the data's range, the shift towards the noisy value would lead it further away.
        farthest = FARTHEST * jnp.exp(log_spread)
        value = expressed + jnp.clip(root * variance * from_expressed / total, -farthest, farthest)
        return self.zero + jax.nn.sigmoid(log_odds + evidence) * (value - self.zero)

    def error(self, clean, noise, noisy, predicted, alpha_bar):
        """That of v, which is the error of the clean cells divided by sqrt(1 - abar)."""
        return (clean - self.clean(noisy, predicted, alpha_bar)) / (1 - alpha_bar) ** 0.5


class Scale(Protocol):
    """From log expression to what the network sees: (x - mean) / std, and zeros to `zero` (see data.scaling)."""

    zero: float
    mean: float
    std: float


def make_prediction(name: str, scale: Scale) -> Prediction:
    """The prediction called `name` (config.PREDICTIONS) for cells that were scaled so."""
    if name == "zero-inflated":
        return ZeroInflated(scale.zero, scale.mean, scale.std)
    return {"epsilon": Epsilon, "v": Velocity}[name]()
