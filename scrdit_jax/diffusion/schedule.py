"""Betas and alpha-bars on the host in float64 (scRDiT eq. 2 to 5), and how training draws timesteps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..config import DiffusionConfig, TrainingConfig


class NoiseSchedule(NamedTuple):
    """`alpha_bars[t]` for t = 0..T, float64, shape (T + 1,): 1 at t = 0 and strictly falling; T = `timesteps`."""

    alpha_bars: np.ndarray

    @property
    def timesteps(self) -> int:
        """T."""
        return len(self.alpha_bars) - 1

    @property
    def log_snr(self) -> np.ndarray:
        """log(abar_t / (1 - abar_t)) for t = 1..T, shape (T,), falling."""
        alpha_bars = self.alpha_bars[1:]
        return np.log(alpha_bars) - np.log1p(-alpha_bars)


def linear_schedule(config: DiffusionConfig) -> NoiseSchedule:
    """beta_t rises linearly from beta_start to beta_end; abar_t = prod_{i<=t} (1 - beta_i)  (eq. 3, 5)."""
    betas = np.linspace(config.beta_start, config.beta_end, config.timesteps, dtype=np.float64)
    return NoiseSchedule(np.concatenate([[1.0], np.cumprod(1.0 - betas)]))


def timestep_probabilities(schedule: NoiseSchedule, config: TrainingConfig) -> np.ndarray:
    """P(t) for t = 1..T that training draws from, float64, shape (T,), summing to 1.

    Uniform as in the paper (section 2.4); or, with `log_snr_mean` and `log_snr_std`, the density of that normal
    over log-SNR times the log-SNR interval that timestep t stands for, cut off where the schedule ends.
    """
    if config.log_snr_mean is None or config.log_snr_std is None:
        return np.full(schedule.timesteps, 1.0 / schedule.timesteps)
    log_snr = schedule.log_snr
    edges = np.concatenate([log_snr[:1], (log_snr[:-1] + log_snr[1:]) / 2, log_snr[-1:]])
    exponents = -0.5 * ((log_snr - config.log_snr_mean) / config.log_snr_std) ** 2
    # Relative to the largest: a normal that misses the schedule must not underflow everywhere.
    weights = np.exp(exponents - np.max(exponents)) * -np.diff(edges)
    return weights / weights.sum()
