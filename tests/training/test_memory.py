"""What takes more memory than there is, said before it is allocated where that can be worked out."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

import scrdit_jax as scrdit
from scrdit_jax.errors import BadConfig, OutOfMemory, enough_memory
from scrdit_jax.networks import make_network
from scrdit_jax.networks.dit import DiTConfig
from scrdit_jax.training import state


def test_a_network_that_no_machine_can_train_is_refused_before_anything_is_written(tiny_cells, tiny_config, tmp_path):
    network = DiTConfig(width=65_536, depth=1024, heads=1024, genes_per_token=4)
    with pytest.raises(BadConfig, match=r"of 79,\d{3},\d{3},\d{3},\d{3} params takes .* choose a smaller network"):
        scrdit.train(tiny_cells, out=tmp_path / "run", preset=replace(tiny_config, network=network))
    assert not list(tmp_path.glob("run/[!.]*"))


def test_a_batch_that_does_not_fit_is_refused(tiny_cells, tiny_config, tmp_path, monkeypatch):
    # Enough for the few thousand params.
    monkeypatch.setattr(state, "free_memory", lambda device: 1_000_000)
    wide = {"batch_size": 40, "accumulate": 1}
    config = replace(tiny_config.with_settings(wide), network=replace(tiny_config.network, genes_per_token=1))
    state.require_memory(_network(config), config)
    monkeypatch.setattr(state, "free_memory", lambda device: 100_000)
    with pytest.raises(BadConfig, match="params takes"):
        state.require_memory(_network(config), config)
    monkeypatch.setattr(state, "free_memory", lambda device: 400_000)
    big = config.with_settings({"batch_size": 4000})
    with pytest.raises(BadConfig, match=r"a batch of 4,000 cells takes .* lower --batch-size, or raise --accumulate"):
        state.require_memory(_network(big), big)
    parts = big.with_settings({"accumulate": 400})
    state.require_memory(_network(parts), parts)


def _network(config):
    return make_network(config.network, config.data.genes, 3)


def test_memory_that_runs_out_is_one_line():
    message = r"^there is not enough memory \(.*17592186044416 bytes\); lower it$"
    with pytest.raises(OutOfMemory, match=message), enough_memory("lower it"):
        jnp.zeros(2**44, jnp.int8).block_until_ready()
    with pytest.raises(OutOfMemory, match=r"\(Unable to allocate .*\); lower it$"), enough_memory("lower it"):
        np.ones(2**48)
    with pytest.raises(ZeroDivisionError), enough_memory("lower it"):
        raise ZeroDivisionError
