"""Training on two devices against one with the same cores: python -m benchmarks.speed.devices --out FILE.json.

The demo's network on PBMC 3k. One device has all cores for its operations; two share them. Each measurement is a
process of its own, in turn, so that what disturbs the machine disturbs both.
"""

from __future__ import annotations

import time
from pathlib import Path

import click
import numpy as np

from benchmarks.commands import as_json, in_own_process, write_files

BATCH_SIZES = (64, 256)


def training_speed(devices: int, batch_size: int, steps: int) -> float:
    """Cells a second of training steps, compiled and prefetched before the clock starts."""
    import jax

    jax.config.update("jax_num_cpu_devices", devices)
    from scrdit_jax.api import prepare, settings
    from scrdit_jax.data.batches import Batches
    from scrdit_jax.diffusion.predictions import make_prediction
    from scrdit_jax.networks import make_network
    from scrdit_jax.training.parallel import parallelise
    from scrdit_jax.training.state import initial_state

    config = settings("demo", batch_size=batch_size)
    prepared = prepare("pbmc3k", preset=config)
    genes = len(prepared.metadata.genes)
    prediction = make_prediction(config.diffusion.prediction, prepared.metadata.scaling)
    network = make_network(config.network, genes, prediction.outputs)
    step = parallelise(network, config, prepared.metadata.scaling, jax.local_devices())
    state = step.place(initial_state(network, genes, config.training))
    batches = Batches(prepared.train.X, batch_size, 0)
    fed = [step.feed(batches.at(number)) for number in range(10)]
    state, metrics = jax.block_until_ready(step.run(state, fed[0]))
    started = time.perf_counter()
    for number in range(steps):
        state, metrics = step.run(state, fed[number % len(fed)])
    jax.block_until_ready((state, metrics))
    return steps * batch_size / (time.perf_counter() - started)


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--cells", default=4096, show_default=True, help="To train on in each measurement.")
@click.option("--rounds", default=4, show_default=True)
def main(out: Path, cells: int, rounds: int) -> None:
    """Measure and write JSON."""
    rows = []
    for batch_size in BATCH_SIZES:
        found: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(rounds):
            for devices, speeds in found.items():
                arguments = (devices, batch_size, cells // batch_size)
                speeds.append(in_own_process("benchmarks.speed.devices", "training_speed", *arguments))
        one, two = (float(np.median(found[devices])) for devices in (1, 2))
        rows.append({"batch_size": batch_size, "cells_per_second": found, "two_over_one": two / one})
    text = as_json({"network": "demo", "rows": rows})
    write_files(out.parent, {out.name: text})
    click.echo(text)


if __name__ == "__main__":
    main()
