"""Two networks that could have been the prior of cells' states: autoregressive over bins, and a small diffusion.

Both are compared with the mixture in `benchmarks.fidelity.priors`; neither ships. States are (cell, d) in columns of
mean 0 and deviation 1, combinations (cell,) integers below `count`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

WIDTH, DEPTH = 128, 3
BATCH, STEPS, CHECKED_EVERY, PATIENCE = 256, 3000, 150, 6
BINS = 24
LEVELS = 50


def _mlp(key: jax.Array, inputs: int, outputs: int) -> list[tuple[jax.Array, jax.Array]]:
    sizes = [inputs, *[WIDTH] * DEPTH, outputs]
    keys = jax.random.split(key, len(sizes) - 1)
    pairs = zip(keys, sizes[:-1], sizes[1:], strict=True)
    return [(jax.random.normal(k, (a, b)) * (2 / a) ** 0.5, jnp.zeros(b)) for k, a, b in pairs]


def _apply(params: Any, x: jax.Array) -> jax.Array:
    for weight, bias in params[:-1]:
        x = jax.nn.silu(x @ weight + bias[None])
    weight, bias = params[-1]
    return x @ weight + bias[None]


def _train(loss: Callable, params: Any, data: tuple[np.ndarray, ...], seed: int) -> Any:
    """Averaged over steps, when a tenth of the cells, set aside, had the lowest loss(params, rows, key)."""
    rng, optimiser = (
        np.random.default_rng(seed),
        optax.adamw(optax.cosine_decay_schedule(2e-3, STEPS), weight_decay=1e-3),
    )
    rows = rng.permutation(len(data[0]))
    aside, rest = ([jnp.asarray(part)[r] for part in data] for r in np.split(rows, [max(1, len(rows) // 10)]))
    state, mean = optimiser.init(params), params

    @jax.jit
    def step(params, mean, state, batch, key):
        updates, state = optimiser.update(jax.grad(loss)(params, batch, key), state, params)
        params = optax.apply_updates(params, updates)
        return params, optax.incremental_update(params, mean, 0.01), state

    check = jax.jit(lambda params: loss(params, aside, jax.random.key(1)))
    best, lowest, at, key = params, np.inf, 0, jax.random.key(seed)
    for i in range(STEPS):
        chosen = rng.integers(0, len(rest[0]), BATCH)
        params, mean, state = step(params, mean, state, [part[chosen] for part in rest], jax.random.fold_in(key, i))
        if (i + 1) % CHECKED_EVERY:
            continue
        if (value := float(check(mean))) < lowest:
            best, lowest, at = mean, value, i
        elif i - at >= PATIENCE * CHECKED_EVERY:
            break
    return best


class Autoregressive:
    """p(s | k) as a product over columns of p(bin of s_i | the earlier s, k), even within a bin."""

    def __init__(self, states: np.ndarray, combinations: np.ndarray, count: int, *, seed: int) -> None:
        """Bins of each column have equally many training cells; beyond the outermost there is nothing."""
        self.d, self.count = states.shape[1], count
        self.edges = np.quantile(states, np.linspace(0, 1, BINS + 1), axis=0).T + np.arange(BINS + 1) * 1e-6
        params = _mlp(jax.random.key(seed), 2 * self.d + count, BINS)
        data = (states.astype(np.float32), combinations, self._bins(states))
        self.params = _train(lambda p, rows, _: -self._log_bins(p, *rows).sum(axis=1).mean(), params, data, seed)

    def _bins(self, states: np.ndarray) -> np.ndarray:
        found = [np.searchsorted(edges, column) - 1 for edges, column in zip(self.edges, states.T, strict=True)]
        return np.clip(np.stack(found, axis=1), 0, BINS - 1)

    def _logits(self, params: Any, states: jax.Array, codes: jax.Array, place: jax.Array) -> jax.Array:
        earlier = jnp.where(jnp.arange(self.d)[None] < place, states, 0.0)
        where = jnp.broadcast_to(jax.nn.one_hot(place, self.d)[None], earlier.shape)
        return _apply(params, jnp.concatenate([earlier, where, jax.nn.one_hot(codes, self.count)], axis=1))

    def _log_bins(self, params: Any, states: jax.Array, codes: jax.Array, bins: jax.Array) -> jax.Array:
        def one(place):
            logs = jax.nn.log_softmax(self._logits(params, states, codes, place))
            return jnp.take_along_axis(logs, bins[:, place][:, None], axis=1)[:, 0]

        return jax.vmap(one)(jnp.arange(self.d)).T

    def log_prob(self, states: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """(cell,) in nats; a value beyond the outermost bins counts as if it were in them."""
        bins = self._bins(states)
        widths = np.take_along_axis(np.diff(self.edges), bins.T, axis=1).T
        logs = self._log_bins(self.params, jnp.asarray(states, jnp.float32), jnp.asarray(codes), jnp.asarray(bins))
        return np.asarray(logs, np.float64).sum(axis=1) - np.log(widths).sum(axis=1)

    @partial(jax.jit, static_argnums=0)
    def draw(self, codes: jax.Array, key: jax.Array) -> jax.Array:
        """(cell, d) by combination (cell,)."""
        edges = jnp.asarray(self.edges, jnp.float32)

        def column(states, place):
            of_bin, of_value = jax.random.split(jax.random.fold_in(key, place))
            bins = jax.random.categorical(of_bin, self._logits(self.params, states, codes, place))
            low, high = edges[place][bins], edges[place][bins + 1]
            value = low + (high - low) * jax.random.uniform(of_value, low.shape)
            return states.at[:, place].set(value), None

        return jax.lax.scan(column, jnp.zeros((len(codes), self.d)), jnp.arange(self.d))[0]


class Diffusion:
    """Denoising diffusion with an MLP that predicts the clean state (v-weighted), 50 ancestral steps."""

    def __init__(self, states: np.ndarray, combinations: np.ndarray, count: int, *, seed: int) -> None:
        """Angles are uniform in (0, pi/2): x = cos s + sin noise, and the network predicts v = cos noise - sin s."""
        self.d, self.count = states.shape[1], count
        params = _mlp(jax.random.key(seed), self.d + 9 + count, self.d)
        self.params = _train(self._loss, params, (states.astype(np.float32), combinations), seed)

    def _velocity(self, params: Any, x: jax.Array, codes: jax.Array, angle: jax.Array) -> jax.Array:
        waves = [f(2.0**i * angle) for i in range(4) for f in (jnp.sin, jnp.cos)]
        known = [x, angle, *waves, jax.nn.one_hot(codes, self.count)]
        return _apply(params, jnp.concatenate(known, axis=1))

    def _loss(self, params: Any, rows: Any, key: jax.Array) -> jax.Array:
        states, codes = rows
        of_angle, of_noise = jax.random.split(key)
        angle = jax.random.uniform(of_angle, (len(codes), 1)) * np.pi / 2
        noise = jax.random.normal(of_noise, states.shape)
        x, v = jnp.cos(angle) * states + jnp.sin(angle) * noise, jnp.cos(angle) * noise - jnp.sin(angle) * states
        return jnp.mean((self._velocity(params, x, codes, angle) - v) ** 2)

    @partial(jax.jit, static_argnums=0)
    def draw(self, codes: jax.Array, key: jax.Array) -> jax.Array:
        """(cell, d) by combination (cell,): DDPM's posterior from each of LEVELS angles to the next."""
        angles = jnp.linspace(np.pi / 2 - 1e-3, 0.0, LEVELS + 1)

        def body(x, step):
            now, after, i = step
            v = self._velocity(self.params, x, codes, jnp.full((len(codes), 1), now))
            clean, noise = jnp.cos(now) * x - jnp.sin(now) * v, jnp.sin(now) * x + jnp.cos(now) * v
            ratio = jnp.cos(now) / jnp.cos(after)
            fresh = jnp.sin(after) / jnp.sin(now) * jnp.sqrt(jnp.maximum(1 - ratio**2, 0.0))
            kept = jnp.sqrt(jnp.maximum(jnp.sin(after) ** 2 - fresh**2, 0.0))
            new = jax.random.normal(jax.random.fold_in(key, i), x.shape)
            return jnp.cos(after) * clean + kept * noise + fresh * new, None

        start = jax.random.normal(jax.random.fold_in(key, LEVELS), (len(codes), self.d))
        return jax.lax.scan(body, start, (angles[:-1], angles[1:], jnp.arange(LEVELS)))[0]
