"""Zero-negation and standardising, with exact inverses, for NumPy and JAX arrays alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..io.checking import Matrix
from ..records import checked
from .statistics import GeneStatistics


def negate_zeros(x, zero_value: float):
    """Every zero becomes `zero_value` < 0 (scRDiT section 2.1, where it is n = -10), so that zero can be generated."""
    return x.__array_namespace__().where(x == 0, zero_value, x)


def restore_zeros(y):
    """Negative values become zero (scRDiT section 2.1): `restore_zeros(negate_zeros(x, n)) == x`. NaN stays NaN."""
    return y.__array_namespace__().where(y <= 0, 0, y)


@dataclass(frozen=True)
class Scaling:
    """From log expression to what the network sees: zeros to `zero_value` (None: left), then one mean and deviation.

    `ranges` are each gene's least and greatest expressed value, within which `unscale` keeps it (None: any value).
    `quantiles` are increasing edges of bins of each gene's expressed values, on the log scale, for predictions that
    choose among bins (see `data.quantiles`; None: none).
    """

    zero_value: float | None
    mean: float
    std: float
    ranges: tuple[tuple[float, float], ...] | None = None
    quantiles: tuple[tuple[float, ...], ...] | None = None

    @property
    def zero(self) -> float:
        """Where `scale` puts a zero."""
        return ((self.zero_value or 0.0) - self.mean) / self.std

    def scale(self, x):
        """(x with zeros negated - mean) / std; any shape, the dtype of `x`."""
        if self.zero_value is not None:
            x = negate_zeros(x, self.zero_value)
        return (x - self.mean) / self.std

    def unscale(self, y):
        """The inverse of `scale`, for (..., gene); expression is never negative.

        Values below 0 become zeros (the paper). With `ranges`, only those nearer to `zero_value` than to 0 do; the
        others are expressed, and cut to the gene's range. NaN stays NaN.
        """
        y = y * self.std + self.mean
        if self.ranges is None:
            return restore_zeros(y)
        xp = y.__array_namespace__()
        least, greatest = xp.reshape(xp.asarray(self.ranges, dtype=y.dtype).T, (2, *(1,) * (y.ndim - 1), y.shape[-1]))
        return xp.where(y <= (self.zero_value or 0.0) / 2, 0, xp.clip(y, least, greatest))

    @classmethod
    def fit(cls, x: Matrix, zero_value: float | None, standardize: bool, *, clip: bool = False) -> Scaling:
        """`of` all rows of `x`, gone through once, a block at a time."""
        return cls.of(GeneStatistics.of_all(x, linear=False), zero_value, standardize, clip=clip)

    @classmethod
    def of(cls, genes: GeneStatistics, zero_value: float | None, standardize: bool, *, clip: bool = False) -> Scaling:
        """One mean and one population deviation over all entries after zero-negation, in float64.

        Without `standardize`, mean 0 and deviation 1 (the paper). Standardising each gene by itself was measured to be
        much worse. With `clip`, the ranges of the genes too; a gene that no cell expresses has 0 to 0.
        """
        ranges = None
        if clip:
            least = np.where(genes.greatest == 0, 0.0, genes.least)
            ranges = tuple(zip(least.tolist(), genes.greatest.tolist(), strict=True))
        if not standardize:
            return cls(zero_value, 0.0, 1.0, ranges)
        zero = zero_value or 0.0
        return cls(zero_value, genes.mean(zero), float(np.sqrt(genes.variance(zero))) or 1.0, ranges)

    def widened(self, genes: GeneStatistics) -> Scaling:
        """The same, but for the `ranges` of the genes, which take in those of further cells too."""
        if self.ranges is None:
            return self
        least, greatest = np.asarray(self.ranges).T
        # A gene that no cell expresses has 0 to 0, or inf to 0 among statistics.
        least = np.minimum(np.where(greatest == 0, np.inf, least), genes.least)
        greatest = np.maximum(greatest, genes.greatest)
        ranges = tuple(zip(np.where(greatest == 0, 0.0, least).tolist(), greatest.tolist(), strict=True))
        return dataclasses.replace(self, ranges=ranges)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Scaling:
        """The inverse of `to_dict`, also after a trip through JSON; TypeError or ValueError where it is none."""
        tables = {name: values.get(name) for name in ("ranges", "quantiles")}
        for name, table in tables.items():
            if table and np.asarray(table, np.float64).ndim != 2:
                raise ValueError(f"{name} is no table of numbers")
        found = cls(**{**values, **{name: table and tuple(map(tuple, table)) for name, table in tables.items()}})
        if not checked(found, but=tables).std > 0:
            raise ValueError(f"std is {found.std}, not above 0")
        return found
