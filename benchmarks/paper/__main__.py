"""Everything the paper measured, anew: tables 1 to 3, figures 3a-c and 4a-c, and why its cells collapse at 100x.

    python -m benchmarks.paper --quick --set maynard_lung.h5ad:Fibroblast --out DIR       minutes on two CPU cores
    python -m benchmarks.paper --set gse103322.h5ad:Fibroblast --set gse103322.h5ad:malignant --out DIR      on a GPU

One DiT with zero-negation, one without, one standardised and one UNet are trained for each set of cells. Every row is
kept in rows.json as soon as it is measured, and the same command goes on where it was stopped. DIR gets results.json,
tables.md and the figures; DIR/work holds runs and cells, and may be deleted in the end.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from benchmarks.commands import as_json, command_line, one_line_errors, slug, write_files
from benchmarks.paper import figures, tables
from benchmarks.paper.measuring import Bench
from benchmarks.paper.plan import FULL, QUICK, CellSource
from scrdit_jax.benchmarking.store import ResultStore
from scrdit_jax.devices import use_every_core
from scrdit_jax.errors import BadConfig
from scrdit_jax.extras import optional

EMBEDDED = "pbmc3k:CD4 T cells"


@click.command()
@click.option("--set", "sets", multiple=True, metavar="DATA[:TYPE]", help=f"Repeatable.  [default: {EMBEDDED}]")
@click.option("--cell-type-key", default="cell_type", show_default=True)
@click.option("--quick", is_flag=True, help="Small networks, few epochs and cells: 23 minutes on two busy CPU cores.")
@click.option("--acceleration", is_flag=True, help="Table 3 alone, and evaluations.png.")
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(sets: tuple[str, ...], cell_type_key: str, quick: bool, acceleration: bool, out: Path) -> None:
    """Measure what is missing, then write tables and figures."""
    plan = QUICK if quick else FULL
    plan = plan.of_acceleration() if acceleration else plan
    chosen = [CellSource.parse(text, cell_type_key) for text in sets or (EMBEDDED,)]
    names = [slug(cells.name) for cells in chosen]
    use_every_core()
    with one_line_errors():
        if len(set(names)) < len(names):
            raise BadConfig("two sets have the same name, so their rows would be one; measure them into two --out")
        optional("matplotlib")
        request = {"plan": asdict(plan), "sets": [asdict(cells) for cells in chosen]}
        store = ResultStore(out / "rows.json", json.loads(json.dumps(request)))
        rows = [row for cells in chosen for row in Bench(cells, plan, store, out / "work").measure()]
        about = {"command": command_line("benchmarks.paper"), **request}
        page = tables.page(rows, about)
        write_files(out, {"results.json": as_json({**about, "rows": rows}), "tables.md": page})
        write_files(out, figures.pictures(rows, out / "work"))
    click.echo(page)


if __name__ == "__main__":
    main()
