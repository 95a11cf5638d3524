"""The UNet against a NumPy transcription that shares no code with it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scrdit_jax.config import RunConfig, load_preset
from scrdit_jax.errors import BadConfig
from scrdit_jax.networks import flops_per_evaluation, make_network
from scrdit_jax.networks.unet import UNetConfig

CONFIG = UNetConfig(channels=6, heads=3)
GENES, OUTPUTS = 24, 3


@pytest.fixture(scope="module")
def initialised():
    network = make_network(CONFIG, GENES, OUTPUTS)
    return network, jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, GENES)), jnp.ones((1,), jnp.int32))


@pytest.fixture(scope="module")
def network_and_params(initialised, with_random_weights):
    network, params = initialised
    return network, with_random_weights(params)


def dense(params, x):
    return x @ np.asarray(params["kernel"], np.float64) + np.asarray(params["bias"], np.float64)


def silu(x):
    return x / (1 + np.exp(-x))


def convolve(params, x):
    """(position, channel), three wide, zeros beyond both ends."""
    kernel, padded = np.asarray(params["kernel"], np.float64), np.pad(x, ((1, 1), (0, 0)))
    return np.stack([sum(padded[i + k] @ kernel[k] for k in range(3)) for i in range(len(x))]) + np.asarray(
        params["bias"]
    )


def group_norm(params, x, groups):
    out = np.empty_like(x)
    for columns in np.split(np.arange(x.shape[1]), groups):
        part = x[:, columns]
        out[:, columns] = (part - part.mean()) / np.sqrt(part.var() + 1e-6)
    return out * np.asarray(params["scale"]) + np.asarray(params["bias"])


def block(params, x, shift):
    groups = {6: 6, 12: 6, 24: 8, 48: 8, 18: 6, 36: 6, 72: 8}
    h = convolve(params["convolution_in"], silu(group_norm(params["norm_in"], x, groups[x.shape[1]])))
    h = silu(group_norm(params["norm_out"], h + shift, groups[h.shape[1]]))
    h = convolve(params["convolution_out"], h)
    return h + (dense(params["skip"], x) if "skip" in params else x)


def attend(params, x, heads):
    groups = {12: 6, 24: 8, 48: 8}
    q, k, v = np.split(dense(params["qkv"], group_norm(params["norm"], x, groups[x.shape[1]])), 3, axis=1)
    out, size = np.zeros_like(x), x.shape[1] // heads
    for head in range(heads):
        columns = slice(head * size, (head + 1) * size)
        weights = np.exp(q[:, columns] @ k[:, columns].T / np.sqrt(size))
        out[:, columns] = weights / weights.sum(1, keepdims=True) @ v[:, columns]
    return x + dense(params["projection"], out)


def one_cell(params, cell, t):
    frequencies = [10_000 ** (-k / 128) for k in range(128)]
    features = np.array([np.cos(t * f) for f in frequencies] + [np.sin(t * f) for f in frequencies])
    condition = silu(dense(params["timestep_out"], silu(dense(params["timestep_in"], features))))
    shifts = np.split(dense(params["modulation"], condition), np.cumsum([6, 12, 24, 48, 48, 24, 12]))
    x = block(params["blocks_0"], convolve(params["convolution_in"], cell[:, None]), shifts[0])
    across = []
    for level in range(3):
        across.append(x)
        halved = (x[0::2] + x[1::2]) / 2
        x = attend(params[f"attentions_{level}"], block(params[f"blocks_{level + 1}"], halved, shifts[level + 1]), 3)
    x = block(params["blocks_4"], x, shifts[4])
    for step, level in enumerate((2, 1, 0)):
        x = np.concatenate([np.repeat(x, 2, axis=0), across[level]], axis=1)
        x = block(params[f"blocks_{5 + step}"], x, shifts[5 + step])
        if level:
            x = attend(params[f"attentions_{3 + step}"], x, 3)
    return convolve(params["convolution_out"], silu(group_norm(params["norm"], x, 1))) + np.asarray(params["gene_bias"])


def test_forward_pass_agrees_with_the_slow_loops(network_and_params):
    network, params = network_and_params
    cells = np.random.default_rng(0).normal(size=(3, GENES))
    timesteps = np.array([1, 500, 1000])
    ours = jax.jit(network.apply)(params, jnp.asarray(cells, jnp.float32), jnp.asarray(timesteps))
    slow = np.stack([one_cell(params["params"], cell, t) for cell, t in zip(cells, timesteps, strict=True)])
    assert ours.shape == (3, GENES, OUTPUTS)
    np.testing.assert_allclose(ours, slow, rtol=1e-3, atol=1e-3)


def test_a_table_of_conditioning_equals_conditioning_each_cell(network_and_params):
    network, params = network_and_params
    cells = jax.random.normal(jax.random.key(1), (4, GENES))
    each = jax.jit(network.apply)(params, cells, jnp.full((4,), 37))
    table = network.apply(params, jnp.array([37]), method="modulations")
    np.testing.assert_allclose(
        jax.jit(partial(network.apply, method="denoise"))(params, cells, table), each, rtol=1e-5, atol=1e-5
    )


def test_it_has_64_to_512_channels():
    network = make_network(UNetConfig(), 2000)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 2000)), jnp.ones((1,), jnp.int32))
    channels = [shapes["params"][f"blocks_{i}"]["convolution_in"]["kernel"].shape[-1] for i in range(8)]
    assert channels == [64, 128, 256, 512, 512, 256, 128, 64]


def test_it_predicts_zero_before_training(initialised):
    network, params = initialised
    cells, timesteps = jax.random.normal(jax.random.key(1), (3, GENES)), jnp.array([1, 500, 900])
    assert not np.any(jax.jit(network.apply)(params, cells, timesteps))
    # By its last layer alone: what comes before it is no network of zeros.
    last = {"kernel": jnp.ones((3, CONFIG.channels, OUTPUTS)), "bias": jnp.zeros(OUTPUTS)}
    predicted = jax.jit(network.apply)({"params": params["params"] | {"convolution_out": last}}, cells, timesteps)
    assert np.all(np.abs(predicted).max(axis=(1, 2)) > 1e-2)


def test_flops_are_the_compilers():
    network = make_network(UNetConfig(channels=16), 400)
    params = jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, 400)), jnp.ones((1,), jnp.int32))
    table = network.apply(params, jnp.ones((1,), jnp.int32), method="modulations")
    denoise = jax.jit(lambda x: network.apply(params, x, table, method="denoise"))
    counted = denoise.lower(jnp.zeros((4, 400))).cost_analysis()["flops"] / 4
    # The compiler counts every addition too, and there are norms.
    assert 1.0 < counted / flops_per_evaluation(network) < 1.25


def test_what_it_cannot_be_is_refused():
    with pytest.raises(BadConfig, match="heads \\(5\\) divide"):
        UNetConfig(channels=64, heads=5)
    with pytest.raises(BadConfig, match="one of dit, unet"):
        RunConfig.from_dict({"network": {"architecture": "gan"}})
    with pytest.raises(BadConfig, match="multiple of 8 genes, not 2001"):
        make_network(UNetConfig(), 2001)
    assert load_preset("paper").network.gene_multiple == 10
