"""What a network says of itself; see the package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn


class Network(NamedTuple):
    """Its settings (a frozen dataclass, see config.NetworkConfig), its Linen module, and what an evaluation costs.

    `flops_per_evaluation` (config, genes, outputs) are the floating-point operations of one `denoise` of one cell, but
    for what all cells of a step share; `attention_shape` (config, genes) is (tokens, heads, size of a head) of the
    longest attention.
    """

    config: type[Any]
    module: type[nn.Module]
    flops_per_evaluation: Callable[[Any, int, int], int]
    attention_shape: Callable[[Any, int], tuple[int, int, int]]
