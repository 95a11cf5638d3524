"""The networks there are, by the name a config gives them. Each predicts from noisy cells and modulations.

A network is a Linen module with `config`, `genes`, `outputs`, `attention`, `labels` and `states`; `modulations`
(timesteps, labels and states -> what all cells of a step with the same conditions share), `denoise` (noisy cells,
modulations -> prediction), and a call, which is one after the other. One that gives several numbers a gene adds a param
`gene_bias` (gene, outputs) to them, which may begin at what is known of the genes.

Each module here whose name has no underscore in front is a network, its `NETWORK` what is known of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from ..config import NetworkConfig
from ..registry import NETWORKS
from ._attention import attend, padded_tokens
from ._embeddings import TIMESTEP_FEATURES, Conditioning, sincos_positions, timestep_features, with_more_labels
from ._network import Network

__all__ = [
    "CONDITIONING_LAYERS",
    "NETWORKS",
    "OUTPUT_LAYERS",
    "TIMESTEP_FEATURES",
    "Conditioning",
    "Network",
    "attend",
    "attention_shape",
    "conditioning_params",
    "flops_per_evaluation",
    "make_network",
    "padded_tokens",
    "sincos_positions",
    "timestep_features",
    "with_more_labels",
]

# The layers that `modulations` uses and `denoise` does not, in every network; sampling leaves them behind once the
# modulations are computed.
CONDITIONING_LAYERS = ("timestep_in", "timestep_out", "label_embeddings", "state_in", "state_out", "modulation")

# The layers whose outputs are the prediction: what is lost in them no layer makes good.
OUTPUT_LAYERS = ("unpatchify", "unpatchify_rare", "tell", "convolution_out")


def conditioning_params(params: Any, dtype: Any) -> Any:
    """What of a network's params `modulations` uses; its last product, nearly all of its work, in `dtype`.

    What leads to that stays in float32: a timestep's angles need the digits. Params that are of no layer come along, as
    a network asks for them whichever of its methods is called.
    """
    layers = {
        name: layer
        for name, layer in params["params"].items()
        if name in CONDITIONING_LAYERS or not isinstance(layer, Mapping)
    }
    layers["modulation"] = jax.tree.map(lambda leaf: leaf.astype(dtype), layers["modulation"])
    return {"params": layers}


def make_network(
    config: NetworkConfig, genes: int, outputs: int = 1, *, labels: tuple[int, ...] = (), states: int = 0
) -> nn.Module:
    """The network that `config` describes, for `genes` values a cell and `outputs` numbers a gene.

    `labels` is how many names there are in each column of labels that it is conditioned on, `states` how many numbers
    of a cell's state; see Conditioning.
    """
    return NETWORKS[config.architecture].module(config, genes, outputs, labels=labels, states=states)


def flops_per_evaluation(network: nn.Module) -> int:
    """Floating-point operations of one `denoise` of one cell, but for what all cells of a step share."""
    known = NETWORKS[network.config.architecture]
    return known.flops_per_evaluation(network.config, network.genes, network.outputs)


def attention_shape(network: nn.Module) -> tuple[int, int, int]:
    """(tokens, heads, size of a head) of the network's longest attention."""
    return NETWORKS[network.config.architecture].attention_shape(network.config, network.genes)
