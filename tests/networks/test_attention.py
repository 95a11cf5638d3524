"""The kernel for TPUs, as an interpreter runs it, against JAX's own attention; the network as each device runs it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas

from scrdit_jax.networks import attend, padded_tokens
from scrdit_jax.networks.dit import DiT, DiTConfig


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
    """A kernel as plain operations, on this machine."""
    monkeypatch.setattr(pallas, "pallas_call", partial(pallas.pallas_call, interpret=True))


# Heads that begin with a register and that lie across two, widths that fill registers and that do not.
SHAPES = [(384, 4, 16, 11), (192, 6, 8, 8), (96, 2, 8, 5)]


def own(qkv, heads, keys):
    """XLA's, of the first `keys` tokens alone."""
    cells, tokens, threefold = qkv.shape
    q, k, v = jnp.split(qkv.reshape(cells, tokens, 3 * heads, -1), 3, axis=2)
    return jax.nn.dot_product_attention(q, k[:, :keys], v[:, :keys]).reshape(cells, tokens, threefold // 3)


@pytest.mark.parametrize(("width", "heads", "tokens", "keys"), SHAPES)
def test_the_kernel_agrees_with_attention_and_its_gradient(width, heads, tokens, keys):
    qkv = 2 * jax.random.normal(jax.random.key(0), (2, tokens, 3 * width))
    gradient = jax.random.normal(jax.random.key(1), (2, tokens, width))
    found, backwards = jax.vjp(lambda x: attend(x, heads, keys, "pallas"), qkv)
    found_gradient = backwards(gradient)[0]
    expected, backwards = jax.vjp(lambda x: own(x, heads, keys), qkv)
    np.testing.assert_allclose(found, expected, atol=3e-5)
    np.testing.assert_allclose(found_gradient, backwards(gradient)[0], atol=1e-4)


def test_in_bfloat16_scores_and_sums_are_float32():
    # 40 equal keys and one that is better by 12: a sum of weights in bfloat16 would not see most of them.
    qkv = np.zeros((1, 48, 3 * 128), np.float32)
    qkv[0, :, :128], qkv[0, :40, 128:256], qkv[0, 40, 128:256] = 1, 0.1, 0.1 + 12 / 128**0.5
    qkv[0, :41, 256:] = np.linspace(0, 1, 41)[:, None]
    qkv = jnp.asarray(qkv, jnp.bfloat16)
    found = attend(qkv, 1, 41, "pallas")
    exact = own(qkv.astype(jnp.float32), 1, 41)
    np.testing.assert_allclose(found.astype(np.float32), exact, rtol=2**-7)


def test_tokens_are_padded_where_the_device_wants_it():
    assert padded_tokens(201, "xla") == 201
    assert padded_tokens(201, "cudnn") == padded_tokens(201, "pallas") == 208
    assert padded_tokens(200, "cudnn") == 200


@pytest.fixture
def cudnn_by_xla(monkeypatch):
    """What is asked of cuDNN is done by XLA, with the same arguments; this machine has no GPU."""
    attention, asked = jax.nn.dot_product_attention, []

    def instead(*args, implementation=None, **options):
        asked.append(implementation)
        return attention(*args, **options)

    monkeypatch.setattr(jax.nn, "dot_product_attention", instead)
    return asked


@pytest.mark.slow
@pytest.mark.parametrize(("implementation", "summary"), [("cudnn", True), ("cudnn", False), ("pallas", True)])
def test_the_network_predicts_the_same_however_a_device_computes_it(
    with_random_weights, cudnn_by_xla, implementation, summary
):
    """Padded tokens, products apart, folded gates, another form of the norm: the same function, and gradient."""
    config = DiTConfig(genes_per_token=4, width=24, depth=1, heads=3, summary_token=summary)
    plain = DiT(config, 32, 2)
    params = with_random_weights(jax.eval_shape(plain.init, jax.random.key(0), jnp.zeros((1, 32)), jnp.ones(1, int)))
    cells = jax.random.normal(jax.random.key(2), (3, 32))

    def loss(params, network, timesteps):
        return jnp.sum(jnp.sin(network.apply(params, cells, timesteps)))

    # A timestep for each cell, as in training, and one that all share, as in sampling.
    for timesteps in (jnp.array([3, 500, 900]), jnp.array([500])):
        expected, gradient = jax.value_and_grad(loss)(params, plain, timesteps)
        found, found_gradient = jax.value_and_grad(loss)(params, plain.clone(attention=implementation), timesteps)
        np.testing.assert_allclose(found, expected, rtol=2e-5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4, rtol=2e-3), found_gradient, gradient)
    assert (implementation in cudnn_by_xla) == (implementation == "cudnn")
