"""Counts by inversion, against SciPy's quantile functions."""

import numpy as np
import pytest
from scipy import stats

from scrdit_jax.simulation import quantiles


@pytest.fixture
def random():
    return np.random.default_rng(4)


def test_binomial(random):
    trials = random.integers(1, 3000, 4000).astype(float)
    trials[:2000] = random.integers(1, 8, 2000)
    probability, uniform = random.uniform(0.001, 0.999, 4000), random.random(4000)
    found = quantiles.binomial(uniform, trials, probability)
    np.testing.assert_array_equal(found, stats.binom.ppf(uniform, trials, probability))
    assert np.all(found <= trials)


def test_negative_binomial(random):
    shape, mean = random.choice([0.01, 0.5, 3.0, 1e6], 4000), np.exp(random.normal(-1, 3, 4000))
    uniform = random.random(4000)
    found = quantiles.negative_binomial(uniform, shape, mean)
    wanted = stats.nbinom.ppf(uniform, shape, shape / (shape + mean))
    # Where a uniform number is within rounding of a step of the distribution, either side of it is right.
    assert np.mean(found != wanted) < 1e-3
    np.testing.assert_allclose(found, wanted, atol=1)


def test_poisson(random):
    mean, uniform = np.exp(random.normal(-2, 3, 4000)), random.random(4000)
    np.testing.assert_array_equal(quantiles.poisson(uniform, mean), stats.poisson.ppf(uniform, mean))
    assert quantiles.poisson(np.array([0.9999]), np.array([0.0])) == 0


def test_none_is_none():
    empty = np.zeros(0)
    assert quantiles.poisson(empty, empty).shape == quantiles.binomial(empty, empty, empty).shape == (0,)
