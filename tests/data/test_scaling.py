import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse

from scrdit_jax.data.quantiles import gene_quantiles
from scrdit_jax.data.scaling import Scaling, negate_zeros, restore_zeros
from scrdit_jax.io import checking


@pytest.fixture
def expression() -> np.ndarray:
    random = np.random.default_rng(5)
    matrix = random.gamma(1.0, 2.0, size=(40, 30)).astype(np.float32)
    return matrix * (random.random((40, 30)) < 0.3)


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_zero_negation_and_its_inverse_are_exact(expression, array):
    negated = negate_zeros(array(expression), -10.0)
    assert negated.dtype == np.float32
    assert bool((negated == -10).sum() == (expression == 0).sum())
    restored = restore_zeros(negated)
    assert restored.dtype == np.float32
    assert np.asarray(restored).tobytes() == expression.tobytes()


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_restoring_cuts_negatives_and_keeps_nan(array):
    np.testing.assert_array_equal(restore_zeros(array(np.float32([-3, -0.0, 0.5, np.nan]))), [0, 0, 0.5, np.nan])


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
@pytest.mark.parametrize("zero_value", [-10.0, -1.0, None])
@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("clip", [True, False])
def test_unscale_inverts_scale(expression, array, zero_value, standardize, clip):
    fitted = Scaling.fit(expression, zero_value, standardize, clip=clip)
    scaled = fitted.scale(array(expression))
    back = fitted.unscale(scaled)
    assert scaled.dtype == back.dtype == np.float32
    np.testing.assert_allclose(back, expression, atol=1e-5)
    if zero_value is not None:
        assert np.all(np.asarray(back)[expression == 0] == 0)


def test_scaling_inside_jit(expression):
    fitted = Scaling.fit(expression, -10.0, True)
    scaled = jax.jit(fitted.scale)(expression)
    np.testing.assert_allclose(scaled, fitted.scale(expression), rtol=1e-6)
    np.testing.assert_allclose(jax.jit(fitted.unscale)(scaled), expression, atol=1e-5)
    assert fitted.scale(jnp.asarray(expression, jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("zero_value", [-10.0, None])
def test_fit_against_a_slow_loop(expression, form, zero_value, monkeypatch):
    monkeypatch.setattr(checking, "ROWS_PER_BLOCK", 7)
    values = [float(v) if v != 0 or zero_value is None else zero_value for v in expression.ravel()]
    mean = sum(values) / len(values)
    std = np.sqrt(sum((v - mean) ** 2 for v in values) / len(values))
    fitted = Scaling.fit(form(expression), zero_value, True)
    np.testing.assert_allclose([fitted.mean, fitted.std], [mean, std], rtol=1e-12)


def test_fit_of_the_paper_and_of_constant_cells(expression):
    assert Scaling.fit(expression, -10.0, False) == Scaling(-10.0, 0.0, 1.0)
    assert Scaling.fit(np.full((3, 2), 4, np.float32), -10.0, True) == Scaling(-10.0, 4.0, 1.0)


@pytest.mark.parametrize("clip", [True, False])
def test_json_round_trip(expression, clip):
    fitted = Scaling.fit(expression, -10.0, True, clip=clip)
    binned = replace(fitted, quantiles=gene_quantiles(sparse.csr_matrix(expression), 4))
    for scaling in (fitted, binned):
        back = Scaling.from_dict(json.loads(json.dumps(scaling.to_dict())))
        assert back == scaling
        assert hash(back) == hash(scaling)
    earlier = {name: value for name, value in fitted.to_dict().items() if name != "quantiles"}
    assert Scaling.from_dict(earlier) == fitted


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
def test_ranges_are_those_of_the_expressed_values_of_each_gene(expression, form, monkeypatch):
    monkeypatch.setattr(checking, "ROWS_PER_BLOCK", 7)
    expression[:, 3] = 0
    ranges = Scaling.fit(form(expression), -10.0, True, clip=True).ranges
    for gene, (least, greatest) in zip(expression.T, ranges, strict=True):
        expressed = [float(value) for value in gene if value > 0] or [0.0]
        assert (least, greatest) == (min(expressed), max(expressed))
    assert Scaling.fit(form(expression), -10.0, True).ranges is None


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_values_are_cut_to_the_range_of_their_gene_and_zeros_are_what_is_nearer_to_zero(array):
    scaling = Scaling(-10.0, 0.0, 2.0, ranges=((0.5, 3.0), (1.0, 2.0), (0.0, 0.0)))
    log_values = np.float32([[-10, -6, 4], [-4, 0.2, -9], [2, 1.5, 0], [9, 99, np.nan]])
    expected = [[0, 0, 0], [0.5, 1, 0], [2, 1.5, 0], [3, 2, np.nan]]
    back = scaling.unscale(array(log_values / 2))
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, expected)
    np.testing.assert_allclose(jax.jit(scaling.unscale)(log_values / 2), expected)
