"""The PyTorch peer is the same network and sampler; scripts/test --peers installs PyTorch and runs this."""

import jax
import numpy as np
import pytest

from scrdit_jax.checkpoint import load_model
from scrdit_jax.config import SamplingConfig
from scrdit_jax.data.scaling import Scaling
from scrdit_jax.diffusion.predictions import make_prediction
from scrdit_jax.generation.engine import make_engine

pytestmark = pytest.mark.peers


@pytest.mark.parametrize("solver", ["dpmpp-2m", "unipc", "ddim"])
def test_the_peer_makes_the_same_cells_from_the_same_noise(tiny_run, solver):
    from benchmarks.speed import pytorch, torch_dit

    model = load_model(tiny_run)
    engine = make_engine(model, SamplingConfig(solver=solver, steps=6, batch_size=8), devices=jax.local_devices()[:1])
    prediction = make_prediction(model.config.diffusion.prediction, model.metadata.scaling)
    network = torch_dit.load_params(torch_dit.DiT(model.config.network, 24, prediction.outputs), model.params)
    theirs = torch_dit.sample(
        network, network, prediction, model.metadata.scaling, engine.coefficients, pytorch.start_of(engine, 24, 8)
    )
    np.testing.assert_allclose(theirs, engine.fetch(engine.dispatch(0), 0, 8), atol=1e-4)


@pytest.mark.parametrize("name", ["mixture", "zero-inflated"])
def test_the_peer_has_the_same_posterior_mean(name):
    import torch

    from benchmarks.speed import torch_dit

    prediction = make_prediction(name, Scaling(-10.0, -8.0, 4.0))
    random = np.random.default_rng(0)
    noisy = random.normal(0, 2, (3, 40)).astype(np.float32)
    predicted = random.normal(0, 2, (3, 40, prediction.outputs)).astype(np.float32)
    for alpha_bar in (0.01, 0.6, 0.999):
        level = np.full((1, 1), alpha_bar, np.float32)
        theirs = torch_dit.clean(prediction, torch.tensor(noisy), torch.tensor(predicted), alpha_bar)
        np.testing.assert_allclose(theirs, prediction.clean(noisy, predicted, level), rtol=1e-3, atol=1e-3)
