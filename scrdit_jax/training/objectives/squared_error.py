"""The squared error of what is predicted (scRDiT eq. 10)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ...diffusion.predictions import Prediction
from ._objective import NoisedBatch, Objective


def squared_error(prediction: Prediction, batch: NoisedBatch) -> jax.Array:
    """Each cell's mean over its genes, (cell,)."""
    error = prediction.error(batch.clean, batch.noise, batch.noisy, batch.predicted, batch.alpha_bar)
    return jnp.mean(error**2, axis=1)


OBJECTIVE = Objective(loss=squared_error)
