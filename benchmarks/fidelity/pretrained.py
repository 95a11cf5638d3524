"""Pack a run as the model that ships with the package, with the command that trained it and what it scored.

    python -m benchmarks.fidelity.pretrained RUN --scores fidelity/results.json --command "scrdit train ..." --out FILE

`scripts/pretrain` trains, scores and packs; the scores are those of `benchmarks.fidelity --run RUN --on test`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.commands import one_line_errors
from scrdit_jax.errors import BadInput
from scrdit_jax.importing.pretrained import pack

SHOWN = (
    "random_forest_auc", "mmd_pca", "gene_correlation_error", "zero_fraction_difference", "library_size_spread",
    "detected_genes_ratio", "detected_genes_spread",
)  # fmt: skip


def scores_of(path: Path) -> dict[str, Any]:
    """For each generator the mean and deviation of its scores over the seeds; BadInput where there are none."""
    try:
        results = json.loads(path.read_text())
        found: dict[str, Any] = {}
        for name in dict.fromkeys(row["generator"] for row in results["rows"]):
            rows = [row for row in results["rows"] if row["generator"] == name]
            values = {score: [row["whole"][score] for row in rows] for score in SHOWN}
            values["near_training"] = [row["memorisation"]["copied"] for row in rows]
            values["held_out_near_training"] = [row["memorisation"]["held_out_copied"] for row in rows]
            found[name] = {
                score: [float(np.mean(of)), float(np.std(of, ddof=1)) if len(of) > 1 else 0.0]
                for score, of in values.items()
                if None not in of
            }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path} holds no scores ({error!r}); give results.json of benchmarks.fidelity") from None
    return {"cells": results["on"], "command": results["command"], "mean and deviation": found}


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--scores", type=click.Path(path_type=Path), required=True, help="results.json of benchmarks.fidelity.")
@click.option("--command", required=True, help="What trained the run.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File, .npz.")
def main(run: Path, scores: Path, command: str, out: Path) -> None:
    """Write the file and say how large it is."""
    with one_line_errors():
        pack(run, out, {"command": command, "scores": scores_of(scores)})
    click.echo(f"{out}: {out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
