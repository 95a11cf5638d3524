"""The network predicts the noise (scRDiT eq. 10; Ho et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass

from ._prediction import PointPrediction


@dataclass(frozen=True)
class Epsilon(PointPrediction):
    """The noise (scRDiT eq. 10)."""

    def clean(self, noisy, predicted, alpha_bar):
        """(x_t - sqrt(1 - abar) eps) / sqrt(abar), as in eq. 11."""
        return (noisy - (1 - alpha_bar) ** 0.5 * predicted) / alpha_bar**0.5

    def error(self, clean, noise, noisy, predicted, alpha_bar):
        """The difference from eps (eq. 10)."""
        return predicted - noise


PREDICTION = Epsilon
