"""The command line: it translates options and prints; what is done lies in `api`, imported only when it is used."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from . import __version__
from .config import DTYPES, GENE_SELECTIONS, NORMALIZATIONS, OUTPUTS, PRESET_FOLDER, preset_names
from .errors import BadConfig, ScrditError
from .registry import NETWORKS, OBJECTIVES, PREDICTIONS

PRESET_HELP = (
    f"Settings as data: {', '.join(preset_names())}, each a file under {PRESET_FOLDER}, or a .json file of your own."
)
SOLVER_HELP = (
    "distributional, ddpm, ddim, dpmpp-2m, dpmpp-2m-sde, dpmpp-3m or unipc.  [default: distributional, which draws "
    "each gene from its predicted distribution; dpmpp-2m where the model predicts none]"
)
DATA_HELP = "DATA: .h5ad, .zarr, 10x .h5, 10x .mtx folder, .csv/.tsv(.gz), .npy, or 'pbmc3k' (embedded)."


class Commands(click.Group):
    """Shows what a user got wrong as one line and exits with status 2."""

    def invoke(self, context: click.Context) -> Any:
        """Run the command; anything that is not a user's error keeps its traceback, for a bug report."""
        try:
            return super().invoke(context)
        except ScrditError as error:
            click.echo(f"scrdit: {' '.join(str(error).split())}", err=True)
            sys.exit(2)
        except KeyboardInterrupt:
            click.echo("scrdit: interrupted; run the same command again to continue", err=True)
            sys.exit(130)


def examples(*lines: str) -> str:
    """The examples at the end of a command's help, kept as they are written."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def given(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None and value != ()}


def options(*decorators: Callable) -> Callable:
    """Several options as one decorator, in the order they are to be shown."""

    def decorate(function: Callable) -> Callable:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


data_options = options(
    click.option("--cell-type-key", metavar="COLUMN", help="The column of obs with cell types.  [default: cell_type]"),
    click.option("--cell-type", "cell_types", multiple=True, metavar="NAME", help="Use these cells only; repeatable."),
    click.option("--condition-on", multiple=True, metavar="COLUMN", help="Tell the model this label; repeatable."),
    click.option("--groups", type=int, help="Kinds of cells to find, and to tell the model.  0: none."),
    click.option("--genes", type=int, help="How many genes to model.  [default: the preset's]"),
    click.option("--gene-selection", type=click.Choice(GENE_SELECTIONS), help="hvg: highly variable; cv: eq. 1."),
    click.option("--min-cells", type=int, help="Leave out genes expressed in fewer training cells."),
    click.option("--no-zero-negation", is_flag=True, help="Leave zeros as they are (the ablation of scRDiT table 2)."),
    click.option("--normalize", type=click.Choice(NORMALIZATIONS), help="auto recognises raw counts."),
    click.option("--target-sum", type=float, help="Counts a cell is scaled to before log1p."),
    click.option("--held-out", type=float, help="Share of cells kept for evaluation, never trained on."),
    click.option("--transpose", is_flag=True, help="Rows of the text file or .npy are genes, columns are cells."),
    click.option("--seed", type=int, help="Decides the split, the initial weights and every random number."),
)
network_option = click.option("--network", "architecture", type=click.Choice(list(NETWORKS)), help="What predicts.")
distributed_options = options(
    click.option("--distributed", is_flag=True, help="One of many processes that share the work."),
    click.option("--processes", type=int, metavar="N", help="How many.  [default: as JAX finds out]"),
    click.option("--process-id", type=int, metavar="I", help="Which one this is, 0 to N-1."),
)
stream_option = click.option(
    "--stream", is_flag=True, default=None, help="Leave the cells on the disk.  [default: if memory is short]"
)
preset_option = click.option("--preset", default="base", show_default=True, help=PRESET_HELP)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="scrdit")
def main() -> None:
    """Train a diffusion transformer on single-cell RNA-seq and generate synthetic cells from it.

    \b
    scrdit demo                                            everything once, on PBMC 3k, in minutes
    scrdit train cells.h5ad --out run                      then: sample, evaluate
    """


@main.command(
    epilog=examples(
        "scrdit prepare counts.h5ad --out prepared.h5ad", "scrdit prepare matrix/ --genes 3000 --out prepared.zarr"
    )
)
@click.argument("data")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Prepared cells, .h5ad or .zarr.")
@preset_option
@network_option
@data_options
@stream_option
def prepare(data: str, out: Path, preset: str, transpose: bool, stream: bool | None, **changes: Any) -> None:
    """Read, check, normalise, split and select genes; say what was found and done.

    DATA: see 'scrdit train --help'. 'train' does this by itself; prepare only to look first or to train often.
    """
    from . import api

    prepared = api.prepare(data, preset=preset, transpose=transpose, stream=stream, **_settings(**changes))
    path = api.write_prepared(prepared, out)
    _say(prepared.metadata.notes)
    click.echo(f"{prepared.cells.n_obs} cells x {prepared.cells.n_vars} genes written to {path}")


@main.command(
    epilog=examples(
        "scrdit train counts.h5ad --out run",
        "scrdit train lung.h5ad --cell-type Fibroblast --preset paper --out fibroblasts",
        "scrdit train lung.h5ad --condition-on cell_type --condition-on patient --out run",
        "scrdit train lung.h5ad --per-cell-type --preset paper --out family",
        "scrdit train pbmc3k --preset demo --steps 500 --out quick",
    )
    + "\n\n"
    + DATA_HELP
)
@click.argument("data")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The run's folder, new or to continue.")
@preset_option
@network_option
@data_options
@click.option("--per-cell-type", is_flag=True, help="A model for each cell type (the paper's way), in one folder.")
@click.option("--steps", type=int, help="Training steps.")
@click.option("--batch-size", type=int, help="Cells a step, over all devices.")
@click.option("--learning-rate", type=float, help="Peak learning rate of AdamW.")
@click.option("--prediction", type=click.Choice(list(PREDICTIONS)), help="What the network predicts.")
@click.option("--loss", type=click.Choice(list(OBJECTIVES)), help="likelihood: of the predicted distribution.")
@click.option("--dtype", type=click.Choice(DTYPES), help="What the network computes in; weights stay float32.")
@click.option("--accumulate", type=int, metavar="N", help="Take a batch in N parts, for less memory.")
@click.option("--checkpoint-every", type=int, help="Steps between checkpoints.")
@click.option("--keep", type=int, help="How many of the newest checkpoints stay, beside the best.  [default: 3]")
@click.option(
    "--evaluate-every", type=float, metavar="EPOCHS", help="Look at the held-out cells; see evaluations.jsonl."
)
@click.option("--patience", type=int, metavar="N", help="End after N evaluations that were no better.")
@stream_option
@click.option("--max-minutes", type=float, help="Save and end after so long; the same command continues.")
@click.option("--tensorboard", is_flag=True, help="Write RUN/tensorboard, too.")
@distributed_options
@click.option("--coordinator", metavar="HOST:PORT", help="Where they meet, if JAX does not find out.")
def train(data: str, out: Path, preset: str, transpose: bool, **changes: Any) -> None:
    """Train on DATA into the folder --out. The same command again continues where it stopped; SIGTERM saves first."""
    from . import api

    run = api.train(data, out=out, preset=preset, transpose=transpose, tell=_say, **_settings(**changes))
    if run.stopped is not None:
        click.echo(f"stopped: {run.stopped}")
        return
    click.echo(f"trained {run.config().training.steps} steps" if run.config_path.is_file() else "trained the family")
    click.echo(f"next: scrdit sample {run.path} --cells 1000 --out cells.h5ad")


@main.command(
    epilog=examples(
        "scrdit sample run --cells 10000 --out cells.h5ad",
        "scrdit sample run --cells 2000 --solver ddpm --steps 1000 --out cells.zarr",
        "scrdit sample run --cells 2000 --solver ddim --acceleration 10 --eta 1 --schedule quadratic --out cells.h5ad",
        "scrdit sample run --cells 500 --cell-type 'B cells' --guidance 2 --out b.h5ad",
        "scrdit sample run --per-type counts.csv --output counts --out cells.h5ad",
        "scrdit sample run --cells 5000000 --out atlas",
        "srun scrdit sample run --cells 5000000 --out atlas --distributed",
    )
)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--cells", type=int, help="How many; --per-type and --match say it themselves.")
@click.option("--cell-type", "cell_types", multiple=True, metavar="NAME", help="Of this type; repeat for equal shares.")
@click.option("--per-type", type=click.Path(path_type=Path), metavar="FILE.csv", help="How many of each: type, cells.")
@click.option("--match", metavar="REAL", help="The mixture of these real cells; as many, unless --cells says.")
@click.option("--guidance", type=float, metavar="W", help="Above 1: more like its type, at twice the cost.")
@click.option("--output", type=click.Choice(OUTPUTS), help="counts: whole numbers too, as a layer.  [default: log]")
@click.option("--depth", type=float, metavar="D", help="Every cell's library size, instead of training cells'.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="cells.h5ad, cells.zarr, or a folder.")
@click.option("--solver", metavar="NAME", help=SOLVER_HELP)
@click.option(
    "--steps", type=int, help="Network evaluations a cell.  [default: distributional 4, ddpm every timestep, else 25]"
)
@click.option("--acceleration", type=float, metavar="R", help="Instead of --steps: every R-th timestep.")
@click.option(
    "--schedule",
    metavar="uniform|quadratic|logsnr|karras|paper|interior|fitted|FILE",
    help="Which timesteps; paper: 990, 980, ..., 10, 1 for 100 of 1000; fitted: those that the run carries; a FILE "
    "lists them, descending.  [default: distributional fitted or interior, ddpm and ddim uniform, else logsnr]",
)
@click.option("--eta", type=float, help="ddim only: 0 deterministic to 1 as random as DDPM.  [default: 0]")
@click.option("--variance", metavar="beta|posterior", help="ddpm only: which sigma squared.  [default: beta]")
@click.option("--seed", type=int, help="Cell i depends on model, seed and i alone.  [default: 0]")
@click.option("--batch-size", type=int, help="Cells at once.  [default: the fastest here]")
@click.option(
    "--dtype", type=click.Choice(DTYPES), help="What the network computes in.  [default: bfloat16 on GPU and TPU]"
)
@click.option("--shard-cells", type=click.IntRange(1), help="About how many to a file in a folder.  [default: 65536]")
@distributed_options
@click.option("--ray", metavar="ADDRESS", help="Shards as tasks of a Ray cluster: host:port, auto, or local.")
@click.option("--coordinator", metavar="HOST:PORT", help="Where they meet before they start; not needed.")
def sample(run: Path, cells: int | None, out: Path, **options: Any) -> None:
    """Generate synthetic cells from RUN, a folder made by 'scrdit train'.

    A folder --out gets the cells in shards of about 65,536. The same command again continues, on other hardware too;
    several at once share the work.
    """
    from . import api

    click.echo(str(api.generate(run, cells, out=out, **given(**options))))


@main.command(
    "import-torch",
    epilog=examples(
        "scrdit import-torch model.pt --out run",
        "scrdit import-torch ckpt.pt --genes genes.txt --heads 8 --out run",
        "scrdit sample run --cells 2000 --solver ddim --eta 1 --acceleration 10 --schedule paper --out cells.h5ad",
    ),
)
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The run's folder, new.")
@click.option("--genes", type=click.Path(path_type=Path), help="Gene names in order: one a line, or a file of cells.")
@click.option("--heads", type=int, default=8, show_default=True, help="Attention heads; weights do not tell.")
@click.option("--no-zero-negation", is_flag=True, help="It was trained with zeros left as they are.")
@click.option(
    "--first-timestep",
    type=click.IntRange(0, 1),
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
    from . import api

    options = given(**options) | ({"zero_value": None} if no_zero_negation else {})
    run = api.import_torch(checkpoint, out=out, **options)
    _say(tuple(api.describe(run.path)))
    click.echo(f"next: scrdit sample {run.path} --cells 1000 --out cells.h5ad")


@main.command(epilog=examples("scrdit verify atlas", "scrdit verify atlas --repair run"))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--repair", type=click.Path(path_type=Path), metavar="RUN", help="Make anew what is missing or damaged.")
def verify(out: Path, repair: Path | None) -> None:
    """Check a folder of shards, byte by byte; exit status 2 if something is missing or damaged and not repaired."""
    from . import api

    found = api.verify(out, repair=repair)
    _say((*found.problems, *found.notes))
    if found.problems and not found.repaired:
        raise ScrditError(
            f"{len(found.problems)} of {found.shards} shards of {out} are missing or damaged; "
            f"'scrdit verify {out} --repair RUN' makes them again"
        )
    repaired = f"{len(found.problems)} made again; " if found.repaired else ""
    click.echo(f"{repaired}{found.cells} cells in {found.shards} shards are sound; digest {found.digest}")


@main.command(epilog=examples("scrdit assemble atlas --out cells.h5ad", "scrdit assemble atlas --out cells.zarr"))
@click.argument("shards", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="cells.h5ad or cells.zarr.")
def assemble(shards: Path, out: Path) -> None:
    """One file from a folder of shards, without holding the cells in memory."""
    from . import api

    click.echo(f"written to {api.assemble(shards, out=out)}")


@main.command(
    epilog=examples(
        "scrdit schedule run --steps 6 --out timesteps.json",
        "scrdit sample run --cells 10000 --schedule timesteps.json --out cells.h5ad",
        "scrdit schedule run --solver unipc --steps 8 --out timesteps.json",
    )
)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--steps", type=int, required=True, help="Network evaluations a cell: 1 to 8, for unipc 2 to 64.")
@click.option("--solver", metavar="NAME", help="distributional or unipc.  [default: as 'scrdit sample' would]")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A file for sample --schedule.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the cells the fit is made with.")
def schedule(run: Path, steps: int, solver: str | None, out: Path, seed: int) -> None:
    """Fit the timesteps to RUN's own model, so that few steps miss least; seconds to a minute.

    'scrdit train' has done so for 1 to 8 steps of distributional, and 'scrdit sample' uses them.
    """
    from . import api

    click.echo(
        f"{' '.join(map(str, api.fit_schedule(run, steps, solver=solver, out=out, seed=seed)))}\nwritten to {out}"
    )


@main.command(
    epilog=examples(
        "scrdit evaluate run cells.h5ad --out report", "scrdit evaluate counts.h5ad cells.h5ad --out report"
    )
)
@click.argument("real", type=click.Path(path_type=Path))
@click.argument("synthetic", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for report.html and report.json.")
@click.option("--repeats", type=click.IntRange(1), default=5, show_default=True, help="Random halves to average over.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the halves, the forest and the t-SNE.")
def evaluate(real: Path, synthetic: Path, out: Path, repeats: int, seed: int) -> None:
    """Score SYNTHETIC cells against REAL ones: a run (its held-out cells), or a file of cells.

    Cells the model was trained on are left out of REAL. Every score stands beside real-vs-real and genes-shuffled.
    """
    from . import api

    report = api.evaluate(real, synthetic, out=out, repeats=repeats, seed=seed)
    click.echo(str(report))
    click.echo(f"\nreport: {out / 'report.html'}")


@main.command(
    epilog=examples(
        "scrdit benchmark run --out speed",
        "scrdit benchmark run --case ddpm-1000 --case 'unipc-*' --out speed",
        "scrdit benchmark --preset paper --dtype bfloat16 --case 'dpmpp-2m-*' --out paper",
    )
)
@click.argument("run", type=click.Path(path_type=Path), required=False)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for results.json, table, pictures.")
@click.option("--preset", help="Instead of RUN: time this preset's network with random weights; nothing is scored.")
@click.option("--case", "cases", multiple=True, metavar="NAME", help="Such as ddpm-1000 or 'unipc-*'; repeatable.")
@click.option(
    "--dtype", type=click.Choice(DTYPES), help="What the network computes in.  [default: bfloat16 on GPU and TPU]"
)
@click.option("--batch-size", type=int, help="Cells at once.  [default: the fastest here]")
@click.option("--seeds", type=click.IntRange(1), help="Samples to score of each case.  [default: 3]")
@click.option("--repeats", type=click.IntRange(1), help="Least number of timed batches a case.  [default: 5]")
def benchmark(run: Path | None, out: Path, cases: tuple[str, ...], **options: Any) -> None:
    """Time each sampler of RUN against DDPM on this device, and score its cells against held-out ones.

    Hours on a CPU for a large network: every finished row is kept, and the same command again goes on.
    """
    from . import api

    click.echo(api.benchmark(run, out=out, cases=cases, **given(**options)))


@main.command(epilog=examples("scrdit demo", "scrdit demo --pretrained", "scrdit demo --out somewhere --cells 5000"))
@click.option("--out", type=click.Path(path_type=Path), default=Path("scrdit_demo"), show_default=True, help="Folder.")
@click.option("--cells", type=int, help="How many to generate.  [default: 2000, with --pretrained 1000]")
@click.option("--steps", type=int, help="Training steps.  [default: the demo preset's]")
@click.option("--pretrained", is_flag=True, help="Do not train: take the model that ships with the package.")
@click.option("--seed", type=int, help="Decides everything random.")
def demo(out: Path, cells: int | None, steps: int | None, pretrained: bool, seed: int | None) -> None:
    """Everything once on the embedded PBMC 3k: train, sample, evaluate; minutes on two CPU cores."""
    from . import api

    if pretrained and steps is not None:
        raise BadConfig("--pretrained trains nothing, so --steps has no meaning; give one of them")
    if pretrained:
        run = api.pretrained("pbmc3k", out=out / "run")
    else:
        config = api.settings("demo", **given(steps=steps, seed=seed))
        prepared = api.prepare("pbmc3k", preset=config)
        _say(prepared.metadata.notes)
        run = api.train(prepared, out=out / "run", preset=config)
    wanted = cells if cells is not None else 1000 if pretrained else 2000
    synthetic = api.sample(run, wanted, out=out / "cells.h5ad", **given(seed=seed))
    # Nearly all the time goes into forests: the short form grows fewer.
    click.echo(str(api.evaluate(run, synthetic, out=out / "report", repeats=3 if pretrained else 5)))
    click.echo(f"\ncells:  {synthetic}\nreport: {out / 'report' / 'report.html'}")


@main.command(epilog=examples("scrdit info run", "scrdit info cells.h5ad", "scrdit info atlas"))
@click.argument("path", type=click.Path(path_type=Path))
def info(path: Path) -> None:
    """Say what is inside a run, a file of synthetic cells or a folder of their shards, in plain words."""
    from . import api

    click.echo("\n".join(api.describe(path)))


def _settings(*, no_zero_negation: bool, **changes: Any) -> dict[str, Any]:
    return given(**changes) | ({"zero_value": None} if no_zero_negation else {})


def _say(notes: tuple[str, ...]) -> None:
    for note in notes:
        click.echo(f"  {note}")
