"""What `scrdit simulate` plants, looked for by the field's own methods.

    python -m benchmarks.simulate pbmc3k --data pbmc3k --out DIR

Differential expression (scanpy's tests of cells; tests of pseudobulks, PyDESeq2 among them): power against fold change
and cells, false discoveries, p values where nothing is planted. A batch effect: before and after Harmony. Doublets:
Scrublet. Zeros: against genes of real cells with the same mean. Needs the extra `simulate`. DIR gets results.json,
table.md and pictures; four minutes on two cores. Each part is kept in DIR/parts as soon as it is measured, and the same
command goes on where it was stopped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
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
from scrdit_jax.errors import BadInput, OutputExists
from scrdit_jax.extras import optional, versions
from scrdit_jax.io.atomic import atomic_write
from scrdit_jax.io.reading import load_cells

LIBRARIES = ("scrdit_jax", "anndata", "numpy", "scipy", "scikit-learn", "scanpy", "pydeseq2", "harmonypy")
SIZES, CALIBRATED = (50, 100, 200, 500, 1000), 500
DE = {"de_share": 0.2, "log2_fold_change": (0.25, 3.0), "batches": 4}
# What differs between donors: see `nested`.
DONORS, BETWEEN_DONORS = 8, 0.3
BATCHES = {"batches": 3, "batch_strength": 0.75, "batch_depth": 0.3}
CELLS_TO_INTEGRATE, CELLS_WITH_DOUBLETS, DOUBLETS = 1500, 2000, 0.1


# Plain values, and arrays by name.
Part = tuple[dict[str, Any], dict[str, np.ndarray]]


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

        def part(name: str, make: Callable[[], Part]) -> Part:
            return kept(out / "parts" / f"{name}.npz", [run, data, label], make)

        seeded = [part(f"differential-{seed}", lambda seed=seed: differential_part(run, seed)) for seed in range(seeds)]
        donors = part("donors", lambda: donors_part(run))
        zeros = part("zeros", lambda: zeros_part(run, real))
        integrated = part("integration", lambda: integration_part(run, real, label))
        doublets = part("doublets", lambda: doublets_part(run))
        rows = [row for plain, _ in seeded for row in plain["rows"]]
        panels = {
            title: {test: np.concatenate([p[f"{kind}/{test}"] for _, p in parts]) for test in differential.TESTS}
            for title, kind, parts in (
                ("nothing planted", "none", seeded),
                ("null genes beside planted ones", "beside", seeded),
                (f"nothing planted, {DONORS} donors differ", "donors", [donors]),
            )
        }
        results = {
            "command": command_line("benchmarks.simulate"), "device": dict(describe_devices()),
            "versions": versions(LIBRARIES), "differential": rows,
            "calibration": {k: {t: differential.uniformity(p) for t, p in v.items()} for k, v in panels.items()},
            "donors": donors[0], "zeros": zeros[0], "integration": integrated[0], "doublets": doublets[0],
        }  # fmt: skip
        pictures = {
            "power.png": figures.power_picture(rows),
            "calibration.png": figures.calibration_picture(panels),
            "zeros.png": zeros_picture(zeros[1]),
            "integration.png": integration_picture(*integrated),
        }
        write_files(out, {"results.json": as_json(results), "table.md": table(results), **pictures})
        click.echo(table(results))


def kept(path: Path, of: list[str], make: Callable[[], Part]) -> Part:
    """What `make` gives, made once; OutputExists where the file holds a part `of` something else."""
    if not path.exists():
        plain, arrays = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as partial, partial.open("wb") as file:
            np.savez(file, plain=np.array(json.dumps({"of": of, "plain": plain})), **arrays)
        click.echo(f"{path.stem} is measured", err=True)
    with np.load(path, allow_pickle=False) as file:
        known = json.loads(str(file["plain"]))
        if known["of"] != of:
            raise OutputExists(f"{path} is of {' '.join(known['of'])}, not of {' '.join(of)}; give another --out")
        return known["plain"], {name: file[name] for name in file.files if name != "plain"}


def differential_part(run: str, seed: int) -> Part:
    """Scores of each test and size; p values of null genes, by kind and test.

    The first cells of a simulation are a smaller one, with groups and batches of equal size.
    """
    most = 2 * max(SIZES)
    cells = scrdit.simulate(run, most, seed=seed, **DE)
    null = scrdit.simulate(run, most, seed=seed, groups=2, batches=DE["batches"])
    truth = cells.var["log2_fold_change"].to_numpy(float)
    mean = np.asarray(null.layers["counts"].mean(axis=0)).ravel()
    rows, p_values = [], {}
    for size in SIZES:
        for test in differential.TESTS:
            p = differential.p_values(cells[: 2 * size], test)
            rows.append({"test": test, "seed": seed, "cells": size, **differential.score(p, truth, mean)})
            if size == CALIBRATED:
                p_values[f"beside/{test}"] = p[truth == 0]
                p_values[f"none/{test}"] = differential.p_values(null[: 2 * size], test)
    return {"rows": rows}, p_values


def donors_part(run: str) -> Part:
    """Genes found, and p values, where no gene differs between groups, but donors do, of which each is in one group.

    Tests of cells take a donor's cells for as many independent ones (Squair et al. 2021).
    """
    cells = scrdit.simulate(run, 4000, groups=2, batches=DONORS, batch_strength=BETWEEN_DONORS)
    donor, group = (cells.obs[name].cat.codes.to_numpy() for name in ("batch", "group"))
    cells = cells[(donor < DONORS // 2) == (group == 0)].copy()
    p = {test: differential.p_values(cells, test) for test in differential.TESTS}
    found = {test: int(differential.discoveries(each).sum()) for test, each in p.items()}
    return found, {f"donors/{test}": each for test, each in p.items()}


def zeros_part(run: str, real: AnnData) -> Part:
    """How far off the real cells' relation of zeros and means genes are, by what was planted; mean and share of each
    gene, (2, gene)."""
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
    return off, {name: np.stack(found) for name, found in {"real": genes, **panels}.items()}


def zeros_picture(genes: Mapping[str, np.ndarray]) -> bytes:
    """Of what `zeros_part` gives."""
    panels = {name: (found[0], found[1]) for name, found in genes.items()}
    return figures.zeros_picture(panels.pop("real"), panels)


def integration_part(run: str, real: AnnData, label: str) -> Part:
    """Scores without a batch effect, with one, and after Harmony, of the same cells; t-SNE, batches and types."""
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
    return scores, {"batch": batch, "types": types} | {n: integration.embedded(each) for n, each in points.items()}


def integration_picture(scores: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
    """Of what `integration_part` gives."""
    points = {name: arrays[name] for name in scores}
    return figures.integration_picture(points, arrays["batch"], arrays["types"], scores)


def doublets_part(run: str) -> Part:
    """How well Scrublet tells planted doublets, and their share."""
    cells = scrdit.simulate(run, CELLS_WITH_DOUBLETS, doublets=DOUBLETS)
    return {"share": DOUBLETS, "auc": integration.doublet_auc(cells, DOUBLETS)}, {}


if __name__ == "__main__":
    main()
