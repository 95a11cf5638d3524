"""Ways to compute attention, in the network and its training: python -m benchmarks.speed.attention --out FILE.json.

Every implementation that the transformer knows, in the paper's network and in the base preset's, whose summary token
makes the number of tokens odd: the network's pass, and that with its gradient. Null where the device has none such.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import click
import jax
import jax.numpy as jnp

from benchmarks.commands import one_line_errors
from benchmarks.speed.tiny import sized
from scrdit_jax.attention import attention_seconds
from scrdit_jax.benchmarking.run import random_model
from scrdit_jax.benchmarking.store import ResultStore, Row
from scrdit_jax.cache import seconds_a_call
from scrdit_jax.checkpoint import Model
from scrdit_jax.devices import describe_devices
from scrdit_jax.generation.program import network_of
from scrdit_jax.networks import attention_shape
from scrdit_jax.networks.dit import ATTENTIONS

PRESETS = ("paper", "base")
CELLS = 256


def measure(model: Model, attention: str, dtype: str, cells: int) -> Row:
    """Seconds of the network's pass over so many cells, and of it with its gradient; None where it cannot be."""
    network = network_of(model)[0].clone(attention=attention)
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), model.params)
    noisy = jax.random.normal(jax.random.key(0), (cells, network.genes)).astype(dtype)
    modulations = network.apply(params, jnp.full(cells, 10), method="modulations").astype(dtype)

    def denoise(params: Any) -> jax.Array:
        return network.apply(params, noisy, modulations, method="denoise")

    def loss(params: Any) -> jax.Array:
        return jnp.mean(denoise(params).astype(jnp.float32) ** 2)

    row: Row = {"attention": attention, "dtype": dtype, "tokens": attention_shape(network)[0], "cells": cells}
    for what, function in (("forward", denoise), ("forward_and_backward", jax.grad(loss))):
        compiled = jax.jit(function)
        try:
            row[f"{what}_seconds"] = seconds_a_call(lambda call=compiled: call(params))
        except (
            RuntimeError,
            TypeError,
            ValueError,
            NotImplementedError,
        ) as error:  # the device, its library, the shape
            row |= {f"{what}_seconds": None, f"{what}_refused": " ".join(str(error).split())[:200]}
    return row


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--tiny", is_flag=True, help="Small networks, to rehearse.")
def main(out: Path, tiny: bool) -> None:
    """Measure what FILE lacks, row by row."""
    with one_line_errors():
        results = ResultStore(out, {"device": describe_devices(), "tiny": tiny})
        for preset, dtype in [("base", "bfloat16")] if tiny else product(PRESETS, ("bfloat16", "float32")):
            model = random_model(sized(preset, tiny=tiny))
            alone = f"{preset}-{dtype}"
            results.shared(alone, lambda m=model, d=dtype: attention_seconds(network_of(m)[0], d, ATTENTIONS))
            for attention in ATTENTIONS:
                name, cells = f"{alone}-{attention}", 4 if tiny else CELLS
                row = results.measured(name, lambda m=model, a=attention, d=dtype, n=cells: measure(m, a, d, n))
                shown = {what: row[f"{what}_seconds"] for what in ("forward", "forward_and_backward")}
                click.echo(f"{name}: {shown}")
        results.shared("complete", lambda: True)


if __name__ == "__main__":
    main()
