"""A network is one file with settings of its own: one that is dropped into the folder is trained and sampled."""

import json

import anndata
import jax
import jax.numpy as jnp
import pytest

import scrdit_jax.networks as package
from scrdit_jax.config import RunConfig, load_preset
from scrdit_jax.networks import NETWORKS, attention_shape, flops_per_evaluation, make_network

TOY = '''
"""A dense layer of all genes."""
from dataclasses import dataclass, field

import flax.linen as nn

from scrdit_jax.config import GeneGroups
from scrdit_jax.networks import Conditioning, Network


@dataclass(frozen=True, kw_only=True)
class DenseConfig:
    architecture: str = field(default="all-genes", init=False)
    hidden: int = 8
    gene_multiple = 1
    gene_groups = GeneGroups()


class Dense(nn.Module):
    config: DenseConfig
    genes: int
    outputs: int = 1
    attention: str = "xla"
    labels: tuple[int, ...] = ()
    states: int = 0

    def setup(self):
        self.conditioning = Conditioning(self.config.hidden, self.labels, self.states)
        nn.share_scope(self, self.conditioning)
        self.modulation = nn.Dense(self.config.hidden)
        self.enter, self.leave = nn.Dense(self.config.hidden), nn.Dense(self.genes * self.outputs)

    def __call__(self, cells, timesteps, labels=None, states=None):
        return self.denoise(cells, self.modulations(timesteps, labels, states))

    def modulations(self, timesteps, labels=None, states=None):
        return self.modulation(self.conditioning(timesteps, labels, states))

    def denoise(self, cells, modulations):
        predicted = self.leave(nn.silu(self.enter(cells) + modulations))
        return predicted if self.outputs == 1 else predicted.reshape(*cells.shape, self.outputs)


NETWORK = Network(
    DenseConfig,
    Dense,
    lambda config, genes, outputs: 2 * config.hidden * genes * (1 + outputs),
    lambda config, genes: (1, 1, config.hidden),
)
'''


@pytest.mark.parametrize("name", NETWORKS)
def test_an_entry_is_a_network_with_settings_that_survive_json(name):
    config = NETWORKS[name].config()
    assert config.architecture == name
    run = RunConfig(network=config)
    assert RunConfig.from_dict(json.loads(json.dumps(run.to_dict()))) == run
    network = make_network(config, 4 * config.gene_multiple, 3)
    cells, timesteps = jnp.zeros((2, network.genes)), jnp.array([1, 5])
    assert jax.eval_shape(network.init_with_output, jax.random.key(0), cells, timesteps)[0].shape == (*cells.shape, 3)
    assert flops_per_evaluation(network) > 0
    assert len(attention_shape(network)) == 3


@pytest.mark.slow
def test_a_file_in_the_folder_is_a_network_of_the_command_line(scrdit, tiny_cells, tiny_config, tmp_path, add_part):
    (tmp_path / "tiny.json").write_text(json.dumps(tiny_config.to_dict()))
    (tmp_path / "five.json").write_text('{"network": {"architecture": "all-genes", "hidden": 5}}')
    tiny_cells.write_h5ad("cells.h5ad")
    words = ("train", "cells.h5ad", "--preset", "tiny.json", "--steps", 3, "--network", "all-genes", "--out", "run")
    status, printed = scrdit(*words)
    assert status == 2
    assert "no network 'all-genes'; there are dit, unet" in printed
    add_part(package, "all_genes", TOY)
    status, printed = scrdit(*words)
    assert status == 0, printed
    saved = json.loads((tmp_path / "run/config.json").read_text())
    assert saved["network"] == {"architecture": "all-genes", "hidden": 8}
    assert load_preset("five.json").network.hidden == 5
    status, printed = scrdit("sample", "run", "--cells", 5, "--steps", 2, "--batch-size", 5, "--out", "new.h5ad")
    assert status == 0, printed
    assert anndata.read_h5ad("new.h5ad").shape == (5, 24)
