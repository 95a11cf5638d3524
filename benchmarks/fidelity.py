"""Cells of several generators beside real ones, on several data sets, scored by everything that sees a difference.

    python -m benchmarks.fidelity --preset demo --out DIR                                 trains and compares on PBMC 3k
    python -m benchmarks.fidelity --run RUN --on test --out DIR                           a run that is there
    python -m benchmarks.fidelity --data lung.h5ad --data b.h5ad:annotation --preset demo --preset mine.json --out DIR
    python -m benchmarks.fidelity --sampler distributional:4 --sampler dpmpp-2m:25 --sampler ddpm:1000 --out DIR

With several samplers of one model, each is held against the first seed by seed.

Beside ours: a Gaussian copula for each cell type, scVI (extra `fidelity`), real cells and real cells with their genes
shuffled. Held-out cells are halved once into validation cells, to choose by, and test cells, to report. DIR gets
results.json, table.md and pictures; every row is kept as soon as it is measured, and the same command goes on where it
was stopped. DIR/work holds runs and cells, DIR/rows the rows; neither is needed once the table is there.
"""

from __future__ import annotations

import json
import math
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
from scipy import sparse

from benchmarks import fidelity_pages, generators, scvi_peer
from benchmarks.cell_sets import SIDES, CellSet, Skipped, Source
from benchmarks.generators import Generator
from benchmarks.judging import judge
from benchmarks.rows import Row, Rows, put, slug
from scrdit_jax.config import DataConfig, RunConfig, SamplingConfig, load_preset
from scrdit_jax.devices import describe_devices, use_every_core
from scrdit_jax.errors import BadConfig, OutputExists, ScrditError
from scrdit_jax.extras import optional, versions
from scrdit_jax.families import load
from scrdit_jax.generation.settings import coefficients_for
from scrdit_jax.io.atomic import atomic_write, check_parents
from scrdit_jax.io.reading import EMBEDDED

PEERS = (generators.COPULA, scvi_peer.POSTERIOR, scvi_peer.PRIOR)
DEFAULT_PRESET = "demo"
# Enough that most types have as many as the reference, whole comparisons take half.
CELLS_FOR_EACH_REFERENCE = 2
# A thousand evaluations a cell cost as much as all other samplers together.
MANY_EVALUATIONS = 200
LIBRARIES = ("scrdit_jax", "anndata", "numpy", "scipy", "scikit-learn", "scvi-tools")


@dataclass(frozen=True)
class Sampler:
    """How ours are sampled: `options` are SamplingConfig's, `suffix` goes to the generator's name in the tables."""

    options: dict[str, Any] = field(default_factory=dict)
    suffix: str = ""

    @classmethod
    def parse(cls, text: str) -> Sampler:
        """SOLVER[:EVALUATIONS[:SCHEDULE]]."""
        solver, _, rest = text.partition(":")
        steps, _, schedule = rest.partition(":")
        options: dict[str, Any] = {"solver": solver}
        if steps:
            if not steps.isdecimal():
                raise BadConfig(f"--sampler {text}: {steps!r} is no number of evaluations; write e.g. {solver}:10")
            options["steps"] = int(steps)
        if schedule:
            options["schedule"] = schedule
        words = [solver, *([f"{steps} evaluations"] if steps else []), *([schedule] if schedule else [])]
        return cls(options, ", " + ", ".join(words))


def measure(cells: CellSet, generator: Generator, seed: int, rows: Rows, work: Path) -> Row:
    """The row of one generator and seed: from its file, or measured now. Skipped, with the reason, where it cannot."""
    name = f"{slug(cells.name)}.{slug(generator.name)}.{cells.side}.{seed}"
    about = json.loads(
        json.dumps({"digest": cells.prepared.metadata.digest, "genes": cells.prepared.cells.n_vars, **generator.record})
    )

    def measured() -> Row:
        many = generator.record.get("sampling", {}).get("steps", 0) >= MANY_EVALUATIONS
        made = generator.make(cells, (1 if many else CELLS_FOR_EACH_REFERENCE) * len(cells.reference), seed)
        if not np.isfinite(made.cells).all():
            raise Skipped("made values that are not finite")
        if seed == 0:
            with atomic_write(work / f"{name}.npz") as partial, partial.open("wb") as file:
                sparse.save_npz(file, sparse.csr_matrix(made.cells[: len(cells.reference)]))
        return {
            "data": cells.name, "generator": generator.name, "on": cells.side, "seed": seed,
            "fit_seconds": made.fit_seconds, "cells_per_second": made.cells_per_second,
            **judge(generator.name, made, cells, seed), "kept": name, "made_by": about,
        }  # fmt: skip

    row = rows.measured(name, measured)
    if row["made_by"] != about:
        raise OutputExists(
            f"{rows.path(name)} is of another {generator.name} on {cells.name}; delete it, or give another --out"
        )
    return row


def compare_all(
    sets: Sequence[CellSet], chosen: Sequence[Generator], seeds: int, out: Path
) -> tuple[list[Row], list[dict[str, str]]]:
    """(the rows of every set, generator and seed, what was skipped and why)."""
    rows, found, skipped = Rows(out / "rows"), [], []
    for cells in sets:
        for generator in chosen:
            for seed in range(seeds):
                started = time.perf_counter()
                try:
                    row = measure(cells, generator, seed, rows, out / "work")
                except Skipped as reason:
                    skipped.append({"data": cells.name, "generator": generator.name, "reason": str(reason)})
                    click.echo(f"{cells.name}, {generator.name}: skipped, {reason}", err=True)
                    break
                found.append(row)
                whole = row["whole"]
                click.echo(
                    f"{cells.name}, {generator.name}, seed {seed}: AUC {whole['random_forest_auc']:.3f}, PCA-50 MMD "
                    f"{whole['mmd_pca']:.4f} ({time.perf_counter() - started:.0f} s)",
                    err=True,
                )
    return found, skipped


def choose(
    presets: Sequence[str],
    runs: Sequence[Path],
    peers: Sequence[str],
    samplers: Sequence[Sampler],
    out: Path,
    *,
    condition_on: Sequence[str] = (),
) -> tuple[list[Generator], DataConfig, int]:
    """(generators in the table's order, how cells are prepared for all of them, what the genes are a multiple of)."""
    if not presets and not runs:
        presets = (DEFAULT_PRESET,)
    names = [Path(name).stem for name in (*presets, *(run.name for run in runs))]
    if len(set(names)) < len(names):
        names = [*presets, *map(str, runs)]
    told = {"condition_on": condition_on} if condition_on else {}
    configs: list[RunConfig] = [load_preset(preset).with_settings(told) for preset in presets]
    of_runs = [load(run).config for run in runs]
    found = generators.controls()
    if generators.COPULA in peers:
        found.append(generators.copula())
    found += [generator for generator in scvi_peer.generators() if generator.name in peers]
    for sampler in samplers or (Sampler(),):
        sampling, suffix = sampler.options, sampler.suffix
        for config in (*configs, *of_runs):
            # Refused before anything is trained; timesteps that are fitted come with the model.
            plain = {key: value for key, value in sampling.items() if key != "schedule"}
            coefficients_for(config.diffusion, SamplingConfig(**plain))
        for name, config in zip(names, configs, strict=False):
            found.append(generators.ours_from_preset(name + suffix, config, out / "work" / "runs", sampling))
        for name, run in zip(names[len(configs) :], runs, strict=True):
            found.append(generators.ours_from_run(name + suffix, run, sampling))
    multiple = math.lcm(*(config.network.gene_multiple for config in (*configs, *of_runs)))
    return found, (configs or of_runs)[0].data, multiple


@click.command()
@click.option("--data", "data", multiple=True, metavar="PATH[:COLUMN]", help=f"Repeatable.  [default: {EMBEDDED}]")
@click.option("--preset", "presets", multiple=True, metavar="NAME|FILE", help="Ours, trained anew with every seed.")
@click.option("--run", "runs", multiple=True, type=click.Path(path_type=Path), help="Ours, trained already.")
@click.option(
    "--sampler",
    "samplers",
    multiple=True,
    metavar="SOLVER[:EVALUATIONS[:SCHEDULE]]",
    help="Of ours; repeatable.  SCHEDULE as in scrdit sample; fit: fitted to the model here.  [default: the package's]",
)
@click.option("--condition-on", multiple=True, metavar="COLUMN", help="Of ours; repeatable.")
@click.option("--cells", type=click.IntRange(20), help="Held-out cells to judge by, at most.  [default: 2000]")
@click.option("--peer", "peers", multiple=True, type=click.Choice(PEERS), help="Repeatable.  [default: all]")
@click.option("--no-peers", is_flag=True, help="Ours and the controls alone.")
@click.option("--on", type=click.Choice(SIDES), default="validation", show_default=True, help="Which held-out cells.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder.")
def main(
    data: tuple[str, ...],
    presets: tuple[str, ...],
    runs: tuple[Path, ...],
    samplers: tuple[str, ...],
    condition_on: tuple[str, ...],
    cells: int | None,
    peers: tuple[str, ...],
    no_peers: bool,
    on: str,
    seeds: int,
    out: Path,
) -> None:
    """Measure what is missing, then write results.json, table.md and the pictures."""
    use_every_core()
    started = time.perf_counter()
    try:
        optional("matplotlib.figure"), optional("sklearn.decomposition")
        if no_peers and peers:
            raise BadConfig("--peer and --no-peers exclude each other; give one of them")
        sources = [Source.parse(text) for text in data or (EMBEDDED,)]
        check_names(sources)
        chosen, config, multiple = choose(
            presets, runs, () if no_peers else peers or PEERS, [Sampler.parse(text) for text in samplers], out,
            condition_on=condition_on,
        )  # fmt: skip
        most = {} if cells is None else {"most": cells}
        sets = [CellSet.read(source, config, on, multiple_of=multiple, **most) for source in sources]
        check_parents(out / "rows")
        if out.is_file():
            raise OutputExists(f"{out} is a file; give a folder as --out")
        rows, skipped = compare_all(sets, chosen, seeds, out)
        about: dict[str, Any] = {
            "command": shlex.join(["python", "-m", "benchmarks.fidelity", *sys.argv[1:]]),
            "on": on, "seeds": seeds, **describe_devices(), "versions": versions(LIBRARIES),
            "sets": [fidelity_pages.describe(cells) for cells in sets], "skipped": skipped,
            "seconds": time.perf_counter() - started,
        }  # fmt: skip
        put(out / "results.json", (json.dumps({**about, "rows": rows}, indent=1) + "\n").encode())
        put(out / "table.md", fidelity_pages.page(rows, about).encode())
        for name, picture in fidelity_pages.pictures(rows, sets, out / "work").items():
            put(out / name, picture)
    except ScrditError as error:
        raise Refused(" ".join(str(error).split())) from None
    click.echo((out / "table.md").read_text())


class Refused(click.ClickException):
    """One line, exit status 2."""

    exit_code = 2


def check_names(sources: Sequence[Source]) -> None:
    """BadConfig where two data sets would have one name in the tables."""
    names = [slug(source.name) for source in sources]
    for name in names:
        if names.count(name) > 1:
            raise BadConfig(f"two data sets are called {name!r}; give files of different names")


if __name__ == "__main__":
    main()
