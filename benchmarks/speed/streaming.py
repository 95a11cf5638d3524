"""Training from a file larger than it may take of memory.

    python -m benchmarks.speed.streaming --out FILE.json [--cells N]

Synthesises an .h5ad of N cells (ten types, counts, nine zeros of ten) block by block, then trains on it for some steps
from the disk and from memory, each in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import anndata
import click
import h5py
import numpy as np
import pandas as pd
from scipy import sparse

import scrdit_jax as scrdit
from benchmarks.commands import as_json, in_own_process, write_files
from scrdit_jax.api import prepare, settings
from scrdit_jax.checkpoint import Checkpoints
from scrdit_jax.data.batches import Batches

GENES, TYPES, ROWS = 2500, 10, 10_000
STEPS = 30


def synthesise(path: Path, cells: int) -> None:
    """Counts of cells whose type decides which genes they express, written block by block."""
    random = np.random.default_rng(0)
    shares = random.beta(0.4, 3.5, (TYPES, GENES)).astype(np.float32)
    types = random.integers(0, TYPES, cells)
    obs = pd.DataFrame({"cell_type": pd.Categorical(types.astype(str))}, index=[f"cell{i}" for i in range(cells)])
    var = pd.DataFrame(index=[f"gene{i}" for i in range(GENES)])
    with h5py.File(path, "w") as file:
        anndata.io.write_elem(file, "/", anndata.AnnData(obs=obs, var=var))
        empty = sparse.csr_matrix((0, GENES), dtype=np.float32)
        empty.indptr = empty.indptr.astype(np.int64)
        empty.indices = empty.indices.astype(np.int64)
        anndata.io.write_elem(file, "X", empty, dataset_kwargs={"chunks": (1 << 16,)})
        matrix = anndata.io.sparse_dataset(file["X"])
        for first in range(0, cells, ROWS):
            some = types[first : first + ROWS]
            expressed = random.random((len(some), GENES), dtype=np.float32) < shares[some]
            block = sparse.csr_matrix(expressed, dtype=np.float32)
            block.data = 1 + random.poisson(1.5, block.nnz).astype(np.float32)
            matrix.append(block)


def train_from(data: str, out: str, stream: bool) -> dict[str, Any]:
    """Train in this process; speed and peak memory are its own."""
    config = settings("demo", steps=STEPS, batch_size=256, log_every=10)
    started = time.perf_counter()
    run = scrdit.train(data, out=out, preset=config, stream=stream)
    seconds = time.perf_counter() - started
    lines = [json.loads(line) for line in run.metrics_path.read_text().splitlines()]
    with Checkpoints(run) as checkpoints:
        digest = checkpoints.digest()
    return {
        "from": "disk" if stream else "memory",
        "seconds_from_start_to_end": seconds,
        "cells_per_second": float(np.median([line["cells_per_second"] for line in lines[1:]])),
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "digest": digest,
    }


def loading_speed(run: Path, batches: int = 400) -> float:
    """Cells a second of batches from the run's copy on the disk, with nothing else to do."""
    prepared = prepare(run / "cells.h5ad", preset="demo", stream=True)
    source = Batches(prepared.train.X, 256, 0)
    source.at(0)
    started = time.perf_counter()
    for step in range(1, batches):
        source.at(step)
    return (batches - 1) * 256 / (time.perf_counter() - started)


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--cells", default=500_000, show_default=True)
@click.option("--from-memory/--no-from-memory", default=True, help="Train from memory, too.")
def main(out: Path, cells: int, from_memory: bool) -> None:
    """Measure and write JSON."""
    with tempfile.TemporaryDirectory(dir=out.absolute().parent) as name:
        folder = Path(name)
        data = folder / "cells.h5ad"
        synthesise(data, cells)
        found: dict[str, Any] = {"cells": cells, "genes": GENES, "gb_of_file": data.stat().st_size / 1e9}
        found["training"] = []
        for stream in (True, False)[: 1 + from_memory]:
            arguments = (data, folder / str(stream), stream)
            found["training"].append(in_own_process("benchmarks.speed.streaming", "train_from", *arguments))
            if stream:
                found["loader_cells_per_second"] = loading_speed(folder / "True")
            write_files(out.parent, {out.name: as_json(found)})
    click.echo(as_json(found))


if __name__ == "__main__":
    main()
