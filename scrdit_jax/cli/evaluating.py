"""evaluate, benchmark, demo, info."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from ..config.checks import CELLS
from ..errors import BadConfig, one_line, printable
from .main import PATH, WHOLE, Number, examples, given, main, say, seed_option
from .making import dtype_option


@main.command(
    epilog=examples(
        "scrdit evaluate run cells.h5ad --out report", "scrdit evaluate counts.h5ad cells.h5ad --out report"
    )
)
@click.argument("real", type=PATH)
@click.argument("synthetic", type=PATH)
@click.option("--out", type=PATH, required=True, help="Folder for report.html and report.json.")
@click.option("--repeats", type=WHOLE, default=5, show_default=True, help="Random halves to average over.")
@seed_option("Of the halves, the forest and the t-SNE.", default=0, show_default=True)
@click.option(
    "--donor-key",
    metavar="COLUMN",
    help="Attack donors, too: which were trained on?  [default: that of the model, if it held out whole donors]",
)
def evaluate(real: Path, synthetic: Path, out: Path, repeats: int, seed: int, donor_key: str | None) -> None:
    """Score SYNTHETIC cells against REAL ones: a run (its held-out cells), or a file of cells.

    Cells the model was trained on are left out of REAL; where the file has them, the report says whether they were
    copied and can be found out ("Privacy"). Every score stands beside real-vs-real and genes-shuffled.
    """
    from .. import api

    report = api.evaluate(real, synthetic, out=out, repeats=repeats, seed=seed, donor_key=donor_key)
    click.echo(printable(str(report)))
    click.echo(f"\nreport: {out / 'report.html'}")


@main.command(
    epilog=examples(
        "scrdit benchmark run --out speed",
        "scrdit benchmark run --case ddpm-1000 --case 'unipc-*' --out speed",
        "scrdit benchmark --preset paper --dtype bfloat16 --case 'dpmpp-2m-*' --out paper",
    )
)
@click.argument("run", type=PATH, required=False)
@click.option("--out", type=PATH, required=True, help="Folder for results.json, table, pictures.")
@click.option("--preset", help="Instead of RUN: time this preset's network with random weights; nothing is scored.")
@click.option("--case", "cases", multiple=True, metavar="NAME", help="Such as ddpm-1000 or 'unipc-*'; repeatable.")
@dtype_option
@click.option("--batch-size", type=WHOLE, help="Cells at once.  [default: the fastest here]")
@click.option("--seeds", type=WHOLE, help="Samples to score of each case.  [default: 3]")
@click.option("--repeats", type=WHOLE, help="Least number of timed batches a case.  [default: 5]")
def benchmark(run: Path | None, out: Path, cases: tuple[str, ...], **options: Any) -> None:
    """Time each sampler of RUN against DDPM on this device, and score its cells against held-out ones.

    Hours on a CPU for a large network: every finished row is kept, and the same command again goes on.
    """
    from .. import api

    click.echo(api.benchmark(run, out=out, cases=cases, **given(**options)))


@main.command(epilog=examples("scrdit demo", "scrdit demo --pretrained", "scrdit demo --out somewhere --cells 5000"))
@click.option("--out", type=PATH, default=Path("scrdit_demo"), show_default=True, help="Folder.")
@click.option("--cells", type=Number(int, CELLS), help="How many to generate.  [default: 2000, with --pretrained 1000]")
@click.option("--steps", type=WHOLE, help="Training steps.  [default: the demo preset's]")
@click.option("--pretrained", is_flag=True, help="Do not train: take the model that ships with the package.")
@seed_option("Decides everything random.")
def demo(out: Path, cells: int | None, steps: int | None, pretrained: bool, seed: int | None) -> None:
    """Everything once on the embedded PBMC 3k: train, sample, evaluate; minutes on two CPU cores."""
    from .. import api

    if pretrained and steps is not None:
        raise BadConfig("--pretrained trains nothing, so --steps has no meaning; give one of them")
    if pretrained:
        run = api.pretrained("pbmc3k", out=out / "run")
    else:
        config = api.settings("demo", **given(steps=steps, seed=seed))
        prepared = api.prepare("pbmc3k", preset=config)
        say(prepared.metadata.notes)
        run = api.train(prepared, out=out / "run", preset=config)
    wanted = cells if cells is not None else 1000 if pretrained else 2000
    synthetic = api.sample(run, wanted, out=out / "cells.h5ad", **given(seed=seed))
    # Nearly all the time goes into forests: the short form grows fewer.
    click.echo(str(api.evaluate(run, synthetic, out=out / "report", repeats=3 if pretrained else 5)))
    click.echo(f"\ncells:  {synthetic}\nreport: {out / 'report' / 'report.html'}")


@main.command(epilog=examples("scrdit info run", "scrdit info cells.h5ad", "scrdit info atlas"))
@click.argument("path", type=PATH)
def info(path: Path) -> None:
    """Say what is inside a run, a file of synthetic cells or a folder of their shards, in plain words.

    In colour on a terminal, unless the environment variable NO_COLOR is set.
    """
    from .. import api

    first, *others = map(one_line, api.describe(path))
    lines = [click.style(first, bold=True), *map(_with_coloured_label, others)]
    # None: click takes the colours out where the output is no terminal.
    click.echo("\n".join(lines), color=False if os.environ.get("NO_COLOR") else None)


def _with_coloured_label(line: str) -> str:
    label, colon, rest = line.partition(": ")
    return click.style(label, fg="cyan") + colon + rest if colon else line
