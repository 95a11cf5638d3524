"""Bayes' rule on a fine grid of clean values: what distributions are compared with; it knows no closed form."""

from typing import NamedTuple

import numpy as np
from scipy import stats


class OnGrid(NamedTuple):
    """A gene's distribution on the network's scale: mass at `zero`, and masses (point,) at the increasing `grid`."""

    zero: float
    at_zero: float
    grid: np.ndarray
    masses: np.ndarray

    def given(self, noisy: float, alpha_bar: float) -> "OnGrid":
        """The posterior given x_t = `noisy`."""

        def log_seen(x):
            return stats.norm.logpdf(noisy, np.sqrt(alpha_bar) * x, np.sqrt(1 - alpha_bar))

        seen, seen_at_zero = log_seen(self.grid), log_seen(self.zero)
        greatest = max(seen.max(), seen_at_zero)
        masses, at_zero = self.masses * np.exp(seen - greatest), self.at_zero * np.exp(seen_at_zero - greatest)
        whole = masses.sum() + at_zero
        return OnGrid(self.zero, at_zero / whole, self.grid, masses / whole)

    @property
    def mean(self) -> float:
        """E[x_0]."""
        return float(self.at_zero * self.zero + np.sum(self.masses * self.grid))

    def value_cdf(self, x):
        """Of the values that are not zeros."""
        return np.interp(x, self.grid, np.cumsum(self.masses) / self.masses.sum())

    def log_density(self, i: int) -> float:
        """At the grid's point `i`, of the whole distribution."""
        return float(np.log(self.masses[i] / (self.grid[1] - self.grid[0])))
