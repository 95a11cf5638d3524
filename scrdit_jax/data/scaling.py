"""Zero-negation and standardising, with exact inverses, for NumPy and JAX arrays alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .checking import Matrix, stored_values


def negate_zeros(x, zero_value: float):
    """Every zero becomes `zero_value` < 0 (scRDiT section 2.1, where it is n = -10), so that zero can be generated."""
    return x.__array_namespace__().where(x == 0, zero_value, x)


def restore_zeros(y):
    """Negative values become zero (scRDiT section 2.1): `restore_zeros(negate_zeros(x, n)) == x`. NaN stays NaN."""
    return y.__array_namespace__().where(y <= 0, 0, y)


@dataclass(frozen=True)
class Scaling:
    """From log expression to what the network sees: zeros to `zero_value` (None: left), then one mean and deviation."""

    zero_value: float | None
    mean: float
    std: float

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
        """The inverse of `scale`, cut off at zero: expression is never negative."""
        return restore_zeros(y * self.std + self.mean)

    @classmethod
    def fit(cls, x: Matrix, zero_value: float | None, standardize: bool) -> Scaling:
        """One mean and one population deviation over all entries of `x` after zero-negation, in float64.

        Without `standardize`, mean 0 and deviation 1 (the paper). Standardising each gene by itself was measured to be
        much worse. Gone through a block of rows at a time.
        """
        if not standardize:
            return cls(zero_value, 0.0, 1.0)
        negated = 0.0 if zero_value is None else zero_value
        size = x.shape[0] * x.shape[1]
        total, there = 0.0, 0
        for values, _ in stored_values(x):
            total, there = total + float(np.sum(values)), there + len(values)
        mean = (total + (size - there) * negated) / size
        squares = (size - there) * (negated - mean) ** 2
        for values, _ in stored_values(x):
            squares += float(np.sum((values - mean) ** 2))
        return cls(zero_value, mean, float(np.sqrt(squares / size)) or 1.0)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Scaling:
        """The inverse of `to_dict`."""
        return cls(**values)
