"""The DiT against a NumPy transcription of Peebles & Xie 2023 that shares no code with it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scrdit_jax.config import load_preset
from scrdit_jax.errors import BadConfig
from scrdit_jax.networks import make_network, sincos_positions, timestep_features
from scrdit_jax.networks.dit import DiT, DiTConfig, flops_per_evaluation
from scrdit_jax.networks.unet import UNetConfig

CONFIG = DiTConfig(genes_per_token=5, width=12, depth=2, heads=3, summary_token=True)
GENES, OUTPUTS = 20, 3


@pytest.fixture(scope="module")
def network_and_params(with_random_weights):
    network = DiT(CONFIG, GENES, OUTPUTS)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, GENES)), jnp.ones((1,), jnp.int32))
    return network, with_random_weights(shapes)


def dense(params, x):
    return x @ np.asarray(params["kernel"], np.float64) + np.asarray(params["bias"], np.float64)


def layer_norm(x):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)


def silu(x):
    return x / (1 + np.exp(-x))


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def one_cell(params, cell, t):
    """One cell through the network, loop by loop, in float64."""
    p, width, heads = CONFIG.genes_per_token, CONFIG.width, CONFIG.heads
    frequencies = [10_000 ** (-k / 128) for k in range(128)]
    features = np.array([np.cos(t * f) for f in frequencies] + [np.sin(t * f) for f in frequencies])
    condition = silu(dense(params["timestep_out"], silu(dense(params["timestep_in"], features))))
    tokens = []
    for i in range(GENES // p):
        position = [np.sin(i / 10_000 ** (k / (width // 2))) for k in range(width // 2)]
        position += [np.cos(i / 10_000 ** (k / (width // 2))) for k in range(width // 2)]
        tokens.append(dense(params["patchify"], cell[i * p : (i + 1) * p]) + np.array(position))
    x = np.stack([dense(params["summarise"], cell), *tokens])
    modulations = dense(params["modulation"], condition).reshape(-1, width)
    for depth in range(CONFIG.depth):
        block = jax.tree.map(lambda stacked, depth=depth: stacked[depth], params["blocks"])
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = modulations[6 * depth : 6 * depth + 6]
        q, k, v = np.split(dense(block["qkv"], layer_norm(x) * (1 + scale_a) + shift_a), 3, axis=1)
        attended = np.zeros_like(x)
        size = width // heads
        for head in range(heads):
            columns = slice(head * size, (head + 1) * size)
            for i in range(len(x)):
                weights = np.exp([q[i, columns] @ k[j, columns] / np.sqrt(size) for j in range(len(x))])
                attended[i, columns] = (weights / weights.sum()) @ v[:, columns]
        x = x + gate_a * dense(block["projection"], attended)
        hidden = gelu(dense(block["mlp_in"], layer_norm(x) * (1 + scale_m) + shift_m))
        x = x + gate_m * dense(block["mlp_out"], hidden)
    shift, scale = modulations[-2:]
    x = layer_norm(x) * (1 + scale) + shift
    predicted = dense(params["unpatchify"], x[1:]).ravel() + dense(params["tell"], x[0])
    return predicted.reshape(GENES, OUTPUTS) + np.asarray(params["gene_bias"])


def test_forward_pass_agrees_with_the_slow_loops(network_and_params):
    network, params = network_and_params
    cells = np.random.default_rng(0).normal(size=(3, GENES))
    timesteps = np.array([1, 500, 1000])
    ours = network.apply(params, jnp.asarray(cells, jnp.float32), jnp.asarray(timesteps))
    slow = np.stack([one_cell(params["params"], cell, t) for cell, t in zip(cells, timesteps, strict=True)])
    np.testing.assert_allclose(ours, slow, rtol=2e-4, atol=2e-4)


def test_a_table_of_conditioning_equals_conditioning_each_cell(network_and_params):
    network, params = network_and_params
    cells = jax.random.normal(jax.random.key(1), (4, GENES))
    each = network.apply(params, cells, jnp.full((4,), 37))
    table = network.apply(params, jnp.array([37]), method="modulations")
    np.testing.assert_allclose(network.apply(params, cells, table, method="denoise"), each, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("summary_token", [False, True])
def test_adaln_zero_predicts_zero_before_training(summary_token):
    network = DiT(DiTConfig(genes_per_token=5, width=12, depth=1, heads=3, summary_token=summary_token), GENES)
    cells = jax.random.normal(jax.random.key(1), (2, GENES))
    params = jax.jit(network.init)(jax.random.key(0), cells, jnp.array([1, 2]))
    predicted = network.apply(params, cells, jnp.array([1, 2]))
    assert predicted.shape == cells.shape
    assert not np.any(predicted)


def test_the_papers_network_has_33_9_million_parameters():
    network = DiT(load_preset("paper").network, 2000)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 2000)), jnp.ones((1,), jnp.int32))
    assert round(sum(leaf.size for leaf in jax.tree.leaves(shapes)) / 1e6, 1) == 33.9


@pytest.mark.parametrize("genes", [20, 23, 31])
def test_tokens_that_are_filled_up_and_longer_tokens_of_rare_genes(with_random_weights, genes):
    """Against the same network with the genes cut into tokens here, and zeros put in where a token lacks some."""
    config = DiTConfig(
        genes_per_token=5, fill_tokens=True, rare_share=0.4, genes_per_rare_token=8, width=12, depth=2, heads=3,
        summary_token=True, summary_rank=4,
    )  # fmt: skip
    assert config.gene_multiple == 1
    often = {20: 15, 23: 15, 31: 20}[genes]
    rare = genes - often
    tokens = often // 5, -(-rare // 8)
    network = DiT(config, genes, OUTPUTS)
    cells = np.random.default_rng(1).normal(size=(3, genes)).astype(np.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, genes)), jnp.ones((1,), jnp.int32))
    params = with_random_weights(shapes)
    modulations = network.apply(params, jnp.array([3]), method="modulations")
    found = network.apply(params, cells, modulations, method="denoise")
    assert found.shape == (3, genes, OUTPUTS)
    p = params["params"]
    filled = np.concatenate([cells[:, often:], np.zeros((3, tokens[1] * 8 - rare), np.float32)], axis=1)
    x = [dense(p["patchify"], cells[:, :often].reshape(3, tokens[0], 5))]
    x.append(dense(p["patchify_rare"], filled.reshape(3, tokens[1], 8)))
    x = np.concatenate(x, axis=1) + sincos_positions(sum(tokens), 12)
    x = np.concatenate([dense(p["summarise"], cells)[:, None], x], axis=1).astype(np.float32)
    bound = network.bind(params)
    x = np.asarray(bound._run_blocks(jnp.asarray(x), modulations)).reshape(3, -1, 12)
    expected = [dense(p["unpatchify"], x[:, 1 : 1 + tokens[0]]).reshape(3, -1)]
    expected.append(dense(p["unpatchify_rare"], x[:, 1 + tokens[0] :]).reshape(3, -1)[:, : rare * OUTPUTS])
    expected = np.concatenate(expected, axis=1).reshape(3, genes, OUTPUTS) + np.asarray(p["gene_bias"])
    expected += dense(p["tell"], dense(p["tell_in"], x[:, 0])).reshape(3, genes, OUTPUTS)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)
    attending = sum(tokens) + 1
    blocks = 2 * attending * (12 * 12 * 4 + 2 * 12 * 48 + 2 * attending * 12)
    ends = (tokens[0] * 5 + tokens[1] * 8) * 12 * (1 + OUTPUTS)
    assert flops_per_evaluation(config, genes, OUTPUTS) == 2 * (blocks + ends + genes * (12 + 4 * OUTPUTS) + 12 * 4)


def test_rare_genes_need_tokens_of_their_own():
    with pytest.raises(BadConfig, match="fill_tokens is False; it must be true where there is a rare_share"):
        DiTConfig(rare_share=0.5, genes_per_rare_token=40)
    with pytest.raises(BadConfig, match="genes_per_rare_token is None"):
        DiTConfig(rare_share=0.5, fill_tokens=True)


def test_embeddings_distinguish_every_timestep_and_position():
    features = np.asarray(timestep_features(jnp.arange(1, 1001), 256))
    positions = sincos_positions(200, 768)
    for codes in (features, positions):
        assert len(np.unique(codes.round(4), axis=0)) == len(codes)


def test_flops_are_the_papers_and_the_compilers():
    assert flops_per_evaluation(load_preset("paper").network, 2000) == pytest.approx(8.87e9, rel=0.005)
    network = DiT(DiTConfig(genes_per_token=5, width=64, depth=1, heads=2, summary_token=True), 200, 3)
    params = jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, 200)), jnp.ones((1,), jnp.int32))
    modulations = jnp.zeros((1, 8, 64))
    denoise = jax.jit(lambda x: network.apply(params, x, modulations, method="denoise"))
    counted = denoise.lower(jnp.zeros((4, 200))).cost_analysis()["flops"] / 4
    # The compiler counts every addition too.
    assert 1.0 < counted / flops_per_evaluation(network.config, 200, 3) < 1.15


@pytest.mark.parametrize(
    "config", [DiTConfig(genes_per_token=4, width=12, depth=1, heads=3), UNetConfig(heads=3, channels=12)]
)
def test_labels_move_the_modulations_by_their_rows_and_begin_at_nothing(config):
    plain, labelled = make_network(config, 24), make_network(config, 24, labels=(2, 3))
    cells, timesteps = jnp.zeros((2, 24)), jnp.array([3, 9])
    params = jax.jit(labelled.init)(jax.random.key(0), cells, timesteps)
    rows = params["params"].pop("label_embeddings")
    assert rows.shape == (2 + 1 + 3 + 1, params["params"]["timestep_out"]["bias"].size)
    params["params"]["modulation"]["kernel"] = jnp.ones_like(params["params"]["modulation"]["kernel"])
    expected = plain.apply(params, timesteps, method="modulations")
    params["params"]["label_embeddings"] = rows
    labels = jnp.array([[1, 0], [-1, 2]])
    np.testing.assert_array_equal(labelled.apply(params, timesteps, labels, method="modulations"), expected)
    # Cell 0 has rows 1 and 3, cell 1 rows 2 (no label) and 5; no other row matters.
    for row, cell in ((1, 0), (3, 0), (2, 1), (5, 1), (0, None), (4, None), (6, None)):
        params["params"]["label_embeddings"] = rows.at[row].add(0.5)
        moved = np.asarray(labelled.apply(params, timesteps, labels, method="modulations") != expected)
        assert [i for i in range(2) if moved[i].any()] == ([] if cell is None else [cell])
    params["params"]["label_embeddings"] = rows.at[jnp.array([2, 6])].add(0.5)
    np.testing.assert_array_equal(
        labelled.apply(params, timesteps, method="modulations"),
        labelled.apply(params, timesteps, jnp.full((2, 2), -1), method="modulations"),
    )


@pytest.mark.parametrize(
    "config", [DiTConfig(genes_per_token=4, width=12, depth=1, heads=3), UNetConfig(heads=3, channels=12)]
)
def test_states_move_their_own_cells_modulations_and_begin_at_nothing(config, with_random_weights):
    plain, network = make_network(config, 24), make_network(config, 24, states=3)
    cells, timesteps = jnp.zeros((3, 24)), jnp.array([3, 9, 9])
    states = jnp.array([[0.5, -1.0, 2.0], [0.0, 0.3, -0.2], [jnp.nan] * 3])
    begun = jax.jit(network.init)(jax.random.key(0), cells, timesteps)["params"]
    random = with_random_weights(begun)

    def modulations(params, *states, of=network):
        return np.asarray(of.apply({"params": params}, timesteps, *states, method="modulations"))

    without = {name: leaf for name, leaf in random.items() if name not in ("state_in", "state_out")}
    expected = modulations(without, of=plain)
    silent = random | {"state_out": begun["state_out"]}
    np.testing.assert_array_equal(modulations(silent, None, states), expected)
    found = modulations(random, None, states)
    assert [(found[i] != expected[i]).any() for i in range(3)] == [True, True, False]
    np.testing.assert_array_equal(modulations(random), expected)
    # Each number of a state has its say, and in no other cell.
    for i in range(3):
        moved = modulations(random, None, states.at[0, i].add(0.5))
        assert (moved[0] != found[0]).any()
        np.testing.assert_array_equal(moved[1:], found[1:])
