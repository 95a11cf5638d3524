"""What networks have in common, and what one says of itself; see the package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax


class ConditionedNetwork(nn.Module):
    """What is called: `modulations` of the conditions, then `denoise`, both the network's own.

    `genes` values a cell, `outputs` numbers a gene. `attention` is how the device is to compute it, and no part of what
    is learnt. `labels` is how many names each column of labels has, `states` how many numbers a cell's state has.
    """

    config: Any
    genes: int
    outputs: int = 1
    attention: str = "xla"
    labels: tuple[int, ...] = ()
    states: int = 0

    def __call__(
        self,
        cells: jax.Array,
        timesteps: jax.Array,
        labels: jax.Array | None = None,
        states: jax.Array | None = None,
    ) -> jax.Array:
        """Noisy cells (cell, gene), timesteps (cell,) or (1,), labels and states of as many -> prediction, see
        `denoise`."""
        return self.denoise(cells, self.modulations(timesteps, labels, states))


class Network(NamedTuple):
    """Its settings (a frozen dataclass, see config.NetworkConfig), its Linen module, and what an evaluation costs.

    `flops_per_evaluation` (config, genes, outputs) are the floating-point operations of one `denoise` of one cell, but
    for what all cells of a step share; `attention_shape` (config, genes) is (tokens, heads, size of a head) of the
    longest attention. `attentions` are the ways in which the module can compute it.
    """

    config: type[Any]
    module: type[nn.Module]
    flops_per_evaluation: Callable[[Any, int, int], int]
    attention_shape: Callable[[Any, int], tuple[int, int, int]]
    attentions: tuple[str, ...] = ("xla", "cudnn")
