"""The network predicts how each count is distributed: negative binomial, and zero more often, by library size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ...errors import BadConfig
from ._counts import CountPrior, on_log_scale
from ._truncated import Truncated, chosen, standard
from ._zero_inflation import ZeroInflation, log_sum, random_numbers, total

# Where the log-odds begin that zeros are those of the counts' own distribution.
MOSTLY_COUNTS = 3.0


class CountPosterior(NamedTuple):
    """Counts given their noisy values: log-odds (cell, gene) of one above zero and, if so, the log `evidence` (cell,
    gene) of x_t and the log weight of each count and interval of counts, (support, cell, gene); `within`, the noise in
    the intervals, (interval, cell, gene)."""

    log_odds: jax.Array
    evidence: jax.Array
    log_weights: jax.Array
    within: Truncated


@dataclass(frozen=True)
class NegativeBinomial(ZeroInflation):
    """For each gene of each cell: the log-odds that its zeros are those of counts, the log of the expected expression,
    and the log-dispersion (theta).

    A count c of a cell with size factor f, its library size divided by the target sum, is x = log1p(c / f) on the log
    scale; it is negative binomial with mean f exp(log rate) and variance mean + mean^2 / theta, or zero whatever the
    mean (ZINB; Risso et al. 2018, Lopez et al. 2018). So the values that a cell can have are those of whole counts,
    which lie elsewhere in each cell. The posterior given x_t is a sum over counts (see `_counts`), those of 16 and more
    in intervals, in each of which it is a Gaussian between two bounds. Guidance moves all but the dispersion.

    Only one that is bound `for_cells` knows the size factors, and gives clean cells and likelihoods.
    """

    outputs = 3
    fixed = 1
    needs_library_size = True

    def for_cells(self, log_size: Any) -> OfCells:
        """That for cells of these log size factors, (cell,) float32; BadConfig where they are not known."""
        if log_size is None:
            raise _sizes_unknown()
        return OfCells(self.zero, self.mean, self.std, log_size)

    def initial_bias(self, marginals):
        """Counts of the expected expression of the marginals, of dispersion 1 and hardly inflated."""
        log_odds, mean, log_deviation = np.asarray(marginals, np.float64).T
        # x is about Gaussian where expressed, and expression exp(x) - 1.
        expressed = np.expm1(np.maximum(mean + 0.5 * np.exp(2 * log_deviation), 1e-3))
        log_rate = np.log(expressed) - np.logaddexp(0, -log_odds) + np.logaddexp(0, -MOSTLY_COUNTS)
        return np.stack([np.full_like(mean, MOSTLY_COUNTS), log_rate, np.zeros_like(mean)], axis=1).astype(np.float32)

    def posterior(self, noisy, predicted, alpha_bar) -> CountPosterior:
        """p(c | x_t) of every gene: the probability of a count, times p(x_t | x_0); of an interval's, on average."""
        prior = self._prior(predicted)
        points, edges = (x[..., None] for x in self._support())
        alpha_bar, noisy = jnp.asarray(alpha_bar)[None], noisy[None]
        ends = standard(edges, noisy, alpha_bar)
        within = Truncated.between(ends[:-1], ends[1:])
        seen = -0.5 * standard(points, noisy, alpha_bar) ** 2, within.log_mean_density()
        # Weighed among themselves first: beside a zero that is many deviations away, their digits would be lost.
        log_weights = prior.log_weights + jnp.concatenate(seen)
        evidence = log_sum(log_weights)
        log_odds = prior.log_odds + (evidence + 0.5 * standard(self.zero, noisy, alpha_bar)[0] ** 2)
        return CountPosterior(log_odds, evidence, log_weights - evidence[None], within)

    def clean(self, noisy, predicted, alpha_bar):
        """E[x_0 | x_t] of the scaled value."""
        found = self.posterior(noisy, predicted, alpha_bar)
        points, edges = (x[..., None] for x in self._support())
        # As one loop, XLA does not vectorise them on a CPU.
        weights, places = jax.lax.optimization_barrier((jnp.exp(found.log_weights), found.within.mean_place()))
        values = jnp.concatenate([points + 0 * noisy[None], edges[:-1] + (edges[1:] - edges[:-1]) * places])
        return self.mixed(found.log_odds, total(weights * values))

    def draw(self, noisy, predicted, alpha_bar, keys, noise=0.0):
        """x_0 ~ p(x_0 | x_t), each gene by itself: the value of a whole count; (cell, gene). With `noise`, x_0 + noise
        z, as for ZeroInflated.

        A uniform number of the cell's key, (cell,), is below the probability of a count above zero; how much of it it
        has reached says which count, or how far into which interval of counts. z is a normal one.
        """
        found = self.posterior(noisy, predicted, alpha_bar)
        # Apart from what the network says: as one loop with that, XLA does not vectorise them on a CPU.
        uniform, normal = jax.lax.optimization_barrier(random_numbers(keys, noisy.shape[1:]))
        top = jax.nn.sigmoid(found.log_odds)
        points, edges = self._support()
        lows, widths = jnp.concatenate([points, edges[:-1]]), jnp.concatenate([0 * points, edges[1:] - edges[:-1]])
        parts = lows[..., None], widths[..., None], top[None] * jnp.exp(found.log_weights)
        low, width, within = chosen(parts, uniform)
        ends = (standard(x, noisy, alpha_bar) for x in (low, low + width))
        value = low + width * Truncated.between(*ends).place(within)
        value = jnp.where(width > 0, self._of_counts(self._counts(value)), value)
        return jnp.where(uniform <= top, value, self.zero) + noise * normal

    def log_likelihood(self, clean, noisy, predicted, alpha_bar):
        """log p(c | x_t) of every gene's count, (cell, gene): a probability, and of values no density.

        Minus log |dx/dc|, x on the network's scale, it is about the log-density of a continuous value; see
        `log_spacing`.
        """
        found, prior = self.posterior(noisy, predicted, alpha_bar), self._prior(predicted)
        counts = self._counts(clean)
        here = -0.5 * standard(self._of_counts(counts), noisy, alpha_bar) ** 2
        return self.log_mixed(clean, found.log_odds, prior.log_weight(counts) + here - found.evidence)

    def log_spacing(self, clean):
        """log |dx/dc| of values on the network's scale, (cell, gene): how far apart neighbouring counts are there."""
        log_value = jnp.maximum(clean * self.std + self.mean, 0)
        return -log_value - self._log_size()[:, None] - np.log(self.std)

    def _prior(self, predicted) -> CountPrior:
        return CountPrior.of(predicted[..., 0], predicted[..., 1] + self._log_size()[:, None], predicted[..., 2])

    def _support(self):
        """Values of single counts (count, cell) and edges of the intervals (interval + 1, cell), network's scale."""
        return ((x - self.mean) / self.std for x in on_log_scale(self._log_size()))

    def _counts(self, value):
        """The whole numbers, 1 or more, that values on the network's scale are nearest to."""
        expression = jnp.expm1(jnp.clip(value * self.std + self.mean, 0, 20))
        return jnp.maximum(jnp.round(expression * jnp.exp(self._log_size())[:, None]), 1)

    def _of_counts(self, counts):
        return (jnp.log1p(counts * jnp.exp(-self._log_size())[:, None]) - self.mean) / self.std

    def _log_size(self):
        """(cell,); BadConfig unless bound."""
        raise _sizes_unknown()


@dataclass(frozen=True, eq=False)
class OfCells(NegativeBinomial):
    """Bound to cells of these log size factors, `log_size` (cell,). They may be traced, and so it is never static."""

    log_size: Any

    def __eq__(self, other: object) -> bool:
        return self is other

    def _log_size(self):
        return self.log_size


def _sizes_unknown() -> BadConfig:
    return BadConfig(
        "a prediction of negative-binomial needs each cell's library size, which cells that were no raw counts do not "
        "have; give raw counts, or use --prediction zero-inflated"
    )


PREDICTION = NegativeBinomial
