"""Write tests/oracles/reference_dit.*: what a PyTorch DiT with the paper's module names computes.

Made once, with Python 3.11, torch 2.13.0 (CPU), safetensors 0.8; the project's own tests need neither torch nor this:

    python -m venv oracles && oracles/bin/pip install torch==2.13.0 safetensors numpy
    oracles/bin/python scripts/make_reference_oracle.py

The network is written from scRDiT section 2.3 and Peebles & Xie 2023, with the reference implementation's names for
its modules. Nothing here is imported from scrdit_jax.

    reference_dit.pt, .safetensors   the state dict, random weights
    reference_dit.npz                cells (cell, gene), timesteps (cell,), predicted (cell, gene), float32
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import nn

ORACLES = Path(__file__).parent.parent / "tests" / "oracles"


class PatchEmbed(nn.Module):
    """Runs of `patch` neighbouring genes to tokens, by a convolution with stride over a picture one column wide."""

    def __init__(self, patch: int, width: int) -> None:
        """One convolution."""
        super().__init__()
        self.proj = nn.Conv2d(1, width, kernel_size=(patch, 1), stride=(patch, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(cell, gene) -> (cell, token, width)."""
        return self.proj(x[:, None, :, None]).flatten(2).transpose(1, 2)


class TimestepEmbedder(nn.Module):
    """256 cosines and sines of t, then two dense layers."""

    def __init__(self, width: int) -> None:
        """A small MLP."""
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        """(cell,) -> (cell, width)."""
        frequencies = torch.tensor([math.exp(-math.log(10000.0) * k / 128) for k in range(128)])
        angles = t.float().unsqueeze(1) * frequencies.unsqueeze(0)
        return self.mlp(torch.cat([torch.cos(angles), torch.sin(angles)], dim=1))


class Attention(nn.Module):
    """Multi-head self-attention, the softmax written out."""

    def __init__(self, width: int, heads: int) -> None:
        """Queries, keys and values from one layer."""
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(cell, token, width) -> the same shape."""
        cells, tokens, width = x.shape
        split = self.qkv(x).view(cells, tokens, 3, self.heads, width // self.heads)
        q, k, v = (split[:, :, i].permute(0, 2, 1, 3) for i in range(3))
        weights = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(width // self.heads), dim=-1)
        return self.proj((weights @ v).permute(0, 2, 1, 3).reshape(cells, tokens, width))


class Mlp(nn.Module):
    """Two dense layers with GELU between, its tanh form."""

    def __init__(self, width: int, hidden: int) -> None:
        """fc1 and fc2."""
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.act = nn.GELU(approximate="tanh")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., width) -> the same shape."""
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    """A DiT block with adaLN-Zero."""

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        """Attention, MLP and what modulates them."""
        super().__init__()
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.attn, self.mlp = Attention(width, heads), Mlp(width, int(width * mlp_ratio))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        """(cell, token, width) and (cell, width) -> (cell, token, width)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = (
            m.unsqueeze(1) for m in self.adaLN_modulation(c).chunk(6, dim=1)
        )
        x = x + gate1 * self.attn(self.norm1(x) * (1 + scale1) + shift1)
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)


class FinalLayer(nn.Module):
    """Modulated norm, then `patch` numbers a token."""

    def __init__(self, width: int, patch: int) -> None:
        """One dense layer, and what modulates."""
        super().__init__()
        self.norm_final = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.linear = nn.Linear(width, patch)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        """(cell, token, width) and (cell, width) -> (cell, token, patch)."""
        shift, scale = (m.unsqueeze(1) for m in self.adaLN_modulation(c).chunk(2, dim=1))
        return self.linear(self.norm_final(x) * (1 + scale) + shift)


class ReferenceDiT(nn.Module):
    """The paper's noise predictor."""

    def __init__(self, genes: int, patch: int, width: int, depth: int, heads: int, mlp_ratio: float = 4.0) -> None:
        """Embedders, blocks, final layer; positions are sines and cosines of a row and of the one column."""
        super().__init__()
        self.x_embedder, self.t_embedder = PatchEmbed(patch, width), TimestepEmbedder(width)
        tokens, quarter = genes // patch, width // 4
        rows = torch.arange(tokens).double()[:, None] / 10000.0 ** (torch.arange(quarter).double() / quarter)[None]
        columns = torch.zeros_like(rows)
        codes = torch.cat([columns.sin(), columns.cos(), rows.sin(), rows.cos()], dim=1).float()
        self.pos_embed = nn.Parameter(codes[None], requires_grad=False)
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio) for _ in range(depth))
        self.final_layer = FinalLayer(width, patch)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Noisy cells (cell, gene) and timesteps (cell,) -> predicted noise (cell, gene)."""
        tokens, c = self.x_embedder(x) + self.pos_embed, self.t_embedder(t)
        for block in self.blocks:
            tokens = block(tokens, c)
        return self.final_layer(tokens, c).reshape(x.shape)


def random_network(seed: int, **sizes: int) -> ReferenceDiT:
    """Every weight random, so that nothing is hidden by the zeros that adaLN-Zero begins with."""
    torch.manual_seed(seed)
    network = ReferenceDiT(**sizes)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name != "pos_embed":
                weight.copy_(0.15 * torch.randn_like(weight))
    return network.eval()


@torch.inference_mode()
def main() -> None:
    """Write the state dict and what it computes."""
    from safetensors.torch import save_file

    network = random_network(0, genes=60, patch=5, width=24, depth=2, heads=3)
    cells = 3 * torch.randn(6, 60, generator=torch.Generator().manual_seed(1)) - 4
    timesteps = torch.tensor([1, 10, 250, 500, 990, 1000])
    torch.save(network.state_dict(), ORACLES / "reference_dit.pt")
    save_file(network.state_dict(), ORACLES / "reference_dit.safetensors")
    arrays = {"cells": cells, "timesteps": timesteps, "predicted": network(cells, timesteps)}
    np.savez(ORACLES / "reference_dit.npz", **{name: array.numpy() for name, array in arrays.items()})


if __name__ == "__main__":
    main()
