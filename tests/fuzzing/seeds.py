"""Small valid files of every kind that scrdit reads, to be damaged."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from pathlib import Path
from unittest.mock import patch

import anndata
import numpy as np
import pandas as pd
from scipy import sparse

from tests import tenx

SETTINGS = {
    "data": {"genes": 24, "min_cells": 3, "held_out": 0.4, "condition_on": ["cell_type"]},
    "network": {"genes_per_token": 4, "width": 16, "depth": 1, "heads": 2, "summary_token": True},
    "diffusion": {"timesteps": 20, "beta_start": 0.01, "beta_end": 0.6, "prediction": "zero-inflated"},
    "training": {"steps": 2, "batch_size": 8, "learning_rate": 0.002, "ema_decay": 0.9, "log_every": 1},
}
SAMPLE = ("--cells", "60", "--steps", "3", "--batch-size", "16")


def cells() -> anndata.AnnData:
    """90 cells x 40 genes of raw counts with two cell types, CSR."""
    random = np.random.default_rng(7)
    types = random.integers(0, 2, size=90)
    means = random.gamma(0.7, 3.0, size=(2, 40)) + 0.2
    counts = random.poisson(means[types]).astype(np.float32)
    names = pd.Categorical(np.array(["T cell", "B cell"])[types])
    obs = pd.DataFrame(
        {"cell_type": names, "age": random.integers(20, 90, 90), "donor": np.array(["d1", "d2"], object)[types]},
        index=[f"cell{i}" for i in range(90)],
    )
    return anndata.AnnData(sparse.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=[f"GENE{j}" for j in range(40)]))


def write_seeds(folder: Path, run: Path | None = None) -> None:
    """All of them into `folder`; those of a run are made from `run`, which is trained where there is none."""
    real = cells()
    _write_formats(real, folder)
    (folder / "preset.json").write_text(json.dumps(SETTINGS))
    plain = SETTINGS | {"data": SETTINGS["data"] | {"condition_on": []}}
    (folder / "plain.json").write_text(json.dumps(plain))
    (folder / "timesteps.json").write_text(
        json.dumps({"format": 1, "solver": "unipc", "model": "0" * 64, "timesteps": [20, 10, 5, 1]})
    )
    (folder / "timesteps.txt").write_text("20, 10, 5, 1\n")
    (folder / "quotas.csv").write_text("cell_type,cells\nT cell,5\nB cell,7\n")
    (folder / "genes.txt").write_text("".join(f"{name}\n" for name in real.var_names))
    oracle = Path(__file__).parent.parent / "oracles" / "reference_dit.safetensors"
    shutil.copy(oracle, folder / "reference_dit.safetensors")
    _write_made(folder, run)


def _write_formats(real: anndata.AnnData, folder: Path) -> None:
    from scrdit_jax.io.append import zarr_format_3

    def stored(name: str, matrix: object) -> None:
        copy = real.copy()
        copy.X = matrix
        copy.write_h5ad(folder / name)

    stored("csr.h5ad", real.X)
    stored("csc.h5ad", real.X.tocsc())
    stored("dense.h5ad", real.X.toarray())
    with zarr_format_3():
        real.write_zarr(folder / "csr.zarr")
    dense = real.copy()
    dense.X = real.X.toarray()
    with zarr_format_3():
        dense.write_zarr(folder / "dense.zarr")
    table = real.to_df().astype(int)
    table.to_csv(folder / "cells.csv")
    table.to_csv(folder / "cells.tsv.gz", sep="\t")
    np.save(folder / "cells.npy", real.X.toarray())
    tenx.write_h5(real, folder / "tenx.h5")
    tenx.write_folder(real, folder / "mtx", "")
    tenx.write_folder(real, folder / "mtx_gz", ".gz")
    _write_tumours(real, folder)


def _write_tumours(real: anndata.AnnData, folder: Path) -> None:
    count = real.n_obs
    cancer = ["1" if i % 3 == 0 else "0" for i in range(count)]
    rows = [
        ["", *(f"HN{i % 9}_P1_A{i}" for i in range(count))],
        ["processed by Maxima enzyme", *["0"] * count],
        ["Lymph node", *["0"] * count],
        ["classified  as cancer cell", *cancer],
        ["classified as non-cancer cells", *("0" if flag == "1" else "1" for flag in cancer)],
        ["non-cancer cell type", *("0" if flag == "1" else "T cell" for flag in cancer)],
    ]
    values = np.log2(real.X.toarray() / 10 + 1)
    rows += [[f"'{name}'", *(f"{value:.4g}" for value in values[:, j])] for j, name in enumerate(real.var_names)]
    text = "".join("\t".join(row) + "\n" for row in rows)
    (folder / "tumours.txt.gz").write_bytes(gzip.compress(text.encode()))


def _write_made(folder: Path, run: Path | None) -> None:
    from scrdit_jax import api
    from scrdit_jax.cache import cached_measurement
    from scrdit_jax.importing.pretrained import pack

    if run is None:
        api.train(folder / "csr.h5ad", out=folder / "run", preset=str(folder / "preset.json"), evaluate_every=0.2)
    else:
        shutil.copytree(run, folder / "run")
    options = {"steps": 3, "batch_size": 16}
    shards = api.generate(folder / "run", 60, out=folder / "shards", shard_cells=32, **options).path
    api.assemble(shards, out=folder / "synthetic.h5ad")
    api.assemble(shards, out=folder / "synthetic.zarr")
    pack(folder / "run", folder / "model.npz", {"trained": "here"})
    (folder / "family").mkdir()
    family = {"format": 1, "column": "cell_type", "members": {"T cell": "t", "B cell": "b"}, "left_out": {"other": 3}}
    (folder / "family" / "family.json").write_text(json.dumps(family))
    for name in ("t", "b"):
        shutil.copytree(folder / "run", folder / "family" / name)
    with patch.dict(os.environ, {"SCRDIT_CACHE": str(folder / "choices")}):
        cached_measurement({"what": "fuzz"}, lambda: [[8, 1.0], [16, 2.0]])
