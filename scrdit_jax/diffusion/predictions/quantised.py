"""The network predicts how each clean gene is distributed: zero, or a value in one of the gene's own bins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np

from ...errors import BadConfig
from ._prediction import Scale
from ._truncated import Truncated, chosen, standard
from ._zero_inflation import ZeroInflation, log_sum, random_numbers, total


class BinPosterior(NamedTuple):
    """A clean gene given its noisy value: log-odds (cell, gene) that it is expressed and, if so, the log weight of each
    bin and the noise within it, (bin, cell, gene)."""

    log_odds: jax.Array
    log_weights: jax.Array
    within: Truncated


@dataclass(frozen=True)
class Quantised(ZeroInflation):
    """For each gene of each cell: the log-odds that it is expressed and, if so, the logits of its bins.

    The bins lie between quantiles of the gene's expressed values in training cells (`Scaling.quantiles`), so that each
    holds as many; within one, a value is uniform on the log scale. No shape is assumed, and training by the likelihood
    is classification: cross-entropy, as for the "bins" of scBERT and scGPT. Given the noisy value, a bin is a Gaussian
    between its edges. A value beyond the outermost edges counts as one at the edge. Guidance moves all.
    """

    quantiles: tuple[tuple[float, ...], ...]
    needs_quantiles = True

    @classmethod
    def for_scale(cls, scale: Scale) -> Self:
        """For cells with these quantiles; BadConfig where there are none."""
        if scale.quantiles is None:
            raise BadConfig(
                "a prediction of quantised needs each gene's quantiles, and these cells were prepared without; set "
                "quantiles (12, for instance) in the data settings that they are prepared with"
            )
        return cls(scale.zero, scale.mean, scale.std, scale.quantiles)

    @property
    def bins(self) -> int:
        """How many there are of each gene."""
        return len(self.quantiles[0]) - 1

    @property
    def outputs(self) -> int:
        """1, and 1 for each bin."""
        return 1 + self.bins

    def initial_bias(self, marginals):
        """The log-odds of the marginals, and bins of equal probability."""
        marginals = np.asarray(marginals, np.float32)
        return np.concatenate([marginals[:, :1], np.zeros((len(marginals), self.bins), np.float32)], axis=1)

    def posterior(self, noisy, predicted, alpha_bar) -> BinPosterior:
        """p(x_0 | x_t) of every gene: each bin's probability times its mean of p(x_t | x_0)."""
        edges, predicted = self._edges(), jnp.moveaxis(predicted, -1, 0)
        ends = standard(edges[:, None], noisy[None], jnp.asarray(alpha_bar)[None])
        within = Truncated.between(ends[:-1], ends[1:])
        from_zero = standard(self.zero, noisy, alpha_bar)
        # Weighed among themselves first: beside a zero that is many deviations away, their digits would be lost.
        log_weights = predicted[1:] - log_sum(predicted[1:])[None] + within.log_mean_density()
        evidence = log_sum(log_weights)
        return BinPosterior(predicted[0] + (evidence + 0.5 * from_zero**2), log_weights - evidence[None], within)

    def clean(self, noisy, predicted, alpha_bar):
        """E[x_0 | x_t]: of each bin the mean of the Gaussian between its edges."""
        log_odds, log_weights, within = self.posterior(noisy, predicted, alpha_bar)
        edges = self._edges()[:, None]
        # As one loop, XLA does not vectorise them on a CPU.
        weights, places = jax.lax.optimization_barrier((jnp.exp(log_weights), within.mean_place()))
        return self.mixed(log_odds, total(weights * (edges[:-1] + (edges[1:] - edges[:-1]) * places)))

    def draw(self, noisy, predicted, alpha_bar, keys, noise=0.0):
        """x_0 ~ p(x_0 | x_t), each gene by itself: zero, or a value of a bin; (cell, gene). With `noise`, x_0 + noise
        z, as for ZeroInflated.

        A uniform number of the cell's key, (cell,), is below the probability that the gene is expressed; how much of it
        it has reached says in which bin, and how much of the bin's part, where in it. z is a normal one.
        """
        log_odds, log_weights, _ = self.posterior(noisy, predicted, alpha_bar)
        # Apart from what the network says: as one loop with that, XLA does not vectorise them on a CPU.
        uniform, normal = jax.lax.optimization_barrier(random_numbers(keys, noisy.shape[1:]))
        top = jax.nn.sigmoid(log_odds)
        edges = self._edges()
        bins = edges[:-1], edges[1:] - edges[:-1], top[None] * jnp.exp(log_weights)
        low, width, within = chosen(bins, uniform)
        ends = (standard(x, noisy, alpha_bar) for x in (low, low + width))
        value = low + width * Truncated.between(*ends).place(within)
        return jnp.where(uniform <= top, value, self.zero) + noise * normal

    def log_likelihood(self, clean, noisy, predicted, alpha_bar):
        """log p(x_0 | x_t) of every gene, (cell, gene): of a zero its probability, of a value its density."""
        log_odds, log_weights, within = self.posterior(noisy, predicted, alpha_bar)
        edges = self._edges()[:, None]
        held = (clean[None] >= edges[:-1]).at[0].set(True) & (clean[None] < edges[1:]).at[-1].set(True)
        # The bin's weight, times how dense its Gaussian is here against its mean over the bin.
        of_bin = log_weights - jnp.log(edges[1:] - edges[:-1]) - within.log_mean_density()
        here = standard(jnp.clip(clean, edges[0], edges[-1]), noisy, alpha_bar)
        return self.log_mixed(clean, log_odds, total(jnp.where(held, of_bin, 0)) - 0.5 * here**2)

    def _edges(self):
        """(bin + 1, gene) on the network's scale."""
        edges = (np.asarray(self.quantiles).T - self.mean) / self.std
        return jnp.asarray(edges, jnp.float32)


PREDICTION = Quantised
