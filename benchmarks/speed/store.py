"""What writing costs: python -m benchmarks.speed.store --out FILE.json [--run RUN].

Memory and speed of `scrdit sample` with a network so small that the store is what is measured, 2,000 genes; the store
alone, fed from memory; and, for RUN as it is sampled by default, one .h5ad against sampling alone, taken in turns.
"""

from __future__ import annotations

import resource
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anndata
import click
import jax
import numpy as np
from scipy import sparse

import scrdit_jax as scrdit
from benchmarks.commands import as_json, in_own_process, write_files
from scrdit_jax.benchmarking.store import Row
from scrdit_jax.checkpoint import Model, load_model
from scrdit_jax.conditioning.assignment import Assignment
from scrdit_jax.conditioning.request import CellRequest, Quotas, resolve
from scrdit_jax.config import RunConfig, SamplingConfig
from scrdit_jax.devices import describe_devices
from scrdit_jax.generation.composition import CellSampler, dense_batches
from scrdit_jax.generation.engine import make_engine
from scrdit_jax.generation.manifest import Manifest
from scrdit_jax.generation.pipeline import Throughput, make_shards
from scrdit_jax.generation.plan import Plan
from scrdit_jax.generation.program import SampledBatch
from scrdit_jax.generation.request import SampleRequest
from scrdit_jax.generation.store import Store

GENES = 2000
TINY = {
    "data": {"genes": GENES, "gene_selection": "all", "min_cells": 0, "held_out": 0.0},
    "network": {"genes_per_token": 100, "width": 16, "depth": 1, "heads": 1},
    "diffusion": {"prediction": "zero-inflated"},
    "training": {"steps": 400, "batch_size": 16, "learning_rate": 0.02},
}
TINY_OPTIONS = {"solver": "ddim", "steps": 5, "batch_size": 256}


def tiny_run(folder: Path, *, genes: int = GENES, zeros: float = 0.9) -> Path:
    """A run that has learnt little more than that so many values are zeros."""
    random = np.random.default_rng(0)
    counts = random.poisson(5, (200, genes)) * (random.random((200, genes)) >= zeros)
    cells = anndata.AnnData(sparse.csr_matrix(counts.astype(np.float32)))
    cells.var_names = [f"gene{i}" for i in range(genes)]
    config = RunConfig.from_dict(TINY).with_settings({"genes": genes})
    return scrdit.train(cells, out=folder / "tiny", preset=config).path


def peak_gb() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def generate_in_process(run: str, cells: int, folder: str, options: Mapping[str, Any] = TINY_OPTIONS) -> dict[str, Any]:
    """Speed and peak memory of this process, which samples with these `options` into a folder of shards."""
    out = Path(folder)
    summary = scrdit.generate(run, cells, out=out, **options)
    peak = peak_gb()
    with Store(out) as store:
        nonzeros, genes = sum(record.nonzeros for record in store.records()), len(store.layout.genes)
    written = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    return {
        "cells": cells,
        "zeros": 1 - nonzeros / (cells * genes),
        "cells_per_second": summary.made / summary.seconds,
        "device_waited": summary.waited,
        "peak_gb": peak,
        "gb_written": written / 1e9,
        "bytes_per_cell": written / cells,
    }


class Memory:
    """In an engine's place: dense cells (cell, gene) that are there already, the same in every batch."""

    def __init__(self, cells: np.ndarray) -> None:
        """A batch is as many as there are."""
        self.batch_size, self.packs = len(cells), False
        finite_steps, library_size = np.ones(len(cells), np.int32), np.full(len(cells), np.nan, np.float32)
        self._batch = SampledBatch(*jax.device_put((cells, finite_steps, library_size), jax.devices("cpu")[0]))

    def dispatch(self, first: int, donated: jax.Array | None = None) -> SampledBatch:
        """At once."""
        return self._batch

    def fetch(self, batch: SampledBatch, first: int, count: int) -> np.ndarray:
        """The cells."""
        return np.asarray(batch.cells)[:count]

    def in_file_order(self, cells: np.ndarray) -> np.ndarray:
        """The cells: their genes are in the file's order."""
        return cells


def store_alone(folder: Path, model: Model, zeros: float, cells: int, rounds: int = 3) -> Row:
    """Cells a second of CSR, compression, digests and fsync, fed from memory; the median of several rounds."""
    random = np.random.default_rng(0)
    batch = random.gamma(2, 0.7, (1024, GENES)).astype(np.float32) * (random.random((1024, GENES)) > zeros)
    request = SampleRequest.of(model, Quotas.unlabelled(cells), SamplingConfig(**TINY_OPTIONS))
    manifest = Manifest(request.provenance(model), Plan.make(cells, len(batch)), dict(describe_devices()))
    sampler = CellSampler((Memory(batch),), (cells,), Assignment.of(request.quotas), None)
    rates = []
    for number in range(rounds):
        out = folder / f"alone{zeros}-{number}"
        with Store(out, manifest) as store:
            started = time.perf_counter()
            make_shards(sampler, store, store.lock_each(store.missing()), Throughput())
            rates.append(cells / (time.perf_counter() - started))
            bytes_a_cell = sum(record.bytes for record in store.records()) / cells
        shutil.rmtree(out)
    return {"zeros": zeros, "cells": cells, "cells_per_second": float(np.median(rates)), "rounds": rates,
            "bytes_per_cell": bytes_a_cell}  # fmt: skip


def writing_against_sampling(run: Path, folder: Path, cells: int, rounds: int) -> dict[str, object]:
    """Seconds of each, in turns in this process, both with the compiled engine at hand."""
    model, config = load_model(run), SamplingConfig()
    engine = make_engine(model, config, resolve(CellRequest(cells=cells), model.conditions))
    for _ in dense_batches(engine, 2 * engine.batch_size):
        pass
    alone, written = [], []
    for turn in range(rounds):
        started = time.perf_counter()
        for _ in dense_batches(engine, cells):
            pass
        alone.append(time.perf_counter() - started)
        started = time.perf_counter()
        scrdit.generate(run, cells, out=folder / f"turn{turn}.h5ad")
        written.append(time.perf_counter() - started)
    return {
        "cells": cells,
        "evaluations": engine.evaluations,
        "batch_size": engine.batch_size,
        "cells_per_second": cells / float(np.median(alone)),
        "cells_per_second_written": cells / float(np.median(written)),
        "sampling_seconds": alone,
        "with_writing_seconds": written,
        "writing_adds": float(np.median(written) / np.median(alone) - 1),
    }


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--run", type=click.Path(path_type=Path, exists=True))
@click.option("--cells", default=1_000_000, show_default=True)
@click.option("--alone-cells", default=262_144, show_default=True)
@click.option("--turn-cells", default=20_000, show_default=True)
@click.option("--rounds", default=3, show_default=True)
def main(out: Path, run: Path | None, cells: int, alone_cells: int, turn_cells: int, rounds: int) -> None:
    """Measure and write JSON."""
    with tempfile.TemporaryDirectory(dir=out.absolute().parent) as name:
        folder = Path(name)
        tiny = tiny_run(folder)
        found: dict[str, object] = {"genes": GENES, "options": TINY_OPTIONS}
        found["store_alone"] = [
            store_alone(folder, load_model(tiny), zeros, alone_cells) for zeros in (0.87, 0.9, 0.95)
        ]
        if run is not None:
            found["demo"] = writing_against_sampling(run, folder, turn_cells, rounds)
        found["runs"] = []
        for count in (cells // 10, cells):
            arguments = (tiny, count, folder / str(count))
            found["runs"].append(in_own_process("benchmarks.speed.store", "generate_in_process", *arguments))
            write_files(out.parent, {out.name: as_json(found)})
    click.echo(as_json(found))


if __name__ == "__main__":
    main()
