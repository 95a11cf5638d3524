"""An atlas prepared and trained on from the disk: memory, passes over the files, and loaders beside ours.

    python -m benchmarks.speed.atlas --out FILE.json --folder SCRATCH [--cells 100000 --cells 1000000]
        [--annloader PYTHON] [--annbatch PYTHON]

Makes up four .h5ad of so many cells x 20,000 genes (see atlas_cells) unless they are in SCRATCH already, prepares them
and does 100 training steps of a small network on all genes, then asks loaders for batches, each in a process of its
own, so that its peak memory is its own. anndata's AnnLoader and annbatch are run by the Pythons that have them.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np

import scrdit_jax as scrdit
from benchmarks.commands import as_json, command_line, in_own_process, write_files
from benchmarks.speed.atlas_cells import write_atlas
from scrdit_jax.api import prepare
from scrdit_jax.config import RunConfig
from scrdit_jax.data.batches import Batches
from scrdit_jax.data.preparing import Prepared
from scrdit_jax.io.backed import FileStore
from scrdit_jax.io.reading import open_cells
from scrdit_jax.io.writing import write_cells

STEPS, BATCH = 100, 64
CONFIG = {
    "data": {"gene_selection": "all"},
    "network": {"genes_per_token": 200, "width": 32, "depth": 1, "heads": 2},
    "diffusion": {"prediction": "v"},  # that no timesteps are fitted after training
    "training": {"steps": STEPS, "batch_size": BATCH, "checkpoint_every": STEPS, "log_every": 20},
}
CONDITIONS = ("cell_type", "tissue", "assay", "donor")
# A loader is asked for batches for so long, and at most for so many cells: four of our windows.
SECONDS, MOST_CELLS = 60.0, 65_536
MODULE, OTHERS = "benchmarks.speed.atlas", "benchmarks.speed.loaders"


@contextmanager
def counted_rows() -> Iterator[list[int]]:
    """The list that holds how many rows each read from a file was of."""
    rows, read = [], FileStore.read

    def counting(self: FileStore, first: int, end: int) -> Any:
        rows.append(end - first)
        return read(self, first, end)

    FileStore.read = counting  # type: ignore[method-assign]
    try:
        yield rows
    finally:
        FileStore.read = read  # type: ignore[method-assign]


def peak_gb() -> float:
    """The most memory this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def prepared(folder: str) -> dict[str, Any]:
    """Prepare in this process, and then be asked for batches, with nothing else to do."""
    with counted_rows() as rows:
        started = time.perf_counter()
        found = prepare(folder, preset=RunConfig.from_dict(CONFIG), stream=True, condition_on=CONDITIONS)
        seconds = time.perf_counter() - started
    cells, passes = found.cells.n_obs, sum(rows) / found.cells.n_obs
    return {
        "genes": found.cells.n_vars,
        "seconds": seconds,
        "passes": passes,
        "microseconds_a_cell_a_pass": seconds / cells / passes * 1e6,
        "peak_gb": peak_gb(),
        "loader": _loaded(found),
    }


def trained(folder: str, out: str, cells: int) -> dict[str, Any]:
    """Prepare, and train for STEPS."""
    with counted_rows() as rows:
        started = time.perf_counter()
        changes = {"stream": True, "condition_on": CONDITIONS}
        run = scrdit.train(folder, out=out, preset=RunConfig.from_dict(CONFIG), **changes)
        seconds = time.perf_counter() - started
    lines = [json.loads(line) for line in run.metrics_path.read_text().splitlines()]
    return {
        "steps": STEPS,
        "seconds": seconds,
        "passes": sum(rows) / cells,
        "cells_per_second": float(np.median([line["cells_per_second"] for line in lines[1:]])),
        "held_out_gb": run.held_out_path.stat().st_size / 1e9,
        "copied": run.cells_path.exists(),
        "peak_gb": peak_gb(),
    }


def _loaded(found: Prepared) -> dict[str, Any]:
    """Batches of training cells, normalised, from the first window on."""
    batches = Batches(found.train.X, BATCH, 0)
    started, done = time.perf_counter(), 0
    while done * BATCH < MOST_CELLS and time.perf_counter() - started < SECONDS:
        batches.at(done)
        done += 1
    return {"cells": done * BATCH, "cells_per_second": done * BATCH / (time.perf_counter() - started)}


def measure(folder: Path, cells: int, pythons: dict[str, str]) -> dict[str, Any]:
    """All of it for an atlas of so many cells, which lies, or will lie, in `folder`."""
    h5ad, zarrs, run = folder / f"{cells}", folder / f"{cells}_zarr", folder / f"{cells}_run"
    if not h5ad.is_dir():
        write_atlas(h5ad, cells)
    files = sorted(h5ad.glob("*.h5ad"))
    found: dict[str, Any] = {"cells": cells, "gb_of_files": sum(path.stat().st_size for path in files) / 1e9}
    found["prepare"] = in_own_process(MODULE, "prepared", h5ad)
    shutil.rmtree(run, ignore_errors=True)
    found["train"] = in_own_process(MODULE, "trained", h5ad, run, cells)
    found["loaders"] = {"ours": found["prepare"].pop("loader")}
    limits = (BATCH, SECONDS, MOST_CELLS)
    found["loaders"]["anndata, backed"] = in_own_process(OTHERS, "backed", h5ad, *limits)
    if "annloader" in pythons:
        found["loaders"]["AnnLoader"] = _by(pythons["annloader"], "annloader", h5ad, *limits)
    if "annbatch" in pythons:
        for path in files:  # it reads zarr only
            if not (copy := zarrs / f"{path.stem}.zarr").exists() and (stored := open_cells(path)) is not None:
                zarrs.mkdir(exist_ok=True)
                write_cells(stored, copy)
        found["loaders"]["ours, zarr"] = in_own_process(MODULE, "prepared", zarrs)["loader"]
        found["loaders"]["annbatch, zarr"] = _by(pythons["annbatch"], "annbatch", zarrs, *limits)
    return found


def _by(python: str, function: str, *arguments: Any) -> dict[str, Any]:
    """What a loader of another environment does; what it says where it fails."""
    try:
        return in_own_process(OTHERS, function, *arguments, python=python, quiet=True)
    except subprocess.CalledProcessError as error:
        return {"failed": error.stderr.strip().splitlines()[-1]}


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--folder", type=click.Path(path_type=Path), required=True, help="Where the files are made.")
@click.option("--cells", type=int, multiple=True, default=(100_000, 1_000_000), show_default=True)
@click.option("--annloader", metavar="PYTHON", help="One with anndata below 0.13 and PyTorch.")
@click.option("--annbatch", metavar="PYTHON", help="One with annbatch.")
def main(out: Path, folder: Path, cells: tuple[int, ...], **pythons: str | None) -> None:
    """Measure and write JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    there = {name: python for name, python in pythons.items() if python is not None}
    found: dict[str, Any] = {"command": command_line(MODULE), "batch_size": BATCH, "atlases": []}
    for count in cells:
        found["atlases"].append(measure(folder, count, there))
        write_files(out.absolute().parent, {out.name: as_json(found)})
    click.echo(as_json(found))


if __name__ == "__main__":
    main()
