"""Weights of a PyTorch DiT with the paper's names against what PyTorch computed with them (made once, committed)."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

import scrdit_jax as scrdit
from scrdit_jax import cli
from scrdit_jax.checkpoint import load_model
from scrdit_jax.errors import BadConfig, BadInput, GeneMismatch, OutputExists
from scrdit_jax.importing.reference import reference_network, reference_params
from scrdit_jax.networks.kinds import make_network

ORACLES = Path(__file__).parent.parent / "oracles"
STATE = ORACLES / "reference_dit.safetensors"
HEADS = 3


@pytest.fixture
def state():
    return load_file(STATE)


def predicted(config, genes, params, cells, timesteps):
    return np.asarray(make_network(config, genes).apply(params, jnp.asarray(cells), jnp.asarray(timesteps)))


def test_the_forward_pass_is_pytorchs(state):
    oracle = np.load(ORACLES / "reference_dit.npz")
    config, genes = reference_network(state, heads=HEADS)
    assert (config.width, config.depth, config.genes_per_token, config.positions, genes) == (24, 2, 5, "sincos", 60)
    ours = predicted(config, genes, reference_params(state, config), oracle["cells"], oracle["timesteps"])
    assert np.abs(oracle["predicted"]).max() > 1  # no network of zeros
    np.testing.assert_allclose(ours, oracle["predicted"], atol=1e-4)


def test_positions_that_were_learned_are_kept(state):
    oracle = np.load(ORACLES / "reference_dit.npz")
    moved = state | {"pos_embed": state["pos_embed"][:, ::-1].copy()}
    config, genes = reference_network(moved, heads=HEADS)
    assert config.positions == "learned"
    ours = predicted(config, genes, reference_params(moved, config), oracle["cells"], oracle["timesteps"])
    assert np.abs(ours - oracle["predicted"]).max() > 1e-2
    # Tokens have no order but by their codes: cells and codes turned round give the prediction turned round.
    turned = oracle["cells"].reshape(6, 12, 5)[:, ::-1].reshape(6, 60)
    ours = predicted(config, genes, reference_params(moved, config), turned, oracle["timesteps"])
    wanted = oracle["predicted"].reshape(6, 12, 5)[:, ::-1].reshape(6, 60)
    np.testing.assert_allclose(ours, wanted, atol=1e-4)


def test_an_imported_run_samples_and_tells_where_it_came_from(tmp_path):
    genes = tmp_path / "genes.txt"
    genes.write_text("".join(f"GENE{j}\n" for j in range(60)))
    out = tmp_path / "run"
    command = ["import-torch", str(STATE), "--out", str(out), "--heads", "3", "--genes", str(genes)]
    result = CliRunner().invoke(cli.main, command)
    assert result.exit_code == 0, result.output
    assert "60 genes" in result.output and "reference_dit.safetensors" in result.output
    model, oracle = load_model(out), np.load(ORACLES / "reference_dit.npz")
    ours = predicted(model.config.network, 60, model.params, oracle["cells"], oracle["timesteps"] + 1)
    np.testing.assert_allclose(ours, oracle["predicted"], atol=1e-4)
    cells = scrdit.sample(out, 5, solver="ddim", eta=1.0, acceleration=100, schedule="paper")
    assert list(cells.var_names) == genes.read_text().split()
    assert cells.shape == (5, 60) and cells.X.min() >= 0
    assert json.loads(cells.uns["scrdit"]["facts"])["scaling"]["zero_value"] == -10
    with pytest.raises(OutputExists, match="there already"):
        scrdit.import_torch(STATE, out=out, heads=3)


def test_timesteps_are_what_the_weights_were_trained_with(tmp_path):
    """Its t = 989 is the paper's t = 990: the same alpha-bar, another number for it."""
    oracle = np.load(ORACLES / "reference_dit.npz")
    for first in (0, 1):
        run = scrdit.import_torch(STATE, out=tmp_path / f"run{first}", heads=HEADS, first_timestep=first)
        model = load_model(run)
        timesteps = oracle["timesteps"] + 1 - first
        ours = predicted(model.config.network, 60, model.params, oracle["cells"], timesteps)
        np.testing.assert_allclose(ours, oracle["predicted"], atol=1e-4)


def test_what_is_not_the_papers_dit_is_named(state):
    def refused(match, changed, error=BadInput):
        with pytest.raises(error, match=match):
            reference_network(changed, heads=HEADS)

    def without(*names):
        return {name: value for name, value in state.items() if name not in names}

    refused("x_embedder.proj.weight is missing.*blocks.0.adaLN", without("x_embedder.proj.weight"))
    refused("pos_embed is missing", without("pos_embed"))
    refused("1 tensors are missing \\(blocks.1.attn.qkv.bias\\)", without("blocks.1.attn.qkv.bias"))
    refused("1 tensors are not .*y_embedder", state | {"y_embedder.embedding_table.weight": np.zeros((3, 24))})
    wide = state | {"blocks.1.mlp.fc2.weight": np.zeros((24, 90), np.float32)}
    refused("blocks.1.mlp.fc2.weight is \\(24, 90\\).*must be \\(24, 96\\)", wide)
    refused("pos_embed is \\(12, 24\\)", state | {"pos_embed": state["pos_embed"][0]})
    sigma = state | {name: np.concatenate([state[name]] * 2) for name in state if name.startswith("final_layer.linear")}
    refused("final_layer.linear.weight is \\(10, 24\\)", sigma)
    with pytest.raises(BadConfig, match="multiple of heads \\(5\\); --heads says"):
        reference_network(state, heads=5)


def test_bad_files_are_one_line_and_leave_nothing(state, tmp_path):
    whole, out = STATE.read_bytes(), tmp_path / "run"

    def refused(match, content, **options):
        path = tmp_path / "bad.safetensors"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            save_file(content, path)
        with pytest.raises((BadInput, GeneMismatch), match=match) as caught:
            scrdit.import_torch(path, out=out, heads=HEADS, **options)
        assert "\n" not in str(caught.value) and not out.exists()

    refused("cannot be read as .safetensors", whole[:-1000])
    refused("cannot be read as .safetensors", b"PK\x03\x04 no such thing")
    refused("is empty", b"")
    refused(
        "bad.safetensors: 1 tensors are missing", {n: v for n, v in state.items() if n != "blocks.0.attn.proj.bias"}
    )
    refused("not floating-point", state | {"pos_embed": state["pos_embed"].astype(np.int64)})
    refused("pos_embed holds values that are not finite", state | {"pos_embed": state["pos_embed"] * np.nan})
    refused("2 gene names were given, .* trained on 60", state, genes=("A", "B"))
    refused("its tensors are at the top; leave out --key", state, key="ema")
    with pytest.raises(BadInput, match="not there"):
        scrdit.import_torch(tmp_path / "none.pt", out=out)
    names = tmp_path / "genes.txt"
    names.write_text("A\nB\nA\n")
    with pytest.raises(BadInput, match="'A' more than once"):
        scrdit.import_torch(STATE, out=out, heads=HEADS, genes=names)


def test_a_prefix_that_wraps_every_name_is_dropped(state, tmp_path):
    save_file({f"module.{name}": value for name, value in state.items()}, tmp_path / "wrapped.safetensors")
    run = scrdit.import_torch(tmp_path / "wrapped.safetensors", out=tmp_path / "run", heads=HEADS)
    assert run.config().network.depth == 2
