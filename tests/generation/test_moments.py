"""Moments of a gene's expression are those of what is drawn for it, whatever the prediction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scrdit_jax.checkpoint import load_model
from scrdit_jax.config import SamplingConfig
from scrdit_jax.data.scaling import Scaling
from scrdit_jax.diffusion.predictions import PREDICTIONS, Numbers, make_prediction
from scrdit_jax.generation import moments
from scrdit_jax.generation.engine import make_engine

SCALE = Scaling(-2.0, 0.0, 1.0, ((0.1, 6.0),) * 6, tuple(map(tuple, np.linspace(0.3, 4.0, 5) + np.zeros((6, 1)))))
# Where the outputs have the Gaussians' means and log-deviations.
GAUSSIANS = {"zero-inflated": (slice(1, 2), slice(2, 3)), "mixture": (slice(4, 7), slice(7, 10))}
DRAWN = sorted(name for name in PREDICTIONS if PREDICTIONS[name].is_distribution)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n == "negative-binomial" else n for n in DRAWN]
)
def test_points_average_to_what_is_drawn(name):
    """10,000 draws of each of six genes, from all but noise."""
    cells, genes, level = 10_000, 6, jnp.full((1, 1), 0.01)
    prediction = make_prediction(name, SCALE).for_cells(jnp.zeros(cells))
    outputs = jax.random.normal(jax.random.key(1), (1, genes, prediction.outputs)) * 0.7
    if name in GAUSSIANS:  # values and deviations as trained models have them
        means, deviations = GAUSSIANS[name]
        outputs = outputs.at[..., means].add(1.5).at[..., deviations].add(-1.0)
    noisy = jnp.broadcast_to(jax.random.normal(jax.random.key(2), (1, genes)), (cells, genes))
    predicted = jnp.broadcast_to(outputs, (cells, genes, prediction.outputs))
    keys = jax.random.split(jax.random.key(3), cells)
    drawn = np.expm1(np.asarray(SCALE.unscale(prediction.draw(noisy, predicted, level, keys)), np.float64))
    one = make_prediction(name, SCALE).for_cells(jnp.zeros(1))
    expressed = one.probability(noisy[:1], predicted[:1], level)
    # A value of a Gaussian that is nearer to where zeros are is one.
    assert np.all(np.mean(drawn > 0, axis=0) <= np.asarray(expressed[0]) + 0.02)
    values = []
    for share, normal in moments._points():
        numbers = Numbers(expressed * share, jnp.full_like(expressed, normal))
        values.append(np.expm1(SCALE.unscale(one.draw(noisy[:1], predicted[:1], level, numbers))[0]))
    mean = np.asarray(expressed[0]) * np.mean(values, axis=0)
    np.testing.assert_allclose(mean, drawn.mean(axis=0), rtol=0.15)


def test_they_are_those_of_the_cell_whatever_the_batch(labelled_run):
    model = load_model(labelled_run)
    small, large = (make_engine(model, SamplingConfig(batch_size=size, seed=4)) for size in (4, 16))
    wanted = moments.expression_moments(large, 0)
    for first in (4, 8):
        found = moments.expression_moments(small, first)
        np.testing.assert_allclose(found.mean, wanted.mean[first : first + 4], rtol=1e-3)
        np.testing.assert_allclose(found.square, wanted.square[first : first + 4], rtol=1e-3)
    assert np.all(wanted.square >= wanted.mean**2 * (1 - 1e-5))
    other = moments.expression_moments(make_engine(model, SamplingConfig(batch_size=16, seed=5)), 0)
    assert not np.allclose(other.mean, wanted.mean)
