"""The networks there are, by the name a config gives them. Each predicts from noisy cells and modulations.

A network is a Linen module with `config`, `genes`, `outputs`, `attention` and `labels`; `modulations` (timesteps and
labels -> what all cells of a step with the same labels share), `denoise` (noisy cells, modulations -> prediction), and
a call, which is one after the other.
"""

from __future__ import annotations

import flax.linen as nn

from ..config import NetworkConfig
from . import dit, embeddings, unet

# The layers that `modulations` uses and `denoise` does not, in every network.
CONDITIONING_LAYERS = (*embeddings.CONDITIONING_LAYERS, "modulation")

_KINDS = {"dit": (dit.DiT, dit), "unet": (unet.UNet, unet)}


def make_network(config: NetworkConfig, genes: int, outputs: int = 1, *, labels: tuple[int, ...] = ()) -> nn.Module:
    """The network that `config` describes, for `genes` values a cell and `outputs` numbers a gene.

    `labels` is how many names there are in each column of labels that it is told; see embeddings.Conditioning.
    """
    network, _ = _KINDS[config.architecture]
    return network(config, genes, outputs, labels=labels)


def flops_per_evaluation(network: nn.Module) -> int:
    """Floating-point operations of one `denoise` of one cell, but for what all cells of a step share."""
    _, module = _KINDS[network.config.architecture]
    return module.flops_per_evaluation(network.config, network.genes, network.outputs)


def attention_shape(network: nn.Module) -> tuple[int, int, int]:
    """(tokens, heads, size of a head) of the network's longest attention."""
    _, module = _KINDS[network.config.architecture]
    return module.attention_shape(network.config, network.genes)
