"""The paper's network as a sampler, by dtype, evaluations, batch: python -m benchmarks.speed.sampling --out FILE.json.

Random weights; cells a second, floating-point operations a second and their share of the devices' peak in bfloat16.
Every dtype that cells can be sampled in; one whose library is missing is left out by a sentence.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import jax

from benchmarks.commands import one_line_errors
from benchmarks.speed.peaks import share_of_peak
from benchmarks.speed.tiny import sized
from scrdit_jax import config
from scrdit_jax.benchmarking.harness import time_batches
from scrdit_jax.benchmarking.run import random_model
from scrdit_jax.benchmarking.store import ResultStore, Row
from scrdit_jax.checkpoint import Model
from scrdit_jax.config import SamplingConfig
from scrdit_jax.devices import describe_devices, use_every_core
from scrdit_jax.errors import BadConfig, MissingExtra
from scrdit_jax.generation.engine import make_engine
from scrdit_jax.generation.tuning import stops_paying
from scrdit_jax.networks import flops_per_evaluation

# The paper's network predicts noise, so that its cells are averaged.
SOLVER, EVALUATIONS = "dpmpp-2m", (20, 4)
BATCHES = {"cpu": (4, 16, 64), "gpu": (128, 256, 512, 1024, 2048), "tpu": (8, 16, 32, 64, 512)}
TINY_BATCHES = (8,)
SAMPLING_DTYPES = getattr(config, "SAMPLING_DTYPES", config.DTYPES)


def measure(model: Model, dtype: str, steps: int, batch_size: int, batches: int) -> Row:
    """One row; `batch_size` is that of one device."""
    devices = jax.local_devices()
    sampling = SamplingConfig(solver=SOLVER, steps=steps, batch_size=batch_size * len(devices), dtype=dtype)
    engine = make_engine(model, sampling)
    timing, _ = time_batches(engine, batches + 1)
    rate = engine.batch_size / timing.median
    flops = rate * steps * flops_per_evaluation(engine.network)
    return {
        "dtype": dtype, "evaluations": steps, "batch_size": engine.batch_size, "devices": len(devices),
        "attention": engine.network.attention, "cells_per_second": rate, "batch_seconds": list(timing.seconds),
        "compile_seconds": engine.program.compile_seconds, "program_bytes": engine.program.bytes_needed,
        "flops_per_second": flops, "share_of_peak": share_of_peak(flops, devices[0].device_kind, len(devices)),
    }  # fmt: skip


def order_of_dtypes(platform: str) -> list[str]:
    """bfloat16 first, float32 last, and on a CPU nothing else."""
    if platform == "cpu":
        return ["float32"]
    return sorted(SAMPLING_DTYPES, key=lambda dtype: (dtype != "bfloat16", dtype == "float32"))


def sweep(
    results: ResultStore, model: Model, dtype: str, steps: int, sizes: tuple[int, ...], batches: int
) -> Iterator[str]:
    """Rows from the smallest batch to where more cells no longer pay, or do not fit; yields what is to be said."""
    rates: list[float] = []
    for size in sizes:
        name = f"{dtype}-{steps}-{size}"
        try:
            row = results.measured(name, lambda size=size: measure(model, dtype, steps, size, batches))
        except BadConfig as error:
            yield f"{name}: {error}"
            return
        share = "" if row["share_of_peak"] is None else f", {row['share_of_peak']:.1%} of the peak"
        yield f"{name}: {row['cells_per_second']:,.4g} cells/s{share}"
        rates.append(row["cells_per_second"])
        if stops_paying(rates):
            return


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--batches", default=3, show_default=True, help="Timed ones of each row.")
@click.option("--tiny", is_flag=True, help="A small network and every dtype on the CPU too, to rehearse.")
def main(out: Path, batches: int, tiny: bool) -> None:
    """Measure what FILE lacks, row by row."""
    use_every_core()
    found = describe_devices()
    model = random_model(sized("paper", tiny=tiny))
    sizes = TINY_BATCHES if tiny else BATCHES.get(str(found["platform"]), BATCHES["gpu"])
    with one_line_errors():
        results = ResultStore(out, {"device": found, "tiny": tiny})
        for dtype in SAMPLING_DTYPES if tiny else order_of_dtypes(str(found["platform"])):
            try:
                for steps in EVALUATIONS:
                    for line in sweep(results, model, dtype, steps, sizes, batches):
                        click.echo(line)
            except MissingExtra as missing:
                click.echo(f"without {dtype}: {missing}")
        results.shared("complete", lambda: True)


if __name__ == "__main__":
    main()
