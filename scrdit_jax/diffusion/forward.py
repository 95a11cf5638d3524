"""The forward process and the change of variables between what a network predicts and clean cells.

Every function takes `alpha_bar` shaped (cell, 1) or (1, 1) against (cell, gene) arrays; float32; NumPy or JAX.
"""

from __future__ import annotations


def add_noise(clean, noise, alpha_bar):
    """x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps   (scRDiT eq. 9; Ho et al. 2020, eq. 4)."""
    return alpha_bar**0.5 * clean + (1 - alpha_bar) ** 0.5 * noise


def training_target(prediction: str, clean, noise, alpha_bar):
    """What the network is asked for: eps (eq. 10), or v = sqrt(abar) eps - sqrt(1 - abar) x_0 (Salimans & Ho 2022)."""
    if prediction == "epsilon":
        return noise
    return alpha_bar**0.5 * noise - (1 - alpha_bar) ** 0.5 * clean


def clean_from_prediction(prediction: str, noisy, predicted, alpha_bar):
    """Predicted x_0: (x_t - sqrt(1 - abar) eps) / sqrt(abar)  (in eq. 11), or sqrt(abar) x_t - sqrt(1 - abar) v."""
    if prediction == "epsilon":
        return (noisy - (1 - alpha_bar) ** 0.5 * predicted) / alpha_bar**0.5
    return alpha_bar**0.5 * noisy - (1 - alpha_bar) ** 0.5 * predicted
