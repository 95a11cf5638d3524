"""The diffusion transformer (scRDiT section 2.3 and fig. 2; Peebles & Xie 2023, adaLN-Zero).

Conditioning is apart from the body: `modulations` depends on timestep, labels and states, `denoise` on cells and
modulations. Training calls both per cell; sampling, where all cells share t, computes what they share once a step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ..config import GeneGroups
from ..config.checks import Choice, Real, Whole, check_fields, require
from ._attention import attend, attend_parts, padded_tokens
from ._embeddings import Conditioning, sincos_positions
from ._network import ConditionedNetwork, Network
from ._tokens import gene_tokens, token_parts

MODULATIONS_PER_BLOCK = 6
MODULATIONS_OF_FINAL = 2

POSITIONS = ("sincos", "learned")
ATTENTIONS = ("xla", "cudnn", "pallas")
MOST_UNROLLED = 4

_xavier = nn.initializers.xavier_uniform()
_zeros = nn.initializers.zeros_init()


@dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """Settings of the diffusion transformer: `genes_per_token` neighbouring genes are a token, `width` and `depth` are
    those of the blocks.

    With `fill_tokens` any number of genes will do: the last token is filled up with zeros. Of these genes the last, a
    `rare_share`, go `genes_per_rare_token` to a token: where genes come in that order, those that few cells express.
    Tokens have fixed sines and cosines as `positions`, or learn them from there. With `summary_token` there is one more
    token, of all genes; what it says of every gene goes through `summary_rank` numbers (None: the width), which spares
    params where a gene has many outputs. `first_timestep`, 0 or 1, is the number that the network has for the first
    timestep.
    """

    architecture: str = field(default="dit", init=False)
    genes_per_token: Annotated[int, Whole(1, 1_000_000)] = 10
    fill_tokens: bool = False
    rare_share: Annotated[float, Real(0, 0.95)] = 0.0
    genes_per_rare_token: Annotated[int | None, Whole(1, 1_000_000)] = None
    width: Annotated[int, Whole(1, 65_536)] = 768
    depth: Annotated[int, Whole(1, 1024)] = 3
    heads: Annotated[int, Whole(1, 1024)] = 8
    mlp_ratio: Annotated[float, Real(0, 64, open_low=True)] = 4.0
    summary_token: bool = False
    summary_rank: Annotated[int | None, Whole(1, 65_536)] = None
    positions: Annotated[str, Choice(POSITIONS)] = "sincos"
    first_timestep: Annotated[int, Whole(0, 1)] = 1

    @property
    def gene_multiple(self) -> int:
        """What the number of genes must be a multiple of: the genes of a token, unless tokens are filled up."""
        return 1 if self.fill_tokens else self.genes_per_token

    @property
    def gene_groups(self) -> GeneGroups:
        """How genes that go together should lie: token by token."""
        return GeneGroups(self.genes_per_token, self.rare_share, self.genes_per_rare_token or 1)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.rare_share:
            require(self.fill_tokens, "fill_tokens", self.fill_tokens, "true where there is a rare_share")
            rare = self.genes_per_rare_token
            require(rare is not None, "genes_per_rare_token", rare, "a number where there is a rare_share")
        # A hidden layer has one unit at least.
        least = 1 / self.width
        require(self.mlp_ratio >= least, "mlp_ratio", self.mlp_ratio, f"{least:g} or more for width {self.width}")
        require(self.width % self.heads == 0, "width", self.width, f"a multiple of heads ({self.heads})")
        require(self.width % 2 == 0, "width", self.width, "even (half sines, half cosines)")


def modulate(x: jax.Array, shift: jax.Array, scale: jax.Array) -> jax.Array:
    """x (1 + scale) + shift, with shift and scale of every token or alike for many."""
    return x * (1 + scale) + shift


class Block(nn.Module):
    """Attention and MLP, each normalised, modulated and gated; starts as the identity (adaLN-Zero).

    Cells are (cell, token, width), or, where one row of modulations is that of all, (cell token, width): as one matrix,
    which a TPU multiplies faster. A cell has `tokens`, of which the first `keys` are attended to.
    """

    width: int
    heads: int
    mlp_ratio: float
    attention: str
    tokens: int
    keys: int

    @nn.compact
    def __call__(self, x: jax.Array, modulations: jax.Array) -> tuple[jax.Array, None]:
        """Cells and (6, 1, width) or (6, cell, 1, width) -> cells, and nothing for the scan to stack."""
        shift_attention, scale_attention, gate_attention, shift_mlp, scale_mlp, gate_mlp = modulations
        on_gpu = self.attention == "cudnn"
        attended = self._attend(modulate(_normalise(x, on_gpu), shift_attention, scale_attention))
        x = self._add("projection", x, attended, gate_attention)
        h = modulate(_normalise(x, on_gpu), shift_mlp, scale_mlp)
        h = nn.gelu(
            nn.Dense(round(self.mlp_ratio * self.width), kernel_init=_xavier, name="mlp_in")(h), approximate=True
        )
        return self._add("mlp_out", x, h, gate_mlp), None

    def _attend(self, h: jax.Array) -> jax.Array:
        """Self-attention of each cell's tokens, in the shape of `h`."""
        if self._rewritten("qkv"):
            heads = -1, self.tokens, self.heads, self.width // self.heads
            q, k, v = (part.reshape(heads) for part in QueriesKeysValues(self.width, name="qkv")(h))
            return attend_parts(q, k, v, self.keys, self.attention).reshape(h.shape)
        qkv = nn.Dense(3 * self.width, kernel_init=_xavier, name="qkv")(h).reshape(-1, self.tokens, 3 * self.width)
        return attend(qkv, self.heads, self.keys, self.attention).reshape(h.shape)

    def _add(self, layer: str, x: jax.Array, h: jax.Array, gate: jax.Array) -> jax.Array:
        """x + gate times a dense layer of h.

        A gate of all cells is multiplied into the layer's params on a GPU, which then adds x as it multiplies h.
        """
        if x.ndim == 2 and self._rewritten(layer):
            return GatedDense(name=layer)(x, h, gate)
        return x + gate * nn.Dense(self.width, kernel_init=_xavier, name=layer)(h)

    def _rewritten(self, layer: str) -> bool:
        """Whether a dense layer is to be as XLA fuses it on a GPU. One whose weights have 8 bits stays as it is."""
        kernel = self.variables.get("params", {}).get(layer, {}).get("kernel")
        return self.attention == "cudnn" and (kernel is None or isinstance(kernel, jax.Array))


class GatedDense(nn.Module):
    """x + h (gate W) + gate b, its params those of `nn.Dense`."""

    @nn.compact
    def __call__(self, x: jax.Array, h: jax.Array, gate: jax.Array) -> jax.Array:
        """x (token, width), h (token, number), gate (1, width) -> (token, width)."""
        kernel = self.param("kernel", _xavier, (h.shape[-1], x.shape[-1]))
        bias = self.param("bias", _zeros, (x.shape[-1],))
        return (h @ (kernel * gate) + x) + bias[None] * gate


class QueriesKeysValues(nn.Module):
    """A dense layer to three times the width, its params those of `nn.Dense`, a product for each third.

    cuDNN takes them apart from each other: of one product, all three would be copied.
    """

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> list[jax.Array]:
        """(..., token, width) -> three of (..., token, width)."""
        kernel = self.param("kernel", _xavier, (x.shape[-1], 3 * self.width))
        bias = jnp.expand_dims(self.param("bias", _zeros, (3 * self.width,)), tuple(range(x.ndim - 1)))
        return [x @ one + also for one, also in zip(jnp.split(kernel, 3, 1), jnp.split(bias, 3, -1), strict=True)]


def _normalise(x: jax.Array, one_kernel: bool = False) -> jax.Array:
    """Layer norm without learned scale or shift: adaLN brings its own. Its sums are in float32 always.

    With `one_kernel`, in the form that XLA makes one kernel of on a GPU: the mean, then the mean square of what is
    left. On a TPU and a CPU two sums side by side are faster.
    """
    wide = x.astype(jnp.float32)
    if not one_kernel:
        return jax.nn.standardize(wide, axis=-1, epsilon=1e-6).astype(x.dtype)
    centred = wide - wide.mean(axis=-1, keepdims=True)
    return (centred * jax.lax.rsqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-6)).astype(x.dtype)


class DiT(ConditionedNetwork):
    """`genes` values a cell in, `outputs` numbers a gene out. Tokens are runs of `genes_per_token` neighbouring genes.

    With `summary_token` one more token is a dense layer of all genes, and a dense layer of it is added to what comes
    out: every block then sees the whole cell at once and every gene knows what cell it is in, where otherwise a
    cell's identity has to be put together and handed round by attention alone. With several outputs a gene, each has a
    bias of its own, `gene_bias`, that can begin at what is known of the gene. `attention` is one of ATTENTIONS: XLA's,
    cuDNN's (all else then as XLA fuses it best on a GPU), or a kernel for TPUs.
    """

    config: DiTConfig

    def setup(self) -> None:
        """Name the layers; params are the pytree that `init` returns."""
        c = self.config
        self.patchify = nn.Dense(c.width, kernel_init=_xavier)
        self.unpatchify = nn.Dense(c.genes_per_token * self.outputs, kernel_init=_zeros)
        if c.rare_share:
            self.patchify_rare = nn.Dense(c.width, kernel_init=_xavier)
            self.unpatchify_rare = nn.Dense(c.genes_per_rare_token * self.outputs, kernel_init=_zeros)
        if c.summary_token:
            self.summarise = nn.Dense(c.width, kernel_init=_xavier)
            if c.summary_rank is not None:
                self.tell_in = nn.Dense(c.summary_rank, kernel_init=_xavier)
            self.tell = nn.Dense(self.genes * self.outputs, kernel_init=_zeros)
        if self.outputs > 1:
            self.gene_bias = self.param("gene_bias", _zeros, (self.genes, self.outputs))
        self.conditioning = Conditioning(c.width, self.labels, self.states)
        nn.share_scope(self, self.conditioning)
        if c.positions == "learned":
            codes = sincos_positions(self._gene_tokens, c.width)
            self.position_codes = self.param("position_codes", lambda _: jnp.asarray(codes))
        # Blocks are scanned over stacked params, so that compiling costs the same at any depth; a few of them are
        # unrolled, which trains 1.2 times faster on a CPU.
        unroll = c.depth if c.depth <= MOST_UNROLLED else 1
        scanned = nn.scan(
            Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=c.depth, unroll=unroll
        )
        self.blocks = scanned(c.width, c.heads, c.mlp_ratio, self.attention, self._padded, self._tokens)
        self.modulation = nn.Dense(
            (MODULATIONS_PER_BLOCK * c.depth + MODULATIONS_OF_FINAL) * c.width, kernel_init=_zeros
        )

    @property
    def _gene_tokens(self) -> int:
        """Those of the genes."""
        return gene_tokens(self.config.gene_groups, self.genes)

    @property
    def _tokens(self) -> int:
        """Those of the genes, and the summary."""
        return self._gene_tokens + self.config.summary_token

    @property
    def _padded(self) -> int:
        """Tokens that are computed with."""
        return padded_tokens(self._tokens, self.attention)

    def modulations(
        self,
        timesteps: jax.Array,
        labels: jax.Array | None = None,
        states: jax.Array | None = None,
        dtype: Any = jnp.float32,
    ) -> jax.Array:
        """Every shift, scale and gate of every layer: (n,) and (n, column) -> (n, 6 depth + 2, width).

        The last and by far largest product is computed in the wider of `dtype` and that of its params.
        """
        vector = self.conditioning(timesteps - 1 + self.config.first_timestep, labels, states)
        rows = self.modulation(vector.astype(dtype))
        return rows.reshape(len(rows), -1, self.config.width)

    def _tokenise(self, cells: jax.Array) -> jax.Array:
        """(cell, gene) -> (cell, token, width)."""
        found = []
        for layer, part in zip(self._ends("patchify"), token_parts(self.config.gene_groups, self.genes), strict=True):
            values = cells if part.genes == self.genes else cells[:, part.first : part.first + part.genes]
            if part.filled:
                values = jnp.pad(values, [(0, 0), (0, part.filled)])
            found.append(layer(values.reshape(len(cells), part.tokens, part.size)))
        return found[0] if len(found) == 1 else jnp.concatenate(found, axis=1)

    def _of_genes(self, x: jax.Array) -> jax.Array:
        """(cell, token, width), or as one matrix -> (cell, gene outputs)."""
        parts, found, first = token_parts(self.config.gene_groups, self.genes), [], 0
        if len(parts) > 1 or parts[0].filled:
            x = x.reshape(-1, self._gene_tokens, self.config.width)
        for layer, part in zip(self._ends("unpatchify"), parts, strict=True):
            of_part = layer(x if len(parts) == 1 else x[:, first : first + part.tokens])
            first += part.tokens
            if len(parts) > 1 or part.filled:
                of_part = of_part.reshape(len(x), -1)[:, : part.genes * self.outputs]
            found.append(of_part)
        return found[0] if len(found) == 1 else jnp.concatenate(found, axis=1)

    def _ends(self, name: str) -> list[nn.Module]:
        """The layers of that name, one for each part of the genes."""
        parts = token_parts(self.config.gene_groups, self.genes)
        return [getattr(self, name if part.first == 0 else f"{name}_rare") for part in parts]

    def _run_blocks(self, x: jax.Array, modulations: jax.Array) -> jax.Array:
        """(cell, token, width) through all blocks and the last norm; as one matrix where it was made one, see Block."""
        rows = jnp.swapaxes(modulations, 0, 1)[:, :, None, :]
        if len(modulations) == 1:
            x, rows = x.reshape(-1, x.shape[-1]), rows[:, 0]
        per_block = rows[:-MODULATIONS_OF_FINAL].reshape(self.config.depth, MODULATIONS_PER_BLOCK, *rows.shape[1:])
        x, _ = self.blocks(x, per_block)
        shift, scale = rows[-MODULATIONS_OF_FINAL:]
        return modulate(_normalise(x, self.attention == "cudnn"), shift, scale)

    def denoise(self, cells: jax.Array, modulations: jax.Array) -> jax.Array:
        """Noisy cells (cell, gene) and modulations (#cell, 6 depth + 2, width) -> prediction.

        (cell, gene), or (cell, gene, outputs) where a gene has several.
        """
        c = self.config
        tokens = self._gene_tokens
        codes = self.position_codes if c.positions == "learned" else sincos_positions(tokens, c.width)
        x = self._tokenise(cells) + codes.astype(cells.dtype)[None]
        # A TPU reads the genes' tokens without moving them where they are the first.
        first = c.summary_token and self.attention == "xla"
        if c.summary_token:
            parts = [self.summarise(cells)[:, None, :], x]
            x = jnp.concatenate(parts if first else parts[::-1], axis=1)
        if self._padded > self._tokens:
            x = jnp.pad(x, [(0, 0), (0, self._padded - self._tokens), (0, 0)])
        x = self._run_blocks(x, modulations)
        shape = cells.shape if self.outputs == 1 else (*cells.shape, self.outputs)
        of_cells = x.reshape(len(cells), self._padded, c.width)
        if self._padded > tokens:
            x = of_cells[:, first : first + tokens]
        predicted = self._of_genes(x).reshape(shape)
        if c.summary_token:
            summary = of_cells[:, 0 if first else tokens]
            summary = summary if c.summary_rank is None else self.tell_in(summary)
            predicted = predicted + self.tell(summary).reshape(shape)
        if self.outputs > 1:
            predicted = predicted + self.gene_bias.astype(x.dtype)[None]
        return predicted


def flops_per_evaluation(config: DiTConfig, genes: int, outputs: int = 1) -> int:
    """Floating-point operations of the matrix products of `denoise` for one cell; a multiply-add counts as two.

    8.87e9 for the paper's network. What all cells of a step share (the conditioning) is not in it.
    """
    parts, width = token_parts(config.gene_groups, genes), config.width
    attending = gene_tokens(config.gene_groups, genes) + config.summary_token
    dense = 4 * width**2 + 2 * width * round(config.mlp_ratio * width)
    blocks = config.depth * attending * (dense + 2 * attending * width)
    ends = sum(part.tokens * part.size for part in parts) * width * (1 + outputs)
    rank = width if config.summary_rank is None else config.summary_rank
    between = 0 if config.summary_rank is None else width * rank
    summary = config.summary_token * (genes * (width + rank * outputs) + between)
    return 2 * (blocks + ends + summary)


def attention_shape(config: DiTConfig, genes: int) -> tuple[int, int, int]:
    """(tokens, heads, size of a head)."""
    tokens = gene_tokens(config.gene_groups, genes) + config.summary_token
    return tokens, config.heads, config.width // config.heads


NETWORK = Network(DiTConfig, DiT, flops_per_evaluation, attention_shape, ATTENTIONS)
