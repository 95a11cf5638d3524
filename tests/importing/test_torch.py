"""Checkpoints as PyTorch writes them; scripts/test --peers installs PyTorch and runs these."""

import importlib.util
import pickle
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import scrdit_jax as scrdit
from scrdit_jax.checkpoint import load_model
from scrdit_jax.errors import BadInput
from scrdit_jax.importing.reference import reference_network, reference_params
from scrdit_jax.importing.tensors import read_tensors
from scrdit_jax.networks import make_network

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peers
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def oracle():
    spec = importlib.util.spec_from_file_location("oracle", ROOT / "scripts" / "make_reference_oracle.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_random_network_goes_round_and_agrees(oracle, tmp_path):
    network = oracle.random_network(5, genes=120, patch=10, width=32, depth=3, heads=4)
    torch.save(network.state_dict(), tmp_path / "model.pt")
    run = scrdit.import_torch(tmp_path / "model.pt", out=tmp_path / "run", heads=4, first_timestep=1)
    model = load_model(run)
    cells, timesteps = torch.randn(7, 120) * 3 - 5, torch.randint(1, 1001, (7,))
    with torch.inference_mode():
        theirs = network(cells, timesteps).numpy()
    ours = make_network(model.config.network, 120).apply(
        model.params, jnp.asarray(cells.numpy()), jnp.asarray(timesteps.numpy())
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_the_committed_checkpoint_is_the_same_in_both_formats():
    ours, theirs = (read_tensors(ROOT / "tests" / "oracles" / f"reference_dit.{s}") for s in ("pt", "safetensors"))
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_one_of_several_state_dicts_is_chosen_by_name(oracle, tmp_path):
    network = oracle.random_network(5, genes=20, patch=10, width=8, depth=1, heads=2)
    state = network.state_dict()
    torch.save({"model": state, "ema": state, "epoch": 3}, tmp_path / "several.pt")
    with pytest.raises(BadInput, match="several state dicts \\(model, ema\\); choose one with --key"):
        read_tensors(tmp_path / "several.pt")
    with pytest.raises(BadInput, match="no state dict 'best'; there are model, ema"):
        read_tensors(tmp_path / "several.pt", key="best")
    assert len(read_tensors(tmp_path / "several.pt", key="ema")) == len(state)
    torch.save({"model": {f"module.{n}": v.half() for n, v in state.items()}, "epoch": 3}, tmp_path / "one.pt")
    assert all(v.dtype == np.float32 for v in read_tensors(tmp_path / "one.pt").values())


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("must_not_exist"),))


def test_nothing_but_tensors_is_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"x_embedder.proj.weight": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(BadInput, match="more than tensors"):
        read_tensors(tmp_path / "evil.pt")
    (tmp_path / "evil2.pt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(BadInput):
        read_tensors(tmp_path / "evil2.pt")
    assert not (tmp_path / "must_not_exist").exists()


@pytest.mark.parametrize("keep", [100, 5000, 100_000])
def test_a_checkpoint_that_is_cut_short_is_one_line(keep, tmp_path):
    whole = (ROOT / "tests" / "oracles" / "reference_dit.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[:keep])
    with pytest.raises(BadInput, match=r"cut\.pt (is cut short|cannot)") as caught:
        read_tensors(tmp_path / "cut.pt")
    assert "\n" not in str(caught.value)


def test_state_dicts_under_numbers_are_chosen_by_them(oracle, tmp_path):
    first, last = (oracle.random_network(s, genes=20, patch=10, width=8, depth=1, heads=2).state_dict() for s in (1, 2))
    torch.save({1: first, 2: last}, tmp_path / "epochs.pt")
    name = "x_embedder.proj.weight"
    np.testing.assert_array_equal(read_tensors(tmp_path / "epochs.pt", key="2")[name], last[name].numpy())
    with pytest.raises(BadInput, match="several state dicts \\(1, 2\\); choose one with --key"):
        read_tensors(tmp_path / "epochs.pt")
    torch.save({7: last, "epoch": 7}, tmp_path / "epoch.pt")
    np.testing.assert_array_equal(read_tensors(tmp_path / "epoch.pt")[name], last[name].numpy())


@pytest.mark.parametrize("make", [torch.Tensor.to_sparse, torch.Tensor.to_sparse_csr, lambda x: x.to("meta")])
def test_what_is_no_dense_tensor_is_named(tmp_path, make):
    torch.save({"a": torch.eye(3), "b": make(torch.eye(3))}, tmp_path / "odd.pt")
    with pytest.raises(BadInput, match=r"odd\.pt: tensor b is no dense array .*; save it dense") as caught:
        read_tensors(tmp_path / "odd.pt")
    assert "\n" not in str(caught.value)


def test_fixed_positions_agree_with_pytorchs(oracle):
    network = oracle.random_network(8, genes=60, patch=5, width=24, depth=1, heads=3)
    angles = torch.arange(12).double()[:, None] / 10000.0 ** (torch.arange(12).double() / 12)[None]
    with torch.no_grad():
        network.pos_embed.copy_(torch.cat([angles.sin(), angles.cos()], dim=1)[None])
    state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    config, genes = reference_network(state, heads=3)
    assert config.positions == "sincos"
    cells, timesteps = torch.randn(5, 60, generator=torch.Generator().manual_seed(2)), torch.arange(1, 1000, 200)
    with torch.inference_mode():
        theirs = network(cells, timesteps).numpy()
    ours = make_network(config, genes).apply(
        reference_params(state, config), jnp.asarray(cells.numpy()), jnp.asarray(timesteps.numpy())
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_a_list_and_a_text_are_no_checkpoints(tmp_path):
    torch.save([torch.zeros(2)], tmp_path / "list.pt")
    with pytest.raises(BadInput, match="holds a list, not named tensors"):
        read_tensors(tmp_path / "list.pt")
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(BadInput, match=r"text\.pt is no PyTorch checkpoint"):
        read_tensors(tmp_path / "text.pt")
