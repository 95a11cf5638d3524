"""Sines and cosines for timesteps and token positions."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np


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
