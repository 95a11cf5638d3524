"""What differential privacy costs: realism and membership of cells of one recipe, trained with several epsilons.

    python -m benchmarks.private_training --out DIR
    python -m benchmarks.private_training --epsilon 2 --epsilon 10 --on test --out DIR
    python -m benchmarks.private_training --from PUBLIC_RUN --out DIR      the same, begun with a model of public cells
    python -m benchmarks.private_training --cost --preset demo --out DIR      how long a step takes, with and without

Beside the epsilons stands the same recipe clipped but without noise, and without either. Scores are of as many cells as
are held out on that side; attacks are on training cells, with all held-out cells as the others. DIR gets results.json,
table.md and curve.png; every row is kept in rows.json as soon as it is measured, and the same command goes on where it
was stopped.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import jax
import numpy as np

import scrdit_jax as scrdit
from benchmarks.commands import as_json, command_line, one_line_errors, slug, write_files
from benchmarks.fidelity.generators import training_seconds
from scrdit_jax.benchmarking.store import ResultStore, Row
from scrdit_jax.checkpoint import Run, load_model
from scrdit_jax.config import NO_NOISE, RunConfig, load_preset
from scrdit_jax.data.preparing import Prepared
from scrdit_jax.data.splitting import validation_mask
from scrdit_jax.devices import describe_devices, use_every_core
from scrdit_jax.evaluation import plots
from scrdit_jax.evaluation.comparison import Estimate, compare, estimate_text
from scrdit_jax.evaluation.membership import score_membership
from scrdit_jax.evaluation.metrics import dense
from scrdit_jax.evaluation.tables import markdown_table
from scrdit_jax.extras import optional
from scrdit_jax.io.reading import EMBEDDED
from scrdit_jax.training import loop
from scrdit_jax.training.fine_tuning import Base
from scrdit_jax.training.private.session import begin

SCORES = {"random_forest_auc": "AUC", "mmd_pca": "PCA-50 MMD", "gene_mean_correlation": "r of gene means"}
ORDINARY, CLIPPED, PUBLIC = "without differential privacy", "clipped, no noise", "the public run, no private cells"
# What a run that is begun with another model has of the preset, its rate lower by so much.
KEPT, LOWER_RATE = ("steps", "batch_size", "learning_rate", "warmup_steps", "ema_decay"), 3
STEPS_TIMED = 10


def recipes(preset: str, epsilons: Sequence[float]) -> dict[str, RunConfig]:
    """What is compared, by name."""
    private = load_preset(preset)
    plain = private.to_dict()
    plain.pop("privacy", None)
    named = {f"epsilon {epsilon:g}": private.with_settings({"dp_epsilon": epsilon}) for epsilon in sorted(epsilons)}
    return named | {
        CLIPPED: private.with_settings({"dp_epsilon": NO_NOISE}),
        ORDINARY: RunConfig.from_dict(plain),
    }


def score(run: Run, prepared: Prepared, side: str) -> dict[str, Any]:
    """Realism on one half of the held-out cells, and how well training cells are distinguished from held-out ones."""
    held_out = prepared.held_out
    chosen = validation_mask(held_out.obs, prepared.metadata.settings)
    reference = dense(held_out[chosen if side == "validation" else ~chosen].X)
    made = scrdit.sample(run, 2 * len(reference), seed=0)
    made = dense(made.X[:, made.var_names.get_indexer(held_out.var_names)])
    with optional("threadpoolctl").threadpool_limits(1):
        halves = np.split(made, 2)
        found = [compare(reference, half, seed=seed) for seed, half in enumerate(halves)]
        attacks = score_membership(made, dense(prepared.train.X), dense(held_out.X), seed=0)
    return {
        "scores": {name: float(np.mean([one[name] for one in found])) for name in found[0]},
        "membership": {attack: estimate.to_dict() for attack, estimate in attacks.auc.items()},
    }


def trained(config: RunConfig, data: str, out: Path, public: Path | None) -> tuple[Run, Prepared]:
    """(the run in `out`, trained unless it is there already, its cells); `public` is what it is begun with."""
    if public is None:
        return scrdit.train(data, out=out, preset=config), scrdit.prepare(data, preset=config)
    changes = {name: getattr(config.training, name) for name in KEPT} | {"held_out": config.data.held_out}
    changes["learning_rate"] /= LOWER_RATE
    changes |= asdict(config.privacy) if config.privacy.on else {}
    base = Base.load(public, out)
    prepared = base.prepare(data, base.settings(changes), transpose=False, stored=False)
    return scrdit.train(data, out=out, from_run=public, **changes), prepared


def measure(name: str, config: RunConfig, source: tuple[str, Path | None], side: str, folder: Path) -> dict[str, Any]:
    """One row, of a run in `folder`."""
    data, public = source
    run, prepared = trained(config, data, folder / slug(ORDINARY if name == PUBLIC else name), public)
    run = Run(public) if name == PUBLIC else run
    record = load_model(run).privacy
    privacy = {} if record is None else record.to_dict()
    size = sum(leaf.size for leaf in jax.tree.leaves(load_model(run).params))
    about = {"params": size, "seconds": training_seconds(run), "privacy": privacy}
    row = {"recipe": name, "on": side, **about, **score(run, prepared, side)}
    click.echo(f"{name}: AUC {row['scores']['random_forest_auc']:.3f}", err=True)
    return row


def table(rows: Sequence[Row]) -> str:
    """All of it, as Markdown."""
    header = ["trained", "noise multiplier", *SCORES.values(), "membership AUC", "knowing other cells"]

    def line(row: Row) -> list[str]:
        noise = row["privacy"].get("noise_multiplier")
        scores = [f"{row['scores'][name]:.{4 if name == 'mmd_pca' else 3}f}" for name in SCORES]
        attacks = [estimate_text(Estimate(**estimate)) for estimate in row["membership"].values()]
        return [row["recipe"], "" if noise is None else f"{noise:.2f}", *scores, *attacks]

    return markdown_table(header, [line(row) for row in rows])


def picture(rows: Sequence[Row]) -> bytes:
    """Scores against epsilon, those without noise as lines."""
    figure, axes = plots.blank_figure(1, 3, width=10.5, height=3.4)
    with_epsilon = [row for row in rows if row["recipe"].startswith("epsilon")]
    lines = {CLIPPED: "--", ORDINARY: ":"}
    shown = {
        "AUC (0.5: indistinguishable from real)": lambda row: row["scores"]["random_forest_auc"],
        "PCA-50 MMD": lambda row: row["scores"]["mmd_pca"],
        "membership AUC (0.5: chance)": lambda row: row["membership"]["calibrated"]["mean"],
    }
    for axis, (title, value) in zip(axes, shown.items(), strict=True):
        epsilons = [row["privacy"]["epsilon"] for row in with_epsilon]
        axis.plot(epsilons, [value(row) for row in with_epsilon], marker="o", color=plots.SYNTHETIC, label="with noise")
        for row in rows:
            if row["recipe"] in lines:
                axis.axhline(value(row), color=plots.GREY, linestyle=lines[row["recipe"]], label=row["recipe"])
        axis.set(title=title, xlabel="epsilon", xscale="log")
        axis.set_xticks(epsilons, [f"{epsilon:.0f}" for epsilon in epsilons])
        axis.minorticks_off()
    # By chance alone it moves by a hundredth or two.
    axes[-1].set_ylim(0.45, max(0.6, axes[-1].get_ylim()[1]))
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return plots.to_png(figure)


def seconds_a_step(config: RunConfig, data: str) -> float:
    """The median of a few steps after one to compile."""
    prepared = scrdit.prepare(data, preset=config)
    config = replace(config, data=prepared.metadata.settings)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder))
        begun = begin(run, config) if config.privacy.on else None
        session = loop._Session(run, prepared, config, loop.TrainingOptions(), None, base=None, begun=begun)
        state, seconds = session.step.place(session._initial_state()), []
        for number in range(STEPS_TIMED + 1):
            batch = jax.block_until_ready(session._batch(number))
            started = time.perf_counter()
            state, _ = jax.block_until_ready(session.step.run(state, batch))
            seconds.append(time.perf_counter() - started)
    return float(np.median(seconds[1:]))


def costs(preset: str, data: str, microbatches: Sequence[int]) -> Mapping[str, Any]:
    """Seconds a step without, and with for each number of gradients at once, in one run; and their memory."""
    config = load_preset(preset)
    plain = config.to_dict()
    plain.pop("privacy", None)
    without, found = seconds_a_step(RunConfig.from_dict(plain), data), []
    for microbatch in microbatches:
        private = config.with_settings({"dp_epsilon": NO_NOISE, "dp_microbatch": microbatch})
        seconds = seconds_a_step(private, data)
        found.append({"microbatch": microbatch, "seconds": seconds, "ratio": seconds / without})
        click.echo(
            f"{microbatch} gradients at once: {seconds:.3f} s a step, {seconds / without:.1f} times as long", err=True
        )
    return {"preset": preset, "batch_size": config.training.batch_size, "seconds_without": without, "with": found}


@click.command()
@click.option("--data", default=EMBEDDED, show_default=True, help="Cells to train on.")
@click.option("--preset", default="private", show_default=True)
@click.option("--epsilon", "epsilons", type=float, multiple=True, default=(2, 10, 50), show_default=True)
@click.option("--from", "public", type=click.Path(path_type=Path), help="A run to begin with.")
@click.option("--on", "side", type=click.Choice(["validation", "test"]), default="validation", show_default=True)
@click.option("--cost", is_flag=True, help="Time steps instead.")
@click.option("--microbatch", "microbatches", type=int, multiple=True, default=(1, 4, 16), show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder.")
def main(
    data: str,
    preset: str,
    epsilons: tuple[float, ...],
    public: Path | None,
    side: str,
    cost: bool,
    microbatches: tuple[int, ...],
    out: Path,
) -> None:
    """Measure, and write what was found."""
    use_every_core()
    about = {"command": command_line("benchmarks.private_training"), "data": data, "device": describe_devices()}
    with one_line_errors():
        if cost:
            write_files(out, {"cost.json": as_json(about | {"cost": costs(preset, data, microbatches)})})
            return
        store, rows = ResultStore(out / "rows.json", {"data": data, "preset": preset}), []
        wanted = recipes(preset, epsilons)
        if public is not None:
            wanted = {PUBLIC: wanted[ORDINARY], **wanted}
        for name, config in wanted.items():
            row = store.measured(
                f"{slug(name)}.{side}",
                lambda name=name, config=config: measure(name, config, (data, public), side, out / "runs"),
                made_by=config.to_dict(),
            )
            rows.append(row)
        text = f"{data}, {side} cells\n\n{table(rows)}\n"
        files = {"results.json": as_json(about | {"rows": rows}), "table.md": text, "curve.png": picture(rows)}
        write_files(out, files)
        click.echo(text)


if __name__ == "__main__":
    main()
