"""A one-dimensional UNet, as the paper compares with (scRDiT section 3.2; Ronneberger et al. 2015, Ho et al. 2020).

The paper says no more of its own. Genes are a sequence: three times halved on the way down and doubled on the way up,
with residual blocks of group norm and convolutions, and self-attention wherever the sequence is shorter than the genes.
Convolutions take neighbouring genes for related, which nothing but the order of the matrix says they are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ..config import GeneGroups
from ..config.checks import Whole, check_fields, require
from ..errors import BadConfig
from ._embeddings import TIMESTEP_FEATURES, Conditioning
from ._network import ConditionedNetwork, Network

HALVINGS = 3
WIDTHS = (1, 2, 4, 8)  # channels at each level, in units of config.channels: 64 to 512 by default
KERNEL = 3
NORM_GROUPS = 8

_zeros = nn.initializers.zeros_init()


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """Settings of the UNet: `channels` at full length, to 8 times as many at its shortest, and attention `heads`.

    `first_timestep`, 0 or 1, is the number that the network has for the first timestep.
    """

    architecture: str = field(default="unet", init=False)
    channels: Annotated[int, Whole(1, 8192)] = 64
    heads: Annotated[int, Whole(1, 1024)] = 8
    first_timestep: Annotated[int, Whole(0, 1)] = 1

    @property
    def gene_multiple(self) -> int:
        """What the number of genes must be a multiple of: the sequence is halved three times."""
        return 2**HALVINGS

    @property
    def gene_groups(self) -> GeneGroups:
        """How genes that go together should lie: those of a place of the shortest sequence."""
        return GeneGroups(2**HALVINGS)

    def __post_init__(self) -> None:
        check_fields(self)
        shared = 2 * self.channels % self.heads == 0
        require(shared, "channels", self.channels, f"such that heads ({self.heads}) divide twice as many")


def _norm(x: jax.Array, name: str) -> jax.Array:
    groups = next(g for g in range(min(NORM_GROUPS, x.shape[-1]), 0, -1) if x.shape[-1] % g == 0)
    return nn.GroupNorm(num_groups=groups, use_fast_variance=False, name=name)(x)


class ResidualBlock(nn.Module):
    """Two convolutions, each after group norm and SiLU; the timestep's shift comes between them."""

    channels: int

    @nn.compact
    def __call__(self, x: jax.Array, shift: jax.Array) -> jax.Array:
        """(cell, position, channel) and (#cell, 1, channels) -> (cell, position, channels)."""
        h = nn.Conv(self.channels, (KERNEL,), name="convolution_in")(nn.silu(_norm(x, "norm_in")))
        h = nn.silu(_norm(h + shift, "norm_out"))
        h = nn.Conv(self.channels, (KERNEL,), kernel_init=_zeros, name="convolution_out")(h)
        return h + (x if x.shape[-1] == self.channels else nn.Dense(self.channels, name="skip")(x))


class SelfAttention(nn.Module):
    """Every position attends to every other; begins as the identity."""

    heads: int
    attention: str

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(cell, position, channel) -> the same shape."""
        channels = x.shape[-1]
        qkv = nn.Dense(3 * channels, name="qkv")(_norm(x, "norm"))
        q, k, v = jnp.split(qkv.reshape(*x.shape[:2], 3 * self.heads, channels // self.heads), 3, axis=2)
        attended = jax.nn.dot_product_attention(q, k, v, implementation=self.attention).reshape(x.shape)
        return x + nn.Dense(channels, kernel_init=_zeros, name="projection")(attended)


class UNet(ConditionedNetwork):
    """`genes` values a cell in, `outputs` numbers a gene out: the DiT's interface, see networks.dit.

    `genes` are a multiple of 8. Of `config` it uses `channels` and `heads`.
    """

    config: UNetConfig

    @property
    def _block_channels(self) -> tuple[int, ...]:
        """Channels of every residual block, in the order they are run: down, middle, up."""
        widths = [w * self.config.channels for w in WIDTHS]
        return (*widths, widths[-1], *widths[-2::-1])

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.genes % self.config.gene_multiple:
            raise BadConfig(f"a UNet takes a multiple of {self.config.gene_multiple} genes, not {self.genes}")

    def setup(self) -> None:
        """Name the layers; params are the pytree that `init` returns."""
        blocks = self._block_channels
        self.conditioning = Conditioning(TIMESTEP_FEATURES, self.labels, self.states)
        nn.share_scope(self, self.conditioning)
        self.modulation = nn.Dense(sum(blocks))
        self.convolution_in = nn.Conv(blocks[0], (KERNEL,))
        self.blocks = [ResidualBlock(channels) for channels in blocks]
        self.attentions = [SelfAttention(self.config.heads, self.attention) for _ in range(2 * HALVINGS - 1)]
        self.norm = nn.GroupNorm(num_groups=1, use_fast_variance=False)
        self.convolution_out = nn.Conv(self.outputs, (KERNEL,), kernel_init=_zeros)
        if self.outputs > 1:
            self.gene_bias = self.param("gene_bias", _zeros, (self.genes, self.outputs))

    def modulations(
        self,
        timesteps: jax.Array,
        labels: jax.Array | None = None,
        states: jax.Array | None = None,
        dtype: Any = jnp.float32,
    ) -> jax.Array:
        """The shift of every block: (n,) and (n, column) -> (n, channels of all blocks); `dtype` as for the DiT."""
        vector = self.conditioning(timesteps - 1 + self.config.first_timestep, labels, states)
        return self.modulation(vector.astype(dtype))

    def denoise(self, cells: jax.Array, modulations: jax.Array) -> jax.Array:
        """Noisy cells (cell, gene) and modulations (#cell, channels of all blocks) -> prediction.

        (cell, gene), or (cell, gene, outputs) where a gene has several.
        """
        ends = [sum(self._block_channels[: i + 1]) for i in range(len(self._block_channels) - 1)]
        run = zip(self.blocks, jnp.split(modulations[:, None, :], ends, axis=-1), strict=True)
        attend = iter(self.attentions)

        def block(x):
            layer, shift = next(run)
            return layer(x, shift)

        x, passed_across = block(self.convolution_in(cells[:, :, None])), []
        for _ in range(HALVINGS):
            passed_across.append(x)
            x = next(attend)(block(nn.avg_pool(x, (2,), strides=(2,))))
        x = block(x)
        for level in reversed(range(HALVINGS)):
            doubled = jnp.repeat(x, 2, axis=1)
            x = block(jnp.concatenate([doubled, passed_across[level]], axis=-1))
            # At full length attention would cost more than all the rest: it grows with the square of the genes.
            x = next(attend)(x) if level else x
        predicted = self.convolution_out(nn.silu(self.norm(x)))
        if self.outputs == 1:
            return predicted[..., 0]
        return predicted + self.gene_bias.astype(x.dtype)[None]


def flops_per_evaluation(config: UNetConfig, genes: int, outputs: int = 1) -> int:
    """Floating-point operations of the convolutions and products of `denoise` for one cell; see networks.dit."""
    widths = [w * config.channels for w in WIDTHS]

    def block(length: int, channels_in: int, channels: int) -> int:
        skip = 0 if channels_in == channels else channels_in * channels
        return length * (KERNEL * (channels_in + channels) * channels + skip)

    def attention(length: int, channels: int) -> int:
        return length * (4 * channels**2 + 2 * length * channels)

    total = KERNEL * genes * widths[0] * (1 + outputs) + block(genes, widths[0], widths[0])
    for level in range(1, len(widths)):
        length = genes >> level
        total += block(length, widths[level - 1], widths[level]) + attention(length, widths[level])
    total += block(genes >> HALVINGS, widths[-1], widths[-1])
    for level in reversed(range(HALVINGS)):
        length = genes >> level
        total += block(length, widths[level + 1] + widths[level], widths[level])
        total += attention(length, widths[level]) if level else 0
    return 2 * total


def attention_shape(config: UNetConfig, genes: int) -> tuple[int, int, int]:
    """(positions, heads, size of a head) of the longest attention, after the first halving."""
    return genes // 2, config.heads, WIDTHS[1] * config.channels // config.heads


NETWORK = Network(UNetConfig, UNet, flops_per_evaluation, attention_shape)
