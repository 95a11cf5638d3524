"""Weights of a PyTorch DiT with the paper's names against what PyTorch computed with them (made once, committed)."""

import dataclasses
import errno
import math
import sys
from pathlib import Path

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

import scrdit_jax as scrdit
from scrdit_jax import cli
from scrdit_jax.checkpoint import load_model
from scrdit_jax.errors import BadConfig, BadInput, DiskFull, GeneMismatch, MissingExtra, OutputExists
from scrdit_jax.importing.genes import read_gene_names
from scrdit_jax.importing.reference import reference_network, reference_params
from scrdit_jax.importing.tensors import read_tensors
from scrdit_jax.networks import flops_per_evaluation, make_network
from scrdit_jax.provenance import Provenance

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
    assert (config.width, config.depth, config.genes_per_token, config.positions, genes) == (24, 2, 5, "learned", 60)
    ours = predicted(config, genes, reference_params(state, config), oracle["cells"], oracle["timesteps"])
    assert np.abs(oracle["predicted"]).max() > 1  # no network of zeros
    np.testing.assert_allclose(ours, oracle["predicted"], atol=1e-4)


@pytest.mark.parametrize("shape", [(24, 1, 5, 1), (24, 1, 1, 5), (24, 1, 5), (24, 5)])
def test_a_convolution_of_any_shape_is_the_same_layer(state, shape):
    assert state["x_embedder.proj.weight"].shape == (24, 1, 5, 1)  # as published
    oracle = np.load(ORACLES / "reference_dit.npz")
    reshaped = state | {"x_embedder.proj.weight": state["x_embedder.proj.weight"].reshape(shape)}
    config, genes = reference_network(reshaped, heads=HEADS)
    assert (config.genes_per_token, genes) == (5, 60)
    ours = predicted(config, genes, reference_params(reshaped, config), oracle["cells"], oracle["timesteps"])
    np.testing.assert_allclose(ours, oracle["predicted"], atol=1e-4)


def test_positions_that_are_our_sines_and_cosines_are_not_stored(state):
    codes = [
        [f(i / 10_000 ** (k / 12)) for f in (math.sin, math.cos) for k in range(12)]  # by the formula, one by one
        for i in range(12)
    ]
    ours = state | {"pos_embed": np.array([codes], np.float32)}
    config, genes = reference_network(ours, heads=HEADS)
    params = reference_params(ours, config)
    assert config.positions == "sincos"
    assert "position_codes" not in params["params"]
    # The network that stores them is the one that agrees with PyTorch.
    stored = dataclasses.replace(config, positions="learned")
    oracle = np.load(ORACLES / "reference_dit.npz")
    cells, timesteps = oracle["cells"], oracle["timesteps"]
    wanted = predicted(stored, genes, reference_params(ours, stored), cells, timesteps)
    np.testing.assert_allclose(predicted(config, genes, params, cells, timesteps), wanted, atol=1e-4)
    assert np.abs(wanted - oracle["predicted"]).max() > 1e-2  # it was held against other codes


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
    assert "60 genes" in result.output
    assert "reference_dit.safetensors" in result.output
    model, oracle = load_model(out), np.load(ORACLES / "reference_dit.npz")
    ours = predicted(model.config.network, 60, model.params, oracle["cells"], oracle["timesteps"] + 1)
    np.testing.assert_allclose(ours, oracle["predicted"], atol=1e-4)
    cells = scrdit.sample(out, 5, solver="ddim", eta=1.0, acceleration=100, schedule="paper")
    assert list(cells.var_names) == genes.read_text().split()
    assert cells.shape == (5, 60)
    assert cells.X.min() >= 0
    assert Provenance.from_uns(cells.uns).metadata.scaling.zero_value == -10
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
    refused("pos_embed is \\(1, 0, 24\\)", state | {"pos_embed": np.zeros((1, 0, 24), np.float32)})
    square = state | {"x_embedder.proj.weight": np.zeros((24, 1, 5, 5), np.float32)}
    refused("proj.weight is \\(24, 1, 5, 5\\); beside \\(24, genes a token\\) all must be 1", square)
    odd = {"x_embedder.proj.weight": np.zeros((25, 1, 5, 1)), "pos_embed": np.zeros((1, 12, 25))}
    refused("is 25 wide; .* even", state | odd)
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
        assert "\n" not in str(caught.value)
        assert not out.exists()

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
    assert not out.exists()


NAMES = [f"GENE{j}" for j in range(60)]


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("genes.txt", "\n".join([*NAMES[:59], "GENE3"]), "'GENE3' more than once"),
        (
            "genes.csv",
            "\n".join(["gene,n", *(f"{name},7" for name in NAMES)]),
            "genes.csv: line 1 is 'gene,n', more than",
        ),
        ("genes.tsv", "\n".join(f"ENSG{j}\t{name}" for j, name in enumerate(NAMES)), "line 1 is .*one name a line"),
        ("genes.csv", "\n".join([*NAMES[:59], "a;b"]), "line 60 is 'a;b'"),
        ("genes.csv", "\n".join(f'"{name}"' for name in NAMES), "line 1 is '\"GENE0\"'"),
    ],
)
def test_gene_names_that_cannot_be_right_are_refused(tmp_path, name, text, match):
    (tmp_path / name).write_text(text)
    with pytest.raises(BadInput, match=match) as caught:
        scrdit.import_torch(STATE, out=tmp_path / "run", heads=HEADS, genes=tmp_path / name)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("wrong", "match"), [("GENE3", "'GENE3' more than once"), ("", r"genes\[59\] is ''"), (7, r"genes\[59\] is 7")]
)
def test_gene_names_from_python_are_held_to_the_same(tmp_path, wrong, match):
    with pytest.raises((BadConfig, BadInput), match=match):
        scrdit.import_torch(STATE, out=tmp_path / "run", heads=HEADS, genes=[*NAMES[:59], wrong])
    assert not (tmp_path / "run").exists()


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    (tmp_path / "genes.txt").write_text("\n".join(NAMES), encoding="utf-8-sig")
    assert read_gene_names(tmp_path / "genes.txt") == tuple(NAMES)


def test_the_empty_folder_one_stands_in_is_filled(tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    result = CliRunner().invoke(cli.main, ["import-torch", str(STATE), "--out", ".", "--heads", "3"])
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in Path(".").iterdir()) == ["checkpoints", "config.json"]
    assert load_model(Path(".")).config.network.width == 24
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_an_empty_folder_stays_empty_where_writing_fails(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("scrdit_jax.importing.filling.flush", fail)
    with pytest.raises(DiskFull):
        scrdit.import_torch(STATE, out=tmp_path, heads=HEADS)
    assert not list(tmp_path.iterdir())


def test_a_file_that_may_not_be_read_is_one_line(tmp_path, monkeypatch):
    def forbidden(self, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    for name in ("model.pt", "model.safetensors"):
        (tmp_path / name).write_bytes(STATE.read_bytes())
        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", forbidden)
            with pytest.raises(BadInput, match=f"{name} cannot be read \\(Permission denied\\)"):
                read_tensors(tmp_path / name)


def test_bfloat16_is_read_as_float32(state, tmp_path):
    save_file({name: value.astype(ml_dtypes.bfloat16) for name, value in state.items()}, tmp_path / "b.safetensors")
    read = read_tensors(tmp_path / "b.safetensors")
    for name, value in state.items():
        assert read[name].dtype == np.float32
        np.testing.assert_allclose(read[name], value, rtol=2**-8)


def test_what_is_missing_is_said_by_its_own_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.delitem(sys.modules, "safetensors.numpy", raising=False)
    with pytest.raises(MissingExtra, match=r"pip install 'scrdit_jax\[safetensors\]'"):
        read_tensors(STATE)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtra, match=r"pip install 'scrdit_jax\[torch\]'"):
        read_tensors(ORACLES / "reference_dit.pt")


def test_a_hidden_width_that_is_no_simple_multiple_is_kept():
    width, hidden = 98, 27
    assert int((hidden / width) * width) == 26  # what floating point makes of it
    shapes = {"x_embedder.proj.weight": (width, 1, 5, 1), "x_embedder.proj.bias": (width,), "pos_embed": (1, 4, width)}
    layers = {"t_embedder.mlp.0": (width, 256), "t_embedder.mlp.2": (width, width), "final_layer.linear": (5, width)}
    layers |= {"final_layer.adaLN_modulation.1": (2 * width, width), "blocks.0.attn.qkv": (3 * width, width)}
    layers |= {"blocks.0.attn.proj": (width, width), "blocks.0.mlp.fc1": (hidden, width)}
    layers |= {"blocks.0.mlp.fc2": (width, hidden), "blocks.0.adaLN_modulation.1": (6 * width, width)}
    for name, shape in layers.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    state = {name: np.full(shape, 0.01, np.float32) for name, shape in shapes.items()}
    config, genes = reference_network(state, heads=2)
    ours = predicted(config, genes, reference_params(state, config), np.ones((2, 20), np.float32), np.array([1, 9]))
    assert ours.shape == (2, 20)
    tokens = 4
    products = 2 * 5 * width + 4 * width**2 + 2 * width * hidden + 2 * tokens * width
    assert flops_per_evaluation(make_network(config, genes)) == 2 * tokens * products


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.module.", "module._orig_mod.", "model.module.model."])
def test_a_prefix_that_wraps_every_name_is_dropped(state, tmp_path, prefix):
    save_file({f"{prefix}{name}": value for name, value in state.items()}, tmp_path / "wrapped.safetensors")
    assert read_tensors(tmp_path / "wrapped.safetensors").keys() == state.keys()
