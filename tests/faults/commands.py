"""Every command that writes, on cells that are small enough to do it hundreds of times."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from scipy import sparse

SETTINGS = {
    "data": {"genes": 24, "min_cells": 3, "held_out": 0.4},
    "network": {"genes_per_token": 4, "width": 16, "depth": 2, "heads": 2, "summary_token": True},
    "diffusion": {"timesteps": 20, "beta_start": 0.01, "beta_end": 0.6, "prediction": "zero-inflated"},
    "training": {
        "steps": 6, "batch_size": 8, "learning_rate": 0.002, "ema_decay": 0.9, "checkpoint_every": 2, "log_every": 2,
        "keep": 1,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Command:
    """A command with `out` below the folder where faults are injected; `earlier` words make what was there before.

    `digest` is of what it wrote. Of hidden files, those with `used_again` in their names go on being used.
    """

    words: tuple[str, ...]
    out: str
    digest: Callable[[Path], str]
    earlier: tuple[str, ...] | None = None
    used_again: tuple[str, ...] = ()
    points: int = 0


def write_inputs(folder: Path) -> None:
    """Cells, a preset, and by the command line a run, shards and a file of synthetic cells."""
    random = np.random.default_rng(7)
    types = random.integers(0, 2, size=90)
    means = random.gamma(0.7, 3.0, size=(2, 40)) + 0.2
    obs = pd.DataFrame(
        {"cell_type": pd.Categorical(np.array(["T cell", "B cell"])[types])}, index=[f"cell{i}" for i in range(90)]
    )
    counts = sparse.csr_matrix(random.poisson(means[types]).astype(np.float32))
    cells = anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=[f"GENE{j}" for j in range(40)]))
    cells.write_h5ad(folder / "cells.h5ad")
    (folder / "preset.json").write_text(json.dumps(SETTINGS))


# Made before anything else, in this order.
INPUTS = {
    "run": ("train", "cells.h5ad", "--preset", "preset.json"),
    "shards": ("sample", "run", "--cells", "100", "--steps", "3", "--batch-size", "16", "--shard-cells", "40"),
    "synthetic.h5ad": ("assemble", "shards"),
}


def digest_of_cells(path: Path) -> str:
    """Of all that a file of cells holds, read by anndata."""
    cells = anndata.read_h5ad(path) if path.suffix == ".h5ad" else anndata.io.read_zarr(path)
    digest = hashlib.sha256()
    for array in (cells.X.data, cells.X.indices, cells.X.indptr):
        digest.update(np.ascontiguousarray(array).tobytes())
    digest.update(cells.obs.to_csv().encode() + cells.var.to_csv().encode())
    digest.update(json.dumps(cells.uns, default=str, sort_keys=True).encode())
    return digest.hexdigest()


def digest_of_run(path: Path) -> str:
    """Of the newest checkpoint, of the evaluations and of the held-out cells; means over steps depend on stops."""
    from scrdit_jax.checkpoint import Checkpoints, Run
    from scrdit_jax.training.metric_logger import read_lines

    run = Run(path)
    with Checkpoints(run) as checkpoints:
        arrays = checkpoints.digest()
    steps = [line["step"] for line in read_lines(run.metrics_path)]
    assert steps == sorted(set(steps))
    found = [arrays, steps[-1], read_lines(run.evaluations_path), digest_of_cells(run.held_out_path)]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def digest_of_shards(path: Path) -> str:
    """Recomputed from the bytes of all shards."""
    from scrdit_jax.api import verify

    found = verify(path)
    return str(found.digest or found.problems)


def digest_of_report(path: Path) -> str:
    """Of all numbers, and that the page and its pictures are there."""
    report = (path / "report.json").read_bytes()
    pages = sorted(file.name for file in path.iterdir() if file.stat().st_size > 1000)
    return hashlib.sha256(report + json.dumps(pages).encode()).hexdigest()


def digest_of_file(path: Path) -> str:
    """Of its bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


PREPARE = ("prepare", "cells.h5ad", "--preset", "preset.json")
TRAIN = ("train", "cells.h5ad", "--preset", "preset.json")
SAMPLE = ("sample", "run", "--cells", "100", "--steps", "3", "--batch-size", "16")
EVALUATE = ("evaluate", "cells.h5ad", "synthetic.h5ad", "--repeats", "1")
SCHEDULE = ("schedule", "run", "--solver", "unipc", "--steps", "3")

COMMANDS = {
    "prepare .h5ad": Command(PREPARE, "cells.h5ad", digest_of_cells, (*PREPARE, "--seed", "1")),
    "prepare .zarr": Command(PREPARE, "cells.zarr", digest_of_cells, (*PREPARE, "--seed", "1")),
    "prepare --stream .h5ad": Command(
        (*PREPARE, "--stream"), "cells.h5ad", digest_of_cells, (*PREPARE, "--seed", "1")
    ),
    "prepare --stream .zarr": Command(
        (*PREPARE, "--stream"), "cells.zarr", digest_of_cells, (*PREPARE, "--seed", "1")
    ),
    "assemble .h5ad": Command(("assemble", "shards"), "cells.h5ad", digest_of_cells),
    "assemble .zarr": Command(("assemble", "shards"), "cells.zarr", digest_of_cells),
    "sample, a folder": Command((*SAMPLE, "--shard-cells", "40"), "shards", digest_of_shards, used_again=(".locks",)),
    "sample .h5ad": Command(SAMPLE, "cells.h5ad", digest_of_cells, used_again=(".cells.h5ad.shards",)),
    "sample .zarr": Command(SAMPLE, "cells.zarr", digest_of_cells, used_again=(".cells.zarr.shards",)),
    "schedule": Command(SCHEDULE, "timesteps.json", digest_of_file, (*SCHEDULE, "--seed", "1")),
    "evaluate": Command(EVALUATE, "report", digest_of_report),
    "evaluate again": Command(EVALUATE, "report", digest_of_report, (*EVALUATE, "--seed", "1")),
    "train": Command((*TRAIN, "--evaluate-every", "0.4"), "run", digest_of_run),
    "train --stream": Command((*TRAIN, "--stream", "--genes", "8"), "run", digest_of_run),
}  # fmt: skip
