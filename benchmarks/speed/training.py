"""Speed of training steps by preset, dtype, batch and devices: python -m benchmarks.speed.training --out FILE.json.

Cells a second, floating-point operations a second (three times those of the network's own pass), their share of the
devices' peak, and memory. Random cells, nothing from a disk. On a CPU one device has all cores for its operations, and
several share them; each row is then measured in a process of its own.
"""

from __future__ import annotations

import contextlib
from itertools import product
from pathlib import Path
from typing import Any

import click
import jax
import numpy as np

from benchmarks.commands import in_own_process, one_line_errors
from benchmarks.speed.peaks import share_of_peak
from benchmarks.speed.tiny import sized
from scrdit_jax.attention import with_fastest_attention
from scrdit_jax.benchmarking.run import random_metadata
from scrdit_jax.benchmarking.store import ResultStore, Row
from scrdit_jax.benchmarking.timing import Timing, seconds_of
from scrdit_jax.config import load_preset
from scrdit_jax.data.batches import Batch
from scrdit_jax.devices import peak_memory, usable_cores
from scrdit_jax.diffusion.predictions import make_prediction
from scrdit_jax.networks import flops_per_evaluation, make_network
from scrdit_jax.training.parallel import DEVICES, parallelise
from scrdit_jax.training.state import initial_state
from scrdit_jax.training.step import make_step

PRESETS = ("paper", "base", "demo")
# Beside the preset's own: what keeps an accelerator busy.
LARGE_BATCH = 512
FORWARD_AND_BACKWARD = 3
FED = 4

# Preset, dtype, batch size over all devices, devices.
Case = tuple[str, str, int, int]


def measure(case: Case, steps: int, rounds: int, tiny: bool) -> Row:
    """One row; on a CPU whose JAX has not started, with as many devices."""
    preset, dtype, batch_size, devices = case
    with contextlib.suppress(RuntimeError):  # JAX has started: they are an accelerator's
        jax.config.update("jax_num_cpu_devices", devices)
    found = jax.local_devices()[:devices]
    config = sized(preset, tiny=tiny).with_settings({"batch_size": batch_size, "dtype": dtype})
    metadata = random_metadata(config)
    genes, prediction = len(metadata.genes), make_prediction(config.diffusion.prediction, metadata.scaling)
    network = make_network(config.network, genes, prediction.outputs)
    fastest = with_fastest_attention(network, dtype, gradient=True)
    step = parallelise(make_step(fastest, config, metadata.scaling, axis_name=DEVICES), found)
    fed = [step.share(_batch(batch_size, genes, seed)) for seed in range(FED)]
    state = step.place(initial_state(network, genes, config.training))

    def run(times: int) -> Any:
        nonlocal state
        for number in range(times):
            state, metrics = step.run(state, fed[number % FED])
        return state, metrics

    compile_seconds, _ = seconds_of(lambda: run(1))
    timing = Timing(tuple(seconds_of(lambda: run(steps))[0] / steps for _ in range(rounds)))
    rate, (peak, whose) = batch_size / timing.median, peak_memory()
    flops = rate * FORWARD_AND_BACKWARD * flops_per_evaluation(network)
    return {
        "preset": preset, "dtype": dtype, "attention": fastest.attention, "batch_size": batch_size, "devices": devices,
        "cells_per_second": rate, "step_seconds": list(timing.seconds), "first_step_seconds": compile_seconds,
        "flops_per_second": flops, "share_of_peak": share_of_peak(flops, found[0].device_kind, devices),
        "peak_memory": {"bytes": peak, "of": whose},
    }  # fmt: skip


def _batch(cells: int, genes: int, seed: int) -> Batch:
    """Values about as log expression has them, most of them zeros."""
    random = np.random.default_rng(seed)
    values = random.gamma(2, 0.7, (cells, genes)) * (random.random((cells, genes)) > 0.87)
    return Batch(values.astype(np.float32), log_sizes=np.zeros(cells, np.float32))


def cases(found: dict[str, Any], *, tiny: bool) -> list[Case]:
    """Every row's, those that say most first."""
    on_cpu = found["platform"] == "cpu"
    most = min(usable_cores(), 2) if on_cpu else found["devices"]
    dtypes = ("float32",) if on_cpu else ("bfloat16", "float32")
    if tiny:
        return [("paper", "bfloat16", 8, most), ("demo", "float32", 8, 1)]
    rows = []
    for dtype, preset in product(dtypes, PRESETS):
        own = load_preset(preset).training.batch_size
        sizes = (own,) if on_cpu else (LARGE_BATCH, own)
        rows += [(preset, dtype, size, n) for size in sizes for n in sorted({most, 1}, reverse=True) if size % n == 0]
    return rows


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--steps", default=10, show_default=True, help="In each round.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--tiny", is_flag=True, help="Small networks, to rehearse.")
def main(out: Path, steps: int, rounds: int, tiny: bool) -> None:
    """Measure what FILE lacks, row by row."""
    found = in_own_process("scrdit_jax.devices", "describe_devices")
    with one_line_errors():
        results = ResultStore(out, {"device": found, "cores": usable_cores(), "tiny": tiny})
        for case in cases(found, tiny=tiny):

            def row(arguments: tuple = (case, steps, rounds, tiny)) -> Row:
                if found["platform"] == "cpu" and not tiny:
                    return in_own_process("benchmarks.speed.training", "measure", *arguments)
                return measure(*arguments)

            name = "-".join(map(str, case))
            made = results.measured(name, row)
            click.echo(f"{name}: {made['cells_per_second']:,.4g} cells/s, {made['flops_per_second']:.3g} FLOP/s")
        results.shared("complete", lambda: True)


if __name__ == "__main__":
    main()
