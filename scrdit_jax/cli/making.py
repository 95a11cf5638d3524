"""sample, verify, assemble, schedule."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from ..config import OUTPUTS, SAMPLING_DTYPES
from ..errors import ScrditError
from ..registry import SOLVERS
from .main import (
    PATH,
    REAL,
    WEIGHT,
    WHOLE,
    Category,
    Part,
    categories,
    distributed_options,
    examples,
    given,
    guidance,
    main,
    say,
    seed_option,
)

dtype_option = click.option(
    "--dtype",
    type=click.Choice(SAMPLING_DTYPES),
    help="What the network computes in; int8 and fp8 need 'scrdit_jax[quantised]'.  [default: bfloat16 on GPU and TPU]",
)


@main.command(
    epilog=examples(
        "scrdit sample run --cells 10000 --out cells.h5ad",
        "scrdit sample run --cells 2000 --solver ddpm --steps 1000 --out cells.zarr",
        "scrdit sample run --cells 2000 --solver ddim --acceleration 10 --eta 1 --schedule quadratic --out cells.h5ad",
        "scrdit sample run --cells 500 --cell-type 'B cells' --guidance 2 --out b.h5ad",
        "scrdit sample run --cells 500 --condition tissue=lung --condition donor=d3 --out lung.h5ad",
        "scrdit sample run --per-type counts.csv --output counts --out cells.h5ad",
        "scrdit sample run --cells 5000000 --out atlas",
        "srun scrdit sample run --cells 5000000 --out atlas --distributed",
    )
)
@click.argument("run", type=PATH)
@click.option("--cells", type=WHOLE, help="How many; --per-type and --match say it themselves.")
@click.option("--cell-type", "cell_types", multiple=True, metavar="NAME", help="Of this type; repeat for equal shares.")
@click.option(
    "--condition",
    "conditions",
    multiple=True,
    type=Category(),
    metavar="COLUMN=NAME",
    help="With this category; repeatable for one combination, seen in training or not.",
)
@click.option("--per-type", type=PATH, metavar="FILE.csv", help="How many of which: a table.")
@click.option("--match", metavar="REAL", help="The mixture of these real cells; as many, unless --cells says.")
@click.option(
    "--guidance",
    "weights",
    multiple=True,
    type=WEIGHT,
    metavar="W|COLUMN=W",
    help="Above 1: more like what was asked for, at twice the cost; by column, repeatable, at the cost of one more "
    "evaluation for each.",
)
@click.option("--output", type=click.Choice(OUTPUTS), help="counts: whole numbers too, as a layer.  [default: log]")
@click.option("--depth", type=REAL, metavar="D", help="Every cell's library size, instead of training cells'.")
@click.option("--out", type=PATH, required=True, help="cells.h5ad, cells.zarr, or a folder.")
@click.option(
    "--solver",
    type=Part(SOLVERS),
    help="[default: distributional, which draws each gene from its predicted distribution; dpmpp-2m where the model "
    "predicts none]",
)
@click.option("--steps", type=WHOLE, help="Network evaluations a cell.  [default: the solver's own]")
@click.option("--acceleration", type=REAL, metavar="R", help="Instead of --steps: every R-th timestep.")
@click.option(
    "--schedule",
    metavar="uniform|quadratic|logsnr|karras|paper|interior|fitted|FILE",
    help="Which timesteps; paper: 990, 980, ..., 10, 1 for 100 of 1000; fitted: those that the run carries; a FILE "
    "lists them, descending.  [default: the fitted ones, else the solver's own]",
)
@click.option("--eta", type=REAL, help="ddim only: 0 deterministic to 1 as random as DDPM.  [default: 0]")
@click.option("--variance", metavar="beta|posterior", help="ddpm only: which sigma squared.  [default: beta]")
@seed_option("Cell i depends on model, seed and i alone.  [default: 0]")
@click.option("--batch-size", type=WHOLE, help="Cells at once.  [default: the fastest here]")
@dtype_option
@click.option("--shard-cells", type=WHOLE, help="About how many to a file in a folder.  [default: 65536]")
@distributed_options
@click.option("--ray", metavar="ADDRESS", help="Shards as tasks of a Ray cluster: host:port, auto, or local.")
@click.option("--coordinator", metavar="HOST:PORT", help="Where they meet before they start; not needed.")
def sample(run: Path, cells: int | None, out: Path, conditions: tuple, weights: tuple, **options: Any) -> None:
    """Generate synthetic cells from RUN, a folder made by 'scrdit train', or 'pbmc3k'.

    A folder --out gets the cells in shards of about 65,536. The same command again continues, on other hardware too;
    several at once share the work.
    """
    from .. import api

    options |= {"conditions": categories(conditions), "guidance": guidance(weights)}
    click.echo(str(api.generate(run, cells, out=out, on_notes=warn, **given(**options))))


def warn(notes: Iterable[str]) -> None:
    """Sentences beside what is printed, one a line."""
    for note in notes:
        click.echo(f"scrdit: {note}", err=True)


@main.command(epilog=examples("scrdit verify atlas", "scrdit verify atlas --repair run"))
@click.argument("out", type=PATH)
@click.option("--repair", type=PATH, metavar="RUN", help="Make anew what is missing or damaged.")
def verify(out: Path, repair: Path | None) -> None:
    """Check a folder of shards, byte by byte; exit status 2 if something is missing or damaged and not repaired."""
    from .. import api

    found = api.verify(out, repair=repair)
    say((*found.problems, *found.notes))
    if found.problems and not found.repaired:
        raise ScrditError(
            f"{len(found.problems)} of {found.shards} shards of {out} are missing or damaged; "
            f"'scrdit verify {out} --repair RUN' makes them again"
        )
    repaired = f"{len(found.problems)} made again; " if found.repaired else ""
    click.echo(f"{repaired}{found.cells} cells in {found.shards} shards are sound; digest {found.digest}")


@main.command(epilog=examples("scrdit assemble atlas --out cells.h5ad", "scrdit assemble atlas --out cells.zarr"))
@click.argument("shards", type=PATH)
@click.option("--out", type=PATH, required=True, help="cells.h5ad or cells.zarr.")
def assemble(shards: Path, out: Path) -> None:
    """One file from a folder of shards, without holding the cells in memory."""
    from .. import api

    click.echo(f"written to {api.assemble(shards, out=out)}")


@main.command(
    epilog=examples(
        "scrdit schedule run --steps 6 --out timesteps.json",
        "scrdit sample run --cells 10000 --schedule timesteps.json --out cells.h5ad",
        "scrdit schedule run --solver unipc --steps 8 --out timesteps.json",
    )
)
@click.argument("run", type=PATH)
@click.option("--steps", type=WHOLE, required=True, help="Network evaluations a cell: 1 to 8, for unipc 2 to 64.")
@click.option("--solver", metavar="NAME", help="distributional or unipc.  [default: as 'scrdit sample' would]")
@click.option("--out", type=PATH, required=True, help="A file for sample --schedule.")
@seed_option("Of the cells the fit is made with.", default=0, show_default=True)
def schedule(run: Path, steps: int, solver: str | None, out: Path, seed: int) -> None:
    """Fit the timesteps to RUN's own model, so that few steps miss least; seconds to a minute.

    'scrdit train' has done so for 1 to 8 steps of distributional, and 'scrdit sample' uses them.
    """
    from .. import api

    timesteps = api.fit_schedule(run, steps, solver=solver, out=out, seed=seed)
    click.echo(f"{' '.join(map(str, timesteps))}\nwritten to {out}")
