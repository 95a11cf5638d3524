"""Cells of RUN from the command to the disk: python -m benchmarks.speed.end_to_end RUN --out FILE.json.

As they are sampled by default, into shards and into one .h5ad, after a first batch that finds its size and compiles.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import click

import scrdit_jax as scrdit
from benchmarks.commands import one_line_errors
from scrdit_jax.benchmarking.store import ResultStore, Row
from scrdit_jax.checkpoint import load_model
from scrdit_jax.devices import describe_devices, peak_memory, use_every_core

FIRST = 64
NAMES = {"shards": "cells", "h5ad": "cells.h5ad"}


def measure(run: Path, cells: int, out: Path) -> Row:
    """One row: speed, the share of the time for which the device waited, and what is on the disk then."""
    summary = scrdit.generate(run, cells, out=out)
    files = [out] if out.is_file() else [path for path in out.rglob("*") if path.is_file()]
    peak, whose = peak_memory()
    return {
        "cells": cells, "seconds": summary.seconds, "cells_per_second": cells / summary.seconds,
        "device_waited": summary.waited, "bytes": sum(path.stat().st_size for path in files),
        "peak_memory": {"bytes": peak, "of": whose},
    }  # fmt: skip


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--cells", default=100_000, show_default=True)
@click.option("--into", type=click.Choice(list(NAMES)), multiple=True, help="Repeatable.  [default: both]")
def main(run: Path, out: Path, cells: int, into: tuple[str, ...]) -> None:
    """Measure what FILE lacks, row by row."""
    use_every_core()
    with one_line_errors(), tempfile.TemporaryDirectory(dir=out.absolute().parent) as name:
        genes = len(load_model(run).metadata.genes)
        results = ResultStore(out, {"device": describe_devices(), "cells": cells, "genes": genes})
        started = time.perf_counter()
        scrdit.generate(run, FIRST, out=Path(name) / "first")
        click.echo(f"the first {FIRST} cells, once compiled: {time.perf_counter() - started:.1f} s")
        for kind in into or NAMES:
            row = results.measured(kind, lambda kind=kind: measure(run, cells, Path(name) / NAMES[kind]))
            click.echo(f"{kind}: {row['cells_per_second']:,.4g} cells/s, the device waited {row['device_waited']:.1%}")
        results.shared("complete", lambda: True)


if __name__ == "__main__":
    main()
