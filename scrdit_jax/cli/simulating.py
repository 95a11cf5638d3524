"""simulate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..config import SCHEMAS
from ..errors import BadConfig
from ..registry import SOLVERS
from .main import PATH, REAL, WEIGHT, WHOLE, Named, Part, categories, examples, given, guidance, main, seed_option
from .making import Category, dtype_option, warn


class Range(click.ParamType):
    """F, or LEAST,GREATEST."""

    name = "range"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | list[float]:
        """A number, or two."""
        if not isinstance(value, str):
            return value
        try:
            numbers = [float(part) for part in value.split(",")]
        except ValueError:
            raise BadConfig(
                f"--log2-fold-change {value[:80]} says no number; write --log2-fold-change 1, or 0.5,2"
            ) from None
        return numbers[0] if len(numbers) == 1 else numbers


SHARE = Named("share", "--proportion 'B cells=0.2'")


@main.command(
    epilog=examples(
        "scrdit simulate pbmc3k --cells 2000 --de-share 0.1 --log2-fold-change 0.5,2 --out de.h5ad",
        "scrdit simulate run --cells 5000 --batches 3 --batch-strength 0.5 --batch-depth 0.3 --out batches.h5ad",
        "scrdit simulate run --cells 5000 --de-share 0.1 --de-by cell_type --out markers.h5ad",
        "scrdit simulate run --cells 5000 --proportion 'B cells=0.3' --proportion 'NK cells=0.7' --out b_nk.h5ad",
        "scrdit simulate run --cells 5000 --doublets 0.08 --ambient 0.1 --depth-factor 0.5 --out droplets.h5ad",
        "scrdit simulate run --cells 5000 --de-share 0.1 --schema open-problems --out de.h5ad",
    )
)
@click.argument("run", type=PATH)
@click.option("--cells", type=WHOLE, help="How many; --per-type and --match say it themselves.")
@click.option("--cell-type", "cell_types", multiple=True, metavar="NAME", help="Of this type; repeat for equal shares.")
@click.option(
    "--condition", "conditions", multiple=True, type=Category(), metavar="COLUMN=NAME", help="With this category."
)
@click.option("--per-type", type=PATH, metavar="FILE.csv", help="How many of which: a table.")
@click.option(
    "--proportion", "shares", multiple=True, type=SHARE, metavar="NAME=SHARE", help="Of this cell type; repeatable."
)
@click.option("--match", metavar="REAL", help="The mixture of these real cells; as many, unless --cells says.")
@click.option("--de-share", type=REAL, metavar="S", help="Share of genes that are differentially expressed.")
@click.option(
    "--log2-fold-change", type=Range(), metavar="F|LEAST,GREATEST", help="Of their expected counts.  [default: 1]"
)
@click.option("--up-share", type=REAL, metavar="S", help="Of these genes, the share that is raised.  [default: 0.5]")
@click.option("--groups", type=WHOLE, help="Groups of cells that differ, the first the reference.  [default: 2]")
@click.option("--de-by", metavar="COLUMN", help="Plant between a column's categories instead, each with its own genes.")
@click.option("--de-cell-type", "de_cell_types", multiple=True, metavar="NAME", help="In this type alone; repeatable.")
@click.option("--batches", type=WHOLE, help="How many.  [default: 1]")
@click.option("--batch-strength", type=REAL, metavar="SD", help="Deviation of log2 factors of genes in a batch.")
@click.option("--batch-share", type=REAL, metavar="S", help="Share of genes that have such factors.  [default: 1]")
@click.option("--batch-depth", type=REAL, metavar="SD", help="Deviation of batches' log2 depth.")
@click.option("--depth-factor", type=REAL, metavar="F", help="Sequence every cell so many times as deep.")
@click.option("--depth", type=REAL, metavar="D", help="Every cell's library size, instead of training cells'.")
@click.option("--doublets", type=REAL, metavar="S", help="Share of droplets with a second cell in them.")
@click.option("--ambient", type=REAL, metavar="S", help="Share of counts from the batch's mean expression.")
@click.option("--effects-seed", type=WHOLE, help="Of what is planted, in the same cells.  [default: --seed]")
@click.option("--schema", type=click.Choice(SCHEMAS), help="Names of the parts of the file.  [default: scanpy]")
@click.option("--out", type=PATH, required=True, help="cells.h5ad or cells.zarr.")
@click.option("--guidance", "weights", multiple=True, type=WEIGHT, metavar="W|COLUMN=W", help="See 'scrdit sample'.")
@click.option("--solver", type=Part(SOLVERS), help="See 'scrdit sample'.")
@click.option("--steps", type=WHOLE, help="Network evaluations a cell.  [default: the solver's own]")
@click.option("--schedule", metavar="NAME|FILE", help="See 'scrdit sample'.")
@seed_option("Of the cells, and of what is planted.  [default: 0]")
@click.option("--batch-size", type=WHOLE, help="Cells at once; they are the same.  [default: the fastest here]")
@dtype_option
def simulate(run: Path, out: Path, conditions: tuple, weights: tuple, shares: tuple, **options: Any) -> None:
    """Counts with known effects planted in them, from RUN, a folder made by 'scrdit train', or 'pbmc3k'.

    The truth is in obs, var, varm and uns of the file: which genes, which effect, in which cells.
    """
    from .. import api

    options |= {"conditions": categories(conditions), "guidance": guidance(weights), "proportions": _shares(shares)}
    click.echo(f"written to {api.simulate(run, out=out, on_notes=warn, **given(**options))}")


def _shares(pairs: tuple[tuple[str, float], ...]) -> dict[str, float] | None:
    """What was given by options of the type SHARE; None where none was."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise BadConfig("--proportion names a cell type twice; give each one share")
    return found or None
