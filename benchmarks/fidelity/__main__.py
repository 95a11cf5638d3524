"""Cells of several generators beside real ones, on several data sets, scored by everything that sees a difference.

    python -m benchmarks.fidelity --preset demo --out DIR                                 trains and compares on PBMC 3k
    python -m benchmarks.fidelity --run RUN --on test --out DIR                           a run that is there
    python -m benchmarks.fidelity --data lung.h5ad --data b.h5ad:annotation --preset demo --preset mine.json --out DIR
    python -m benchmarks.fidelity --data lung.h5ad:cell_type@detected --out DIR       the genes with the fewest zeros
    python -m benchmarks.fidelity --sampler distributional:4 --sampler dpmpp-2m:25 --sampler ddpm:1000 --out DIR
    python -m benchmarks.fidelity --dtype float32 --dtype bfloat16 --dtype int8 --dtype fp8 --no-peers --out DIR
    python -m benchmarks.fidelity --run RUN --scored-genes all --scored-genes hvg:2000 --out DIR

The last scores the same cells of a whole transcriptome twice: in all of its genes, and in the 2,000 that the training
cells vary in most.
With several samplers or dtypes of one model, each is compared with the first seed by seed.

Beside ours: the peers of benchmarks/peers, real cells and real cells with their genes shuffled. Held-out cells are
halved once into validation cells, to choose by, and test cells, to report. DIR gets results.json, table.md and
pictures; every row is kept in rows.json as soon as it is measured, and the same command goes on where it was stopped.
DIR/work holds runs and cells; it is not needed once the table is there.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks.commands import as_json, command_line, one_line_errors, slug, write_files
from benchmarks.fidelity import figures, tables
from benchmarks.fidelity.cell_sets import ALL_GENES, SCORED_SYNTAX, SIDES, SYNTAX, CellSet, ScoredGenes, Source
from benchmarks.fidelity.comparing import STORE, compare_all
from benchmarks.fidelity.generators import Generator, Sampler, controls, ours_from_preset, ours_from_run, peer
from benchmarks.fidelity.novelty import DEFAULT_CELLS
from benchmarks.peers import PEERS
from scrdit_jax.benchmarking.store import ResultStore
from scrdit_jax.config import SAMPLING_DTYPES, DataConfig, RunConfig, SamplingConfig, load_preset
from scrdit_jax.devices import describe_devices, use_every_core
from scrdit_jax.errors import BadConfig
from scrdit_jax.extras import optional, versions
from scrdit_jax.families import load, models_of
from scrdit_jax.generation.settings import coefficients_for
from scrdit_jax.io.reading import EMBEDDED

DEFAULT_PRESET = "demo"
LIBRARIES = ("scrdit_jax", "anndata", "numpy", "scipy", "scikit-learn", "scvi-tools")


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What was asked for: generators in the table's order, how cells are prepared for all of them, and what the number
    of genes is a multiple of."""

    generators: Sequence[Generator]
    data: DataConfig
    gene_multiple: int


def choose(
    presets: Sequence[str],
    runs: Sequence[Path],
    peers: Sequence[str],
    samplers: Sequence[Sampler],
    *,
    condition_on: Sequence[str],
    work: Path,
) -> Chosen:
    """Every request is checked before anything is trained."""
    if not presets and not runs:
        presets = (DEFAULT_PRESET,)
    names = [Path(name).stem for name in (*presets, *(run.name for run in runs))]
    if len(set(names)) < len(names):
        names = [*presets, *map(str, runs)]
    changes = {"condition_on": condition_on} if condition_on else {}
    configs: list[RunConfig] = [load_preset(preset).with_settings(changes) for preset in presets]
    of_runs = [models_of(load(run))[0].config for run in runs]
    found = [*controls(), *map(peer, peers)]
    for sampler in samplers or (Sampler(),):
        sampling, suffix = sampler.options, sampler.suffix
        for config in (*configs, *of_runs):
            # Timesteps that are fitted come with the model.
            plain = {key: value for key, value in sampling.items() if key != "schedule"}
            coefficients_for(config.diffusion, SamplingConfig(**plain))
        for name, config in zip(names, configs, strict=False):
            found.append(ours_from_preset(name + suffix, config, work, sampling))
        for name, run in zip(names[len(configs) :], runs, strict=True):
            found.append(ours_from_run(name + suffix, run, sampling))
    multiple = math.lcm(*(config.network.gene_multiple for config in (*configs, *of_runs)))
    return Chosen(generators=found, data=(configs or of_runs)[0].data, gene_multiple=multiple)


def check_names(sources: Sequence[Source], scored: Sequence[ScoredGenes]) -> None:
    """BadConfig where two blocks of the tables would have one name."""
    if len(set(scored)) < len(scored):
        raise BadConfig("--scored-genes names the same genes twice; name each once")
    names = [slug(source.name) for source in sources]
    for name in names:
        if names.count(name) > 1:
            raise BadConfig(f"two data sets are called {name!r}; give files of different names")


@click.command()
@click.option("--data", "data", multiple=True, metavar=SYNTAX, help=f"Repeatable.  [default: {EMBEDDED}]")
@click.option(
    "--scored-genes",
    "scored",
    multiple=True,
    metavar=SCORED_SYNTAX,
    help="Score over these genes, as hvg:2000; repeatable: the same cells over each.  [default: all]",
)
@click.option("--preset", "presets", multiple=True, metavar="NAME|FILE", help="Ours, trained anew with every seed.")
@click.option("--run", "runs", multiple=True, type=click.Path(path_type=Path), help="Ours, trained already.")
@click.option(
    "--sampler",
    "samplers",
    multiple=True,
    metavar="SOLVER[:EVALUATIONS[:SCHEDULE]]",
    help="Of ours; repeatable.  SCHEDULE as in scrdit sample; fit: fitted to the model here.  [default: the package's]",
)
@click.option(
    "--dtype", "dtypes", multiple=True, type=click.Choice(SAMPLING_DTYPES),
    help="What ours compute in; repeatable.  [default: the package's]",
)  # fmt: skip
@click.option("--condition-on", multiple=True, metavar="COLUMN", help="Of ours; repeatable.")
@click.option("--cells", type=click.IntRange(20), help="Held-out cells to compare with, at most.  [default: 2000]")
@click.option("--peer", "peers", multiple=True, metavar="NAME", help=f"{', '.join(PEERS)}; repeatable.  [default: all]")
@click.option("--no-peers", is_flag=True, help="Ours and the controls alone.")
@click.option(
    "--novelty",
    type=click.IntRange(0),
    default=DEFAULT_CELLS,
    show_default=True,
    metavar="CELLS",
    help="Of each generator, to say whether they are new; 0: leave it out.",
)
@click.option("--on", type=click.Choice(SIDES), default="validation", show_default=True, help="Which held-out cells.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder.")
def main(
    data: tuple[str, ...],
    scored: tuple[str, ...],
    presets: tuple[str, ...],
    runs: tuple[Path, ...],
    samplers: tuple[str, ...],
    dtypes: tuple[str, ...],
    condition_on: tuple[str, ...],
    cells: int | None,
    peers: tuple[str, ...],
    no_peers: bool,
    novelty: int,
    on: str,
    seeds: int,
    out: Path,
) -> None:
    """Measure what is missing, then write results.json, table.md and the pictures."""
    use_every_core()
    with one_line_errors():
        optional("matplotlib.figure"), optional("sklearn.decomposition")
        if no_peers and peers:
            raise BadConfig("--peer and --no-peers exclude each other; give one of them")
        sources = [Source.parse(text) for text in data or (EMBEDDED,)]
        genes = [ScoredGenes.parse(text) for text in scored or (ALL_GENES,)]
        check_names(sources, genes)
        ours = [Sampler.parse(text) for text in samplers]
        if dtypes:
            ours = [sampler.computed_in(dtype) for sampler in ours or [Sampler()] for dtype in dtypes]
        chosen = choose(
            presets, runs, () if no_peers else peers or tuple(PEERS), ours,
            condition_on=condition_on, work=out / "work" / "runs",
        )  # fmt: skip
        most = {} if cells is None else {"most": cells}
        sets = [CellSet.read(source, chosen.data, on, multiple_of=chosen.gene_multiple, **most) for source in sources]
        views = [cells.on(one) for cells in sets for one in genes]
        for view in views:
            _ = view.columns  # too few genes are refused before anything is made
        click.echo(write_comparison(views, chosen.generators, seeds, out, novelty=novelty))


def write_comparison(
    sets: Sequence[CellSet], generators: Sequence[Generator], seeds: int, out: Path, *, novelty: int
) -> str:
    """Measure, write results.json, table.md and the pictures into `out`; the table."""
    started, store = time.perf_counter(), ResultStore(out / STORE)
    rows, skipped = compare_all(sets, generators, seeds, store, out / "work", novelty=novelty)
    about: dict[str, Any] = {
        "command": command_line("benchmarks.fidelity"),
        "on": sets[0].side, "seeds": seeds, "novelty": novelty, **describe_devices(), "versions": versions(LIBRARIES),
        "sets": [tables.describe(cells) for cells in sets], "skipped": skipped,
        "seconds": time.perf_counter() - started,
    }  # fmt: skip
    page = tables.page(rows, about)
    pictures = figures.pictures(rows, sets, out / "work")
    write_files(out, {"results.json": as_json({**about, "rows": rows}), "table.md": page, **pictures})
    return page


if __name__ == "__main__":
    main()
