"""What a network is given beside the cells: the timestep, labels, a cell's state, and where a token stands."""

from __future__ import annotations

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

TIMESTEP_FEATURES = 256


def timestep_features(timesteps: jax.Array, size: int, max_period: float = 10_000.0) -> jax.Array:
    """[cos(t w_k), sin(t w_k)], w_k = max_period^(-k / (size/2))  (Peebles & Xie 2023). (n,) -> (n, size)."""
    half = size // 2
    frequencies = jnp.asarray(np.exp(-math.log(max_period) * np.arange(half) / half), jnp.float32)
    angles = timesteps.astype(jnp.float32)[:, None] * frequencies[None, :]
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


def sincos_positions(tokens: int, width: int) -> np.ndarray:
    """Fixed position codes [sin(p w_k), cos(p w_k)] of Vaswani et al. 2017, shape (tokens, width), float32."""
    half = width // 2
    angles = np.arange(tokens)[:, None] / 10_000.0 ** (np.arange(half) / half)[None, :]
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


_normal = nn.initializers.normal(0.02)


def with_more_labels(embeddings: np.ndarray, before: Sequence[int], after: Sequence[int]) -> np.ndarray:
    """The label embeddings (row, width) of `Conditioning` for columns of so many names `before`, with rows for those
    that each column has `after`: the new ones are the mean of the column's others."""
    tables, first = [], 0
    for known, names in zip(before, after, strict=True):
        rows = embeddings[first : first + known]
        new = np.tile(rows.mean(axis=0, keepdims=True), (names - known, 1))
        tables += [rows, new, embeddings[first + known : first + known + 1]]
        first += known + 1
    return np.concatenate(tables) if tables else embeddings


class Conditioning(nn.Module):
    """One vector for a timestep, the labels of a cell and its state: the embedded timestep, plus an embedding of every
    label, plus what a small network makes of the `states` numbers of a state.

    `labels` is how many names there are in each column of labels. Each column has a table with one more row, the last:
    no label (as -1, which is how pandas codes it), learnt from the cells whose labels are dropped in training; a state
    that is dropped adds nothing. All of it begins at zero, so a network with conditions begins as one without. Ho &
    Salimans 2022 (classifier-free guidance).
    """

    width: int
    labels: tuple[int, ...] = ()
    states: int = 0

    def setup(self) -> None:
        """Name the layers."""
        self.timestep_in = nn.Dense(self.width, kernel_init=_normal)
        self.timestep_out = nn.Dense(self.width, kernel_init=_normal)
        if self.labels:
            rows = sum(self.labels) + len(self.labels)
            self.label_embeddings = self.param("label_embeddings", nn.initializers.zeros_init(), (rows, self.width))
        if self.states:
            self.state_in = nn.Dense(self.width)
            self.state_out = nn.Dense(self.width, kernel_init=nn.initializers.zeros_init())

    def __call__(
        self, timesteps: jax.Array, labels: jax.Array | None = None, states: jax.Array | None = None
    ) -> jax.Array:
        """Timesteps (n,), labels (n, column) int32 and states (n, number), NaN where there is none; without labels or
        states, those of no cell -> (n, width), for the modulations."""
        vector = self.timestep_out(nn.silu(self.timestep_in(timestep_features(timesteps, TIMESTEP_FEATURES))))
        if self.labels:
            sizes = np.asarray(self.labels, np.int32)[None]
            first = np.cumsum(np.append(0, sizes[0, :-1] + 1)).astype(np.int32)[None]
            labels = jnp.full((len(timesteps), len(self.labels)), -1, jnp.int32) if labels is None else labels
            vector = vector + self.label_embeddings[first + jnp.where(labels < 0, sizes, labels)].sum(axis=1)
        if self.states:
            states = jnp.full((len(timesteps), self.states), jnp.nan) if states is None else states
            there = jnp.isfinite(states)
            made = self.state_out(nn.silu(self.state_in(jnp.where(there, states, 0.0))))
            vector = vector + jnp.where(there[:, :1], made, 0.0)
        return nn.silu(vector)
