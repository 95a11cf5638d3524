"""The forward process. `alpha_bar` is (cell, 1) or (1, 1) against (cell, gene) arrays; float32; NumPy or JAX."""

from __future__ import annotations


def add_noise(clean, noise, alpha_bar):
    """x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps   (scRDiT eq. 9; Ho et al. 2020, eq. 4)."""
    return alpha_bar**0.5 * clean + (1 - alpha_bar) ** 0.5 * noise
