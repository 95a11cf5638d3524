"""The network predicts v, between noise and clean cells (Salimans & Ho 2022)."""

from __future__ import annotations

from dataclasses import dataclass

from ._prediction import PointPrediction


@dataclass(frozen=True)
class Velocity(PointPrediction):
    """v = sqrt(abar) eps - sqrt(1 - abar) x_0 (Salimans & Ho 2022)."""

    def clean(self, noisy, predicted, alpha_bar):
        """sqrt(abar) x_t - sqrt(1 - abar) v."""
        return alpha_bar**0.5 * noisy - (1 - alpha_bar) ** 0.5 * predicted

    def error(self, clean, noise, noisy, predicted, alpha_bar):
        """The difference from v."""
        return predicted - (alpha_bar**0.5 * noise - (1 - alpha_bar) ** 0.5 * clean)


PREDICTION = Velocity
