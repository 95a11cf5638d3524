"""What `scrdit simulate` plants, looked for by the field's own methods.

    python -m benchmarks.simulate pbmc3k --data pbmc3k --out DIR

Differential expression (scanpy's tests of cells; tests of pseudobulks, PyDESeq2 among them): power against fold change
and cells, false discoveries, p values where nothing is planted. A batch effect: before and after Harmony. Doublets:
Scrublet. Zeros: against genes of real cells with the same mean. Needs the extra `simulate`. DIR gets results.json,
table.md and pictures; ten minutes on two cores.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
from anndata import AnnData

import scrdit_jax as scrdit
from benchmarks.commands import as_json, command_line, one_line_errors, write_files
from benchmarks.simulate import differential, figures, integration
from benchmarks.simulate.tables import table
from scrdit_jax.devices import describe_devices
from scrdit_jax.errors import BadInput
from scrdit_jax.extras import optional, versions
from scrdit_jax.io.reading import load_cells

LIBRARIES = ("scrdit_jax", "anndata", "numpy", "scipy", "scikit-learn", "scanpy", "pydeseq2", "harmonypy")
SIZES = (50, 100, 200, 500, 1000)
DE = {"de_share": 0.2, "log2_fold_change": (0.25, 3.0), "batches": 4}
# What differs between donors: see `nested`.
DONORS, BETWEEN_DONORS = 8, 0.3
BATCHES = {"batches": 3, "batch_strength": 0.75, "batch_depth": 0.3}
CELLS_TO_INTEGRATE, CELLS_WITH_DOUBLETS, DOUBLETS = 1500, 2000, 0.1


@click.command(context_settings={"max_content_width": 100})
@click.argument("run")
@click.option("--data", required=True, help="Real counts with a column of cell types; 'pbmc3k'.")
@click.option("--label", default="cell_type", show_default=True, help="That column of obs.")
@click.option("--seeds", type=int, default=3, show_default=True, help="Simulations for each figure of power.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A folder.")
def main(run: str, data: str, label: str, seeds: int, out: Path) -> None:
    """Plant effects in cells of RUN and look for them."""
    with one_line_errors():
        for module in ("scanpy", "pydeseq2", "harmonypy"):
            optional(module, extra=differential.EXTRA)
        real = load_cells(data)[0]
        if label not in real.obs:
            raise BadInput(f"{data} has no column {label!r} in its obs; give another --label")
        out.mkdir(parents=True, exist_ok=True)
        rows, p_null = power_rows(run, seeds)
        pictures = {"power.png": figures.power_picture(rows)}
        nested_p = nested(run)
        panels = {
            "nothing planted": p_null["none"],
            "null genes beside planted ones": p_null["beside"],
            f"nothing planted, {DONORS} donors differ": nested_p,
        }
        pictures["calibration.png"] = figures.calibration_picture(panels)
        zeros, pictures["zeros.png"] = zero_rows(run, real)
        scores, pictures["integration.png"] = integration_rows(run, real, label)
        results = {
            "command": command_line("benchmarks.simulate"), "device": dict(describe_devices()),
            "versions": versions(LIBRARIES), "differential": rows,
            "calibration": {k: {t: differential.uniformity(p) for t, p in v.items()} for k, v in panels.items()},
            "donors": {t: int(differential.discoveries(p).sum()) for t, p in nested_p.items()},
            "zeros": zeros, "integration": scores, "doublets": doublets(run),
        }  # fmt: skip
        write_files(out, {"results.json": as_json(results), "table.md": table(results), **pictures})
        click.echo(table(results))


def power_rows(run: str, seeds: int) -> tuple[list[dict[str, Any]], dict[str, dict[str, np.ndarray]]]:
    """(scores of each test, seed and size; p values of null genes, by kind and test).

    The first cells of a simulation are a smaller one, with groups and batches of equal size.
    """
    rows: list[dict[str, Any]] = []
    p_values: dict[str, dict[str, list[np.ndarray]]] = {
        kind: {test: [] for test in differential.TESTS} for kind in ("none", "beside")
    }
    for seed in range(seeds):
        most = 2 * max(SIZES)
        cells = scrdit.simulate(run, most, seed=seed, **DE)
        null = scrdit.simulate(run, most, seed=seed, groups=2, batches=DE["batches"])
        truth = cells.var["log2_fold_change"].to_numpy(float)
        mean = np.asarray(null.layers["counts"].mean(axis=0)).ravel()
        for size in SIZES:
            for test in differential.TESTS:
                p = differential.p_values(cells[: 2 * size], test)
                rows.append({"test": test, "seed": seed, "cells": size, **differential.score(p, truth, mean)})
                if size == SIZES[-2]:
                    p_values["beside"][test].append(p[truth == 0])
                    p_values["none"][test].append(differential.p_values(null[: 2 * size], test))
            click.echo(f"differential expression: seed {seed}, {size} cells a group", err=True)
    return rows, {kind: {t: np.concatenate(p) for t, p in tests.items()} for kind, tests in p_values.items()}


def nested(run: str) -> dict[str, np.ndarray]:
    """p values where no gene differs between groups, but donors do, of which each is in one group.

    Tests of cells take a donor's cells for as many independent ones (Squair et al. 2021).
    """
    cells = scrdit.simulate(run, 4000, groups=2, batches=DONORS, batch_strength=BETWEEN_DONORS)
    donor, group = (cells.obs[name].cat.codes.to_numpy() for name in ("batch", "group"))
    cells = cells[(donor < DONORS // 2) == (group == 0)].copy()
    return {test: differential.p_values(cells, test) for test in differential.TESTS}


def zero_rows(run: str, real: AnnData) -> tuple[dict[str, Any], bytes]:
    """How far off the real cells' relation of zeros and means genes are, by what was planted."""
    cells = 2000
    plain = scrdit.simulate(run, cells)
    changed = scrdit.simulate(run, 2 * cells, de_share=1.0, log2_fold_change=2.0)
    treated = changed.layers["counts"][(changed.obs["group"] == "group_2").to_numpy()]
    change = changed.var["log2_fold_change"].to_numpy()
    genes = integration.zeros(real[:, plain.var_names].X)
    panels = {
        "nothing planted": integration.zeros(plain.layers["counts"]),
        "raised fourfold": integration.zeros(treated[:, change > 0]),
        "lowered fourfold": integration.zeros(treated[:, change < 0]),
        "twice as deep": integration.zeros(scrdit.simulate(run, cells, depth_factor=2.0).layers["counts"]),
        "half as deep": integration.zeros(scrdit.simulate(run, cells, depth_factor=0.5).layers["counts"]),
    }
    off = {name: integration.off_relation(*found, genes) for name, found in panels.items()}
    return off, figures.zeros_picture(genes, panels)


def integration_rows(run: str, real: AnnData, label: str) -> tuple[dict[str, Any], bytes]:
    """Scores without a batch effect, with one, and after Harmony, of the same cells."""
    plain = scrdit.simulate(run, CELLS_TO_INTEGRATE, batches=BATCHES["batches"])
    cells = scrdit.simulate(run, CELLS_TO_INTEGRATE, **BATCHES)
    types, batch = integration.labels_of(real, label, plain.var_names, plain), cells.obs["batch"].to_numpy(str)
    pcs = integration.components(cells)
    points = {
        "no batch effect": integration.components(plain),
        "batch effect planted": pcs,
        "after Harmony": integration.harmonised(pcs, batch),
    }
    scores = {name: integration.score(each, batch, types) for name, each in points.items()}
    embedded = {name: integration.embedded(each) for name, each in points.items()}
    return scores, figures.integration_picture(embedded, batch, types, scores)


def doublets(run: str) -> dict[str, float]:
    """How well Scrublet tells planted doublets, of their share."""
    cells = scrdit.simulate(run, CELLS_WITH_DOUBLETS, doublets=DOUBLETS)
    return {"share": DOUBLETS, "auc": integration.doublet_auc(cells, DOUBLETS)}


if __name__ == "__main__":
    main()
