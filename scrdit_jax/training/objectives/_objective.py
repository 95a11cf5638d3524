"""What an objective is; see the package."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ...diffusion.predictions import Prediction


class Teacher(NamedTuple):
    """A trained model that does not change: what its outputs mean, and `predict` (noisy cells, timesteps (cell,)).

    Its network is given the labels that the network in training is given. `alpha_bars` are those of timesteps 0 to T.
    """

    prediction: Prediction
    predict: Callable[[jax.Array, jax.Array], jax.Array]
    alpha_bars: jax.Array


class NoisedBatch(NamedTuple):
    """Cells at noise levels, and what the network predicts for them.

    `clean`, `noise` and `noisy` are (cell, gene), `timesteps` (cell,), `alpha_bar` (cell, 1); `predicted` is the
    network's output for the noisy cells; `teacher` is there where the objective has one.
    """

    clean: jax.Array
    noise: jax.Array
    noisy: jax.Array
    timesteps: jax.Array
    alpha_bar: jax.Array
    predicted: jax.Array
    teacher: Teacher | None = None


class Start(NamedTuple):
    """What initial parameters can be made from: the prediction, a function that has `data.marginals.gene_marginals` of
    the training cells, and the teacher's parameters where there is a teacher."""

    prediction: Prediction
    marginals: Callable[[], np.ndarray]
    teacher_params: Any = None


def start_at_marginals(params: Any, start: Start) -> Any:
    """Fresh `params`, but for the bias of each gene, which is what the prediction makes of the marginals."""
    if "gene_bias" not in params["params"]:
        return params
    bias = start.prediction.initial_bias(start.marginals())
    return params if bias is None else {"params": params["params"] | {"gene_bias": jnp.asarray(bias, jnp.float32)}}


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What training makes small, and what it asks for.

    `loss` (prediction, batch) is a number a cell, (cell,), whose mean is minimised. `fits` says of a class of
    predictions whether it can be trained so. `initial_params` (fresh params, Start) are the params training begins
    with. One that `needs_teacher` is trained with a run as its teacher (`TrainingConfig.teacher`). Where divergence is
    looked for, a usual loss counts as `least_loss` at least, as one that is a likelihood may be near 0.
    """

    loss: Callable[[Prediction, NoisedBatch], jax.Array]
    fits: Callable[[type[Prediction]], bool] = lambda prediction: True
    initial_params: Callable[[Any, Start], Any] = start_at_marginals
    needs_teacher: bool = False
    least_loss: float = 0.0
