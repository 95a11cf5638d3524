"""The networks there are, by the name a config gives them. Each predicts from noisy cells and modulations.

A network is a Linen module with `config`, `genes`, `outputs` and `attention`; `modulations` (timesteps -> what all
cells of a step share), `denoise` (noisy cells, modulations -> prediction), and a call, which is one after the other.
"""

from __future__ import annotations

import flax.linen as nn

from ..config import NetworkConfig
from . import dit, unet

# The layers that `modulations` uses and `denoise` does not, in every network.
CONDITIONING_LAYERS = ("timestep_in", "timestep_out", "modulation")

_KINDS = {"dit": (dit.DiT, dit), "unet": (unet.UNet, unet)}


def make_network(config: NetworkConfig, genes: int, outputs: int = 1) -> nn.Module:
    """The network that `config` describes, for `genes` values a cell and `outputs` numbers a gene."""
    network, _ = _KINDS[config.architecture]
    return network(config, genes, outputs)


def flops_per_evaluation(network: nn.Module) -> int:
    """Floating-point operations of one `denoise` of one cell, but for what all cells of a step share."""
    _, module = _KINDS[network.config.architecture]
    return module.flops_per_evaluation(network.config, network.genes, network.outputs)


def attention_shape(network: nn.Module) -> tuple[int, int, int]:
    """(tokens, heads, size of a head) of the network's longest attention."""
    _, module = _KINDS[network.config.architecture]
    return module.attention_shape(network.config, network.genes)
