"""The same network and the same sampler in PyTorch, written from the paper as PyTorch users would; a peer for timing.

It is given every saving that our own sampler has and PyTorch allows: conditioning once a step and not once a cell,
fused attention, inference mode, noise drawn only where a solver needs it, nothing copied to the host between steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from scrdit_jax.data.scaling import Scaling
from scrdit_jax.diffusion.predictions import FARTHEST, LARGEST_LOG_SPREAD, Prediction, ZeroInflated
from scrdit_jax.diffusion.predictions.mixture import Mixture
from scrdit_jax.networks import TIMESTEP_FEATURES, sincos_positions
from scrdit_jax.networks.dit import MODULATIONS_OF_FINAL, MODULATIONS_PER_BLOCK, DiTConfig
from scrdit_jax.sampling.solvers import Coefficients


class Block(nn.Module):
    """An adaLN-Zero block (Peebles & Xie 2023)."""

    def __init__(self, config: DiTConfig) -> None:
        """The four dense layers of a block."""
        super().__init__()
        self.heads, width = config.heads, config.width
        hidden = round(config.mlp_ratio * width)
        self.qkv, self.projection = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp_in, self.mlp_out = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor, modulations: torch.Tensor) -> torch.Tensor:
        """(cell, token, width) and (6, width) -> (cell, token, width)."""
        shift_attention, scale_attention, gate_attention, shift_mlp, scale_mlp, gate_mlp = modulations
        cells, tokens, width = x.shape
        h = torch.addcmul(shift_attention, _normalise(x), 1 + scale_attention)
        q, k, v = self.qkv(h).view(cells, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
        x = torch.addcmul(x, gate_attention, self.projection(attended))
        h = torch.addcmul(shift_mlp, _normalise(x), 1 + scale_mlp)
        return torch.addcmul(x, gate_mlp, self.mlp_out(F.gelu(self.mlp_in(h), approximate="tanh")))


def _normalise(x: torch.Tensor) -> torch.Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)


class DiT(nn.Module):
    """The network of `scrdit_jax.networks.dit`, layer by layer."""

    def __init__(self, config: DiTConfig, genes: int, outputs: int) -> None:
        """`genes` values a cell in, `outputs` numbers a gene out."""
        super().__init__()
        self.config, self.genes, self.outputs = config, genes, outputs
        self.tokens, width = genes // config.genes_per_token, config.width
        self.patchify = nn.Linear(config.genes_per_token, width)
        if config.summary_token:
            rank = config.summary_rank or width
            self.summarise, self.tell = nn.Linear(genes, width), nn.Linear(rank, genes * outputs)
            if config.summary_rank is not None:
                self.tell_in = nn.Linear(width, rank)
        if outputs > 1:
            self.gene_bias = nn.Parameter(torch.zeros(genes, outputs))
        self.timestep_in, self.timestep_out = nn.Linear(TIMESTEP_FEATURES, width), nn.Linear(width, width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.modulation = nn.Linear(width, (MODULATIONS_PER_BLOCK * config.depth + MODULATIONS_OF_FINAL) * width)
        self.unpatchify = nn.Linear(width, config.genes_per_token * outputs)
        self.register_buffer("positions", torch.from_numpy(sincos_positions(self.tokens, width)))

    def modulations(self, timesteps: torch.Tensor) -> torch.Tensor:
        """(n,) -> (n, 6 depth + 2, width)."""
        half = TIMESTEP_FEATURES // 2
        frequencies = torch.exp(-np.log(10_000.0) * torch.arange(half, device=timesteps.device) / half)
        angles = timesteps.float()[:, None] * frequencies
        features = torch.cat([angles.cos(), angles.sin()], dim=-1).to(self.timestep_in.weight.dtype)
        condition = self.timestep_out(F.silu(self.timestep_in(features)))
        return self.modulation(F.silu(condition)).view(len(timesteps), -1, self.config.width)

    def forward(self, cells: torch.Tensor, modulations: torch.Tensor) -> torch.Tensor:
        """Noisy cells (cell, gene) and one row of modulations -> (cell, gene) or (cell, gene, outputs)."""
        c = self.config
        x = self.patchify(cells.view(len(cells), self.tokens, c.genes_per_token)) + self.positions.to(cells.dtype)
        if c.summary_token:
            x = torch.cat([self.summarise(cells)[:, None], x], dim=1)
        for i, block in enumerate(self.blocks):
            x = block(x, modulations[MODULATIONS_PER_BLOCK * i : MODULATIONS_PER_BLOCK * (i + 1)])
        shift, scale = modulations[-MODULATIONS_OF_FINAL:]
        x = torch.addcmul(shift, _normalise(x), 1 + scale)
        predicted = self.unpatchify(x[:, -self.tokens :]).reshape(len(cells), self.genes, self.outputs)
        if c.summary_token:
            summary = x[:, 0] if c.summary_rank is None else self.tell_in(x[:, 0])
            predicted = predicted + self.tell(summary).view_as(predicted)
        return predicted[..., 0] if self.outputs == 1 else predicted + self.gene_bias


def load_params(module: DiT, params: Any) -> DiT:
    """`module` with the weights of a Flax `params` pytree; every one is used and every one is set."""
    tree = params["params"]
    state = {"positions": module.positions}
    for name, layer in tree.items():
        if name == "gene_bias":
            state[name] = _tensor(layer)
        elif name == "blocks":
            for inner, values in layer.items():
                for i in range(module.config.depth):
                    state[f"blocks.{i}.{inner}.weight"] = _tensor(values["kernel"][i]).T.contiguous()
                    state[f"blocks.{i}.{inner}.bias"] = _tensor(values["bias"][i])
        else:
            state[f"{name}.weight"] = _tensor(layer["kernel"]).T.contiguous()
            state[f"{name}.bias"] = _tensor(layer["bias"])
    module.load_state_dict(state, strict=True)
    return module.eval()


def _tensor(values: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(values, np.float32))


def clean(prediction: Prediction, noisy: torch.Tensor, predicted: torch.Tensor, alpha_bar: float) -> torch.Tensor:
    """The clean cells a prediction means, all float32; see `scrdit_jax.diffusion.predictions`."""
    if isinstance(prediction, ZeroInflated):
        log_odds, means, log_spreads = predicted.movedim(-1, 0).split(1)
        logits = torch.zeros_like(means)
    elif isinstance(prediction, Mixture):
        k = prediction.components
        log_odds, logits, means, log_spreads = predicted.movedim(-1, 0).split((1, k, k, k))
    else:
        return prediction.clean(noisy, predicted, alpha_bar)
    expressed = (means - prediction.mean) / prediction.std
    log_spreads = log_spreads.clamp(prediction.least_log_spread, LARGEST_LOG_SPREAD) - math.log(prediction.std)
    variance, noise, root = torch.exp(2 * log_spreads), 1 - alpha_bar, alpha_bar**0.5
    total = alpha_bar * variance + noise
    from_zero, from_expressed = noisy - root * prediction.zero, noisy[None] - root * expressed
    log_weights = torch.log_softmax(logits, dim=0) - 0.5 * (from_expressed**2 / total + total.log())
    evidence = torch.logsumexp(log_weights, dim=0) + 0.5 * (from_zero**2 / noise + math.log(noise))
    farthest = FARTHEST * torch.exp(log_spreads)
    values = expressed + torch.clamp(root * variance * from_expressed / total, -farthest, farthest)
    value = (torch.softmax(log_weights, dim=0) * values).sum(dim=0)
    return prediction.zero + torch.sigmoid(log_odds[0] + evidence) * (value - prediction.zero)


@torch.inference_mode()
def sample(
    network: DiT,
    forward: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    prediction: Prediction,
    scaling: Scaling,
    coefficients: Coefficients,
    start: torch.Tensor,
    *,
    dtype: torch.dtype = torch.float32,
) -> np.ndarray:
    """Cells (cell, gene) from noise `start`, float32; `forward` is `network` or what torch.compile made of it."""
    table = network.modulations(torch.from_numpy(np.array(coefficients.timestep)).to(start.device)).to(dtype)
    x, previous, earlier = start, torch.zeros_like(start), torch.zeros_like(start)
    for i, (_, alpha_bar, a, b, c, d, s) in enumerate(zip(*map(np.ndarray.tolist, coefficients), strict=True)):
        m = clean(prediction, x, forward(x.to(dtype), table[i]).float(), alpha_bar)
        following = a * x + b * m
        if c:
            following = following + c * previous
        if d:
            following = following + d * earlier
        if s:
            following = following + s * torch.randn_like(x)
        x, previous, earlier = following, m, previous
    return torch.clamp(x * scaling.std + scaling.mean, min=0).cpu().numpy()
