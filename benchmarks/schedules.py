"""PCA-50 MMD of few evaluations on even and on fitted timesteps: python -m benchmarks.schedules RUN --out FILE.json."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import anndata
import click
import numpy as np

import scrdit_jax as scrdit
from scrdit_jax.checkpoint import Run
from scrdit_jax.evaluation.metrics import mmd_pca


@click.command()
@click.argument("run", type=click.Path(path_type=Path, exists=True))
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--solver", default="unipc", show_default=True)
@click.option("--seeds", default=3, show_default=True)
def main(run: Path, out: Path, solver: str, seeds: int) -> None:
    """As many synthetic cells as RUN held out, against those; one row a number of evaluations and a schedule."""
    real = anndata.read_h5ad(Run(run).held_out_path).X
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for steps in (6, 8, 10):
            fitted = Path(folder) / f"{steps}.json"
            scrdit.fit_schedule(run, steps, solver=solver, out=fitted)
            for name, schedule in (("logsnr", "logsnr"), ("fitted", str(fitted))):
                options = {"solver": solver, "steps": steps, "schedule": schedule}
                cells = [scrdit.sample(run, real.shape[0], seed=seed, **options).X for seed in range(seeds)]
                scores = [float(mmd_pca(real, x)) for x in cells]
                rows.append({"solver": solver, "evaluations": steps, "schedule": name, "mmd_pca": scores})
                click.echo(f"{steps:2d} {name}: {np.mean(scores):.3f}  ({', '.join(f'{s:.4f}' for s in scores)})")
    out.write_text(json.dumps({"cells": real.shape[0], "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
