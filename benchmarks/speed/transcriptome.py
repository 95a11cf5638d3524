"""Many cells of a whole transcriptome: memory, speed, bytes on the disk.

    python -m benchmarks.speed.transcriptome --out FILE.json                      a network too small to matter
    python -m benchmarks.speed.transcriptome RUN --cells 2000 --out FILE.json     a trained one, as it is sampled

A tenth of the cells and all of them are sampled to shards, those are assembled into one .h5ad, and that is opened
without being read; each in a process of its own, whose peak memory is reported. FILE.json is written after each part.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import anndata
import click
import numpy as np

import scrdit_jax as scrdit
from benchmarks.commands import as_json, command_line, in_own_process, one_line_errors, write_files
from benchmarks.speed.store import TINY_OPTIONS, peak_gb, tiny_run
from scrdit_jax.checkpoint import load_model
from scrdit_jax.devices import describe_devices

# What PBMC 3k has: genes expressed in three cells or more, and their zeros.
GENES, ZEROS = 13_000, 0.94
READ_CELLS = 1000


def assemble_in_process(shards: str, out: str) -> dict[str, float]:
    """Speed and peak memory of this process, which writes one file of the shards."""
    started = time.perf_counter()
    path = scrdit.assemble(shards, out=out)
    return {"seconds": time.perf_counter() - started, "peak_gb": peak_gb(), "gb_written": path.stat().st_size / 1e9}


def open_in_process(path: str) -> dict[str, Any]:
    """What opening a file without reading it takes, and reading a thousand cells; peak memory of this process."""
    started = time.perf_counter()
    cells = anndata.read_h5ad(path, backed="r")
    opened, opened_gb = time.perf_counter() - started, peak_gb()
    rows = np.linspace(0, cells.n_obs - 1, min(READ_CELLS, cells.n_obs)).astype(int)
    started = time.perf_counter()
    values = cells[np.unique(rows)].to_memory().X
    return {
        "cells": cells.n_obs, "genes": cells.n_vars, "open_seconds": opened, "open_peak_gb": opened_gb,
        "read_cells": values.shape[0], "read_seconds": time.perf_counter() - started, "peak_gb": peak_gb(),
        "read_zeros": 1 - values.nnz / (values.shape[0] * values.shape[1]),
    }  # fmt: skip


@click.command()
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option("--cells", type=click.IntRange(10), default=100_000, show_default=True, help="And a tenth of them.")
@click.option("--genes", type=click.IntRange(100), default=GENES, show_default=True, help="Of the small network.")
@click.option("--zeros", type=click.FloatRange(0, 1), default=ZEROS, show_default=True, help="Of its cells, a share.")
@click.option("--counts", is_flag=True, help="Whole numbers too, as a layer.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="FILE.json; its folder must have room.")
def main(run: Path | None, cells: int, genes: int, zeros: float, counts: bool, out: Path) -> None:
    """Measure RUN, or a small network, and write JSON."""
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    with one_line_errors(), tempfile.TemporaryDirectory(dir=out.absolute().parent) as name:
        folder = Path(name)
        options: dict[str, Any] = {"output": "counts"} if counts else {}
        if run is None:
            options |= TINY_OPTIONS
        path = run or Path(in_own_process("benchmarks.speed.transcriptome", "tiny_in_process", folder, genes, zeros))
        found: dict[str, Any] = {
            "command": command_line("benchmarks.speed.transcriptome"), "network": "small" if run is None else run.name,
            "genes": len(load_model(path).metadata.genes), "options": options, "device": describe_devices(),
            "shards": [],
        }  # fmt: skip

        def keep() -> None:
            write_files(out.parent, {out.name: as_json(found)})

        for count in (cells // 10, cells):
            shards = folder / str(count)
            arguments = (path, count, shards, options)
            found["shards"].append(in_own_process("benchmarks.speed.store", "generate_in_process", *arguments))
            keep()
        one = folder / "cells.h5ad"
        for part, arguments in (("assemble", (shards, one)), ("open", (one,))):
            found[part] = in_own_process("benchmarks.speed.transcriptome", f"{part}_in_process", *arguments)
            keep()
    click.echo(as_json(found))


def tiny_in_process(folder: str, genes: int, zeros: float) -> str:
    """The run of a small network; trained in a process of its own, which leaves no memory behind."""
    return str(tiny_run(Path(folder), genes=genes, zeros=zeros))


if __name__ == "__main__":
    main()
