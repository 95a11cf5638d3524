"""The host beside an accelerator, without one: python -m benchmarks.speed.host --out FILE.json.

In the engine's place stands a fake device, which delivers batches that are packed as an accelerator packs them, each at
its time. They go to shards through the pipeline as it is: as fast as it can on one core and on two, and at the device's
pace. From both, and from the part of the work that no further core takes over, follows what more cores would write.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.commands import as_json, command_line, in_own_process, write_files
from benchmarks.speed.fake_device import BATCH_SIZE, GENES, FakeDevice
from benchmarks.speed.stages import BESIDE, WRITER, CpuByStage
from scrdit_jax.benchmarking.run import random_model
from scrdit_jax.checkpoint import Model
from scrdit_jax.conditioning.assignment import Assignment
from scrdit_jax.conditioning.request import Quotas
from scrdit_jax.config import SamplingConfig, load_preset
from scrdit_jax.devices import describe_devices
from scrdit_jax.evaluation.tables import markdown_table
from scrdit_jax.generation.composition import CellSampler
from scrdit_jax.generation.manifest import Manifest
from scrdit_jax.generation.pipeline import Throughput, make_shards
from scrdit_jax.generation.plan import SHARD_CELLS, Plan
from scrdit_jax.generation.request import SampleRequest
from scrdit_jax.generation.store import Store
from scrdit_jax.generation.writers import WRITERS

PACE, MANY_CORES = 150_000, 16
ZEROS = (0.87, 0.9, 0.95)
SMALL = {"genes": GENES, "genes_per_token": 100, "width": 16, "depth": 1, "heads": 1}


def model() -> Model:
    """One whose cells nobody makes."""
    return random_model(load_preset("demo").with_settings(SMALL))


def written(folder: str, zeros: float, pace: float | None, cells: int, by_stage: bool) -> dict[str, Any]:
    """Write `cells` in this process; cells a second, the share that the device waited, or CPU microseconds by stage."""
    device, any_model = FakeDevice(zeros, pace), model()
    shard_cells = min(SHARD_CELLS, cells)
    # The first shard warms up.
    for number, count in enumerate((shard_cells, cells)):
        out = Path(folder) / f"cells-{number}"
        request = SampleRequest.of(any_model, Quotas.unlabelled(count), SamplingConfig(batch_size=BATCH_SIZE))
        sampler = CellSampler((device,), (count,), Assignment.of(request.quotas), None)
        plan = Plan.make(count, BATCH_SIZE, near=shard_cells)
        manifest = Manifest(request.provenance(any_model), plan, dict(describe_devices()))
        device.rest()
        with Store(out, manifest) as store, CpuByStage(enabled=by_stage) as stages:
            started, spent = time.perf_counter(), time.process_time()
            make_shards(sampler, store, store.lock_each(store.missing()), Throughput())
            seconds, spent = time.perf_counter() - started, time.process_time() - spent
        with Store(out) as store:
            records = store.records()
        shutil.rmtree(out)
    return {
        "cells_per_second": cells / seconds,
        "cells_per_cpu_second": cells / spent,
        "device_waited": device.waited / seconds,
        "bytes_transferred_per_cell": device.bytes / cells,
        "bytes_written_per_cell": sum(record.bytes for record in records) / cells,
        "values_per_cell": sum(record.nonzeros for record in records) / cells,
        "cpu_us_per_cell": {stage: 1e6 * spent / cells for stage, spent in stages.seconds.items()},
    }


@contextmanager
def on_cores(count: int) -> Iterator[None]:
    """Processes started meanwhile have the first `count` of the cores that this one may use."""
    usable = os.sched_getaffinity(0)
    if count > len(usable):
        raise click.UsageError(f"{count} cores are needed, this process may use {len(usable)}")
    os.sched_setaffinity(0, sorted(usable)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, usable)


def measure(folder: Path, zeros: float, cells: int, rounds: int) -> dict[str, Any]:
    """Of one share of zeros: in turns on one core and on two as fast as can be, then at the device's pace, then by
    stage on one core."""

    def run(cores: int, pace: float | None, by_stage: bool = False) -> dict[str, Any]:
        with on_cores(cores):
            return in_own_process("benchmarks.speed.host", "written", folder, zeros, pace, cells, by_stage)

    turns = [(run(1, None), run(2, None), run(2, PACE), run(1, None, True)) for _ in range(rounds)]
    one, two, paced, staged = zip(*turns, strict=True)
    stages = {name: _median(turn["cpu_us_per_cell"][name] for turn in staged) for name in staged[0]["cpu_us_per_cell"]}
    by_cores = {"1": one, "2": two}
    rates = {name: _median(turn["cells_per_second"] for turn in turns) for name, turns in by_cores.items()}
    return {
        "zeros": zeros,
        "cells_per_second_by_cores": rates,
        "rounds": {name: [turn["cells_per_second"] for turn in turns] for name, turns in by_cores.items()},
        # On a machine that has other work, too, this is what a core could write.
        "cells_per_cpu_second_by_cores": {
            name: _median(turn["cells_per_cpu_second"] for turn in turns) for name, turns in by_cores.items()
        },
        "at_pace_on_2_cores": {
            key: _median(turn[key] for turn in paced) for key in ("cells_per_second", "device_waited")
        },
        **{key: paced[-1][key] for key in paced[-1] if key.endswith("_per_cell") and not key.startswith("cpu")},
        "cpu_us_per_cell": stages,
        **extrapolated(rates, stages),
    }


def extrapolated(rates: dict[str, float], stages: dict[str, float]) -> dict[str, Any]:
    """Cells a second on many cores, and what bounds it.

    A core writes what each of two does. What holds Python's lock or HDF5's, or is done for one batch after the other,
    is done by one core at a time: all that is not done beside it counts as such.
    """
    serial = sum(spent for name, spent in stages.items() if name not in BESIDE)
    bounds = {
        "the device": float(PACE),
        "the serial part": 1e6 / serial,
        "the writers": WRITERS * 1e6 / sum(stages.get(name, 0.0) for name in WRITER),
        "the cores": MANY_CORES * rates["2"] / 2,
    }
    slowest = min(bounds, key=bounds.__getitem__)
    return {
        "scaling_from_1_to_2_cores": rates["2"] / rates["1"],
        "serial_us_per_cell": serial,
        f"bounds_on_{MANY_CORES}_cores": bounds,
        f"cells_per_second_on_{MANY_CORES}_cores": bounds[slowest],
        "bounded_by": slowest,
        f"device_waits_on_{MANY_CORES}_cores": 1 - bounds[slowest] / PACE,
    }


def _median(values: Any) -> float:
    return float(np.median(list(values)))


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    header = ["zeros", "1 core, cells/s", "2 cores", f"2 cores, device at {PACE:,}/s", "it waits",
              "CPU µs a cell", "of it serial", f"{MANY_CORES} cores", "bounded by"]  # fmt: skip
    lines = []
    for row in rows:
        rates, paced = row["cells_per_second_by_cores"], row["at_pace_on_2_cores"]
        lines.append((
            f"{row['zeros']:.0%}", f"{rates['1']:,.0f}", f"{rates['2']:,.0f}", f"{paced['cells_per_second']:,.0f}",
            f"{paced['device_waited']:.0%}", f"{sum(row['cpu_us_per_cell'].values()):.1f}",
            f"{row['serial_us_per_cell']:.1f}", f"{row[f'cells_per_second_on_{MANY_CORES}_cores']:,.0f}",
            row["bounded_by"],
        ))  # fmt: skip
    stages = {name: [row["cpu_us_per_cell"][name] for row in rows] for name in rows[0]["cpu_us_per_cell"]}
    spent = [
        (name, "many cores" if name in BESIDE else "one core", *(f"{one:.2f}" for one in values))
        for name, values in stages.items()
    ]
    zeros = [f"{row['zeros']:.0%} zeros" for row in rows]
    return (
        markdown_table(header, lines, numbers=True)
        + "\nCPU µs a cell by stage:\n\n"
        + markdown_table(["stage", "done by", *zeros], spent, numbers=True)
    )


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--cells", default=4 * SHARD_CELLS, show_default=True, help="In each measurement.")
@click.option("--rounds", default=3, show_default=True)
def main(out: Path, cells: int, rounds: int) -> None:
    """Measure and write JSON, and a table beside it."""
    rows: list[dict[str, Any]] = []
    found = {"command": command_line("benchmarks.speed.host"), "genes": GENES, "batch_size": BATCH_SIZE,
             "device_cells_per_second": PACE, "cells": cells, "rows": rows}  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.absolute().parent) as name:
        for zeros in ZEROS:
            rows.append(measure(Path(name), zeros, cells, rounds))
            click.echo(as_json(rows[-1]), file=sys.stderr)
            write_files(out.parent, {out.name: as_json(found), f"{out.stem}.md": table(rows)})
    click.echo(table(rows))


if __name__ == "__main__":
    main()
