"""Minus the log-likelihood of the clean cells, for predictions that are distributions."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ...diffusion.predictions import Prediction
from ._objective import NoisedBatch, Objective


def likelihood(prediction: Prediction, batch: NoisedBatch) -> jax.Array:
    """-log p(x_0 | x_t) of each cell in nats, averaged over its genes, (cell,); it may be negative."""
    return -jnp.mean(prediction.log_likelihood(batch.clean, batch.noisy, batch.predicted, batch.alpha_bar), axis=1)


OBJECTIVE = Objective(loss=likelihood, fits=lambda prediction: prediction.is_distribution, least_loss=0.1)
