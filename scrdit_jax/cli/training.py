"""prepare, train, import-torch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from ..config import CONDITIONS, DTYPES, GENE_ORDERS, GENE_SELECTIONS, NORMALIZATIONS, PRESET_FOLDER, preset_names
from ..registry import DERIVED, NETWORKS, OBJECTIVES, PREDICTIONS
from .main import (
    PATH,
    REAL,
    TERMINATED,
    WHOLE,
    Counts,
    Part,
    counts,
    distributed_options,
    examples,
    given,
    main,
    options,
    say,
    seed_option,
)

PRESET_HELP = (
    f"Settings as data: {', '.join(preset_names())}, each a file under {PRESET_FOLDER}, or a .json file of your own."
)
DATA_HELP = (
    "DATA: .h5ad, .zarr, 10x .h5, 10x .mtx folder, .csv/.tsv(.gz), .npy, or 'pbmc3k' (embedded); --stream takes the "
    "first two. Several, or a folder of .h5ad and .zarr, are joined on the genes and columns that all have; the column "
    "'file' says which of them a cell is from."
)

data_options = options(
    click.option("--cell-type-key", metavar="COLUMN", help="The column of obs with cell types.  [default: cell_type]"),
    click.option("--cell-type", "cell_types", multiple=True, metavar="NAME", help="Use these cells only; repeatable."),
    click.option("--condition-on", multiple=True, metavar="COLUMN", help="Condition on this column; repeatable."),
    click.option(
        "--derive", multiple=True, type=Counts(DERIVED), metavar="NAME=N",
        help="Condition on numbers found in the cells, such as pc-scores=12; repeatable.  none: on none.",
    ),
    click.option("--genes", type=WHOLE, help="How many genes to model.  [default: the preset's]"),
    click.option(
        "--gene-selection",
        type=click.Choice(GENE_SELECTIONS),
        help="hvg: highly variable; cv: eq. 1; detected: fewest zeros; all.",
    ),
    click.option(
        "--gene-order", type=click.Choice(GENE_ORDERS), help="coexpression: a token has genes that go together."
    ),
    click.option("--min-cells", type=WHOLE, help="Leave out genes expressed in fewer training cells."),
    click.option("--no-zero-negation", is_flag=True, help="Leave zeros as they are (the ablation of scRDiT table 2)."),
    click.option("--normalize", type=click.Choice(NORMALIZATIONS), help="auto recognises raw counts."),
    click.option("--target-sum", type=REAL, help="Counts a cell is scaled to before log1p."),
    click.option("--held-out", type=REAL, help="Share of cells kept for evaluation, never trained on."),
    click.option("--donor-key", metavar="COLUMN", help="Hold out whole donors, as this column of obs names them."),
    click.option("--transpose", is_flag=True, help="Rows of the text file or .npy are genes, columns are cells."),
    seed_option("Decides the split, the initial weights and every random number."),
)  # fmt: skip
network_option = click.option("--network", "architecture", type=Part(NETWORKS), help="What predicts.")
stream_option = click.option(
    "--stream", is_flag=True, default=None, help="Leave the cells on the disk.  [default: if memory is short]"
)
preset_option = click.option("--preset", default="base", show_default=True, help=PRESET_HELP)


@main.command(
    epilog=examples(
        "scrdit prepare counts.h5ad --out prepared.h5ad", "scrdit prepare matrix/ --genes 3000 --out prepared.zarr"
    )
)
@click.argument("data", nargs=-1, required=True)
@click.option("--out", type=PATH, required=True, help="Prepared cells, .h5ad or .zarr.")
@preset_option
@network_option
@data_options
@stream_option
def prepare(
    data: tuple[str, ...], out: Path, preset: str, transpose: bool, stream: bool | None, **changes: Any
) -> None:
    """Read, check, normalise, split and select genes; say what was found and done.

    DATA: see 'scrdit train --help'. 'train' does this by itself; prepare only to look first or to train often.
    """
    from .. import api
    from ..io.writing import check_suffix

    check_suffix(out, "prepared cells")  # before the work, not after it
    prepared = api.prepare(data, preset=preset, transpose=transpose, stream=stream, **_settings(**changes))
    path = api.write_prepared(prepared, out)
    say(prepared.metadata.notes)
    click.echo(f"{prepared.cells.n_obs} cells x {prepared.cells.n_vars} genes written to {path}")


@main.command(
    epilog=examples(
        "scrdit train counts.h5ad --out run",
        "scrdit train lung.h5ad --cell-type Fibroblast --preset paper --out fibroblasts",
        "scrdit train lung.h5ad --condition-on cell_type --condition-on patient --out run",
        "scrdit train lung.h5ad --per-cell-type --preset paper --out family",
        "scrdit train atlas/ --condition-on tissue --condition-on file --out run",
        "scrdit train new_donor.h5ad --from run --out fine",
        "scrdit train pbmc3k --preset demo --steps 500 --out quick",
    )
    + "\n\n"
    + DATA_HELP
)
@click.argument("data", nargs=-1, required=True)
@click.option("--out", type=PATH, required=True, help="The run directory, new or to continue.")
@preset_option
@network_option
@data_options
@click.option(
    "--from",
    "from_run",
    metavar="RUN",
    help="Train this run's model further, on new cells of its genes; new categories are added.",
)
@click.option("--per-cell-type", is_flag=True, help="A model for each cell type (the paper's way), in one folder.")
@click.option("--steps", type=WHOLE, help="Training steps.")
@click.option("--batch-size", type=WHOLE, help="Cells a step, over all devices.")
@click.option("--learning-rate", type=REAL, help="Peak learning rate of AdamW.")
@click.option("--prediction", type=Part(PREDICTIONS), help="What the network predicts.")
@click.option("--loss", type=Part(OBJECTIVES), help="likelihood: of the predicted distribution.")
@click.option(
    "--conditions",
    type=click.Choice(CONDITIONS),
    help="States of new cells: prior, learnt; bootstrap, training cells' own, which the run then holds.",
)
@click.option(
    "--column-dropout",
    type=REAL,
    metavar="P",
    help="Withhold each column, and the states, from so many cells by itself: 0.1 for --guidance COLUMN=W and for "
    "combinations that no cell has.  [default: the preset's]",
)
@click.option("--teacher", metavar="RUN", help="A run that the loss learns from, where it has a teacher.")
@click.option("--dtype", type=click.Choice(DTYPES), help="What the network computes in; weights stay float32.")
@click.option("--accumulate", type=WHOLE, metavar="N", help="Take a batch in N parts, for less memory.")
@click.option(
    "--dp-epsilon",
    type=REAL,
    metavar="E",
    help="Train with differential privacy, for each cell or with --donor-key each donor: the less, the more private.",
)
@click.option("--dp-delta", type=REAL, metavar="D", help="[default: 1e-5, or 0.1 / cells if that is less]")
@click.option("--dp-clip", type=REAL, metavar="C", help="Greatest norm of one's gradient.  [default: 0.1]")
@click.option("--dp-cells", type=WHOLE, metavar="K", help="Cells that a donor gives a step at most.  [default: 16]")
@click.option("--dp-microbatch", type=WHOLE, metavar="N", help="Gradients in memory at once.")
@click.option("--checkpoint-every", type=WHOLE, help="Steps between checkpoints.")
@click.option("--keep", type=WHOLE, help="How many of the newest checkpoints stay, beside the best.  [default: 3]")
@click.option("--evaluate-every", type=REAL, metavar="EPOCHS", help="Score validation cells; see evaluations.jsonl.")
@click.option("--patience", type=WHOLE, metavar="N", help="End after N evaluations that were no better.")
@stream_option
@click.option("--max-minutes", type=REAL, help="Save and end after so long; the same command continues.")
@click.option("--tensorboard", is_flag=True, help="Write RUN/tensorboard, too.")
@distributed_options
@click.option("--coordinator", metavar="HOST:PORT", help="Where they meet, if JAX does not find out.")
def train(data: tuple[str, ...], out: Path, preset: str, transpose: bool, **changes: Any) -> None:
    """Train on DATA into the folder --out. The same command again continues where it stopped; SIGTERM saves first."""
    from .. import api

    run = api.train(data, out=out, preset=preset, transpose=transpose, on_notes=say, **_settings(**changes))
    if run.stopped is not None:
        click.echo(f"stopped: {run.stopped}")
        if run.stopped.startswith("SIGTERM"):  # who sent it is to know that there is more to do
            sys.exit(TERMINATED)
        return
    click.echo(f"trained {run.config().training.steps} steps" if run.config_path.is_file() else "trained the family")
    click.echo(f"next: scrdit sample {run.path} --cells 1000 --out cells.h5ad")


@main.command(
    "import-torch",
    epilog=examples(
        "scrdit import-torch model.pt --out run",
        "scrdit import-torch ckpt.pt --genes genes.txt --heads 8 --out run",
        "scrdit sample run --cells 2000 --solver ddim --eta 1 --acceleration 10 --schedule paper --out cells.h5ad",
    ),
)
@click.argument("checkpoint", type=PATH)
@click.option("--out", type=PATH, required=True, help="The run directory, new.")
@click.option("--genes", type=PATH, help="Gene names in order: one a line, or a file of cells.")
@click.option("--heads", type=WHOLE, default=8, show_default=True, help="Attention heads; weights do not tell.")
@click.option("--no-zero-negation", is_flag=True, help="It was trained with zeros left as they are.")
@click.option(
    "--first-timestep",
    type=WHOLE,
    default=0,
    show_default=True,
    help="What its timesteps count from: 0 to 999 as that program, or 1 to 1000 as the paper.",
)
@click.option("--key", metavar="NAME", help="Which state dict, where the file holds several (such as model, ema).")
def import_torch(checkpoint: Path, out: Path, no_zero_negation: bool, **options: Any) -> None:
    """Make a run from a checkpoint of the paper's PyTorch DiT, .pt or .safetensors.

    Weights only: nothing but tensors is loaded. A .pt needs pip install 'scrdit_jax[torch]', a .safetensors pip install
    'scrdit_jax[safetensors]' and no PyTorch.
    """
    from .. import api

    options = given(**options) | ({"zero_value": None} if no_zero_negation else {})
    run = api.import_torch(checkpoint, out=out, **options)
    say(api.describe(run.path))
    click.echo(f"next: scrdit sample {run.path} --cells 1000 --out cells.h5ad")


def _settings(*, no_zero_negation: bool, derive: tuple[tuple[str, int], ...], **changes: Any) -> dict[str, Any]:
    wanted = given(**changes, derive=counts(derive))
    return wanted | ({"zero_value": None} if no_zero_negation else {})
