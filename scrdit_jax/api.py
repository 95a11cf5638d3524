"""The public functions, which the command line calls too."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
from anndata import AnnData

from .caches import keep_programs
from .checkpoint import Checkpoints, Run, load_model
from .config import DataConfig, RunConfig, SamplingConfig, load_preset
from .data.preparing import Facts, Prepared, is_prepared, prepared_from, write_prepared
from .data.sources import Data, load_cells, load_prepared
from .data.writing import check_suffix, write_cells
from .devices import use_every_core
from .errors import BadConfig
from .evaluation.sides import held_out_side
from .generation import run as generation
from .generation import store
from .generation.fitting import fit_timesteps
from .training import loop

if TYPE_CHECKING:
    from .evaluation.report import Report

DEFAULT_PRESET = "base"


def settings(preset: str | RunConfig = DEFAULT_PRESET, **changes: Any) -> RunConfig:
    """A preset with single settings changed by name, e.g. settings("demo", steps=500, cell_types=["B cells"])."""
    config = preset if isinstance(preset, RunConfig) else load_preset(preset)
    return config.with_settings(changes)


def _start_jax() -> None:
    """Before JAX first looks for devices."""
    use_every_core()
    keep_programs()


def prepare(
    data: Data, *, preset: str | RunConfig = DEFAULT_PRESET, transpose: bool = False, **changes: Any
) -> Prepared:
    """Read, check, normalise, split and select genes, as `train` does by itself; `.facts.notes` say what was done."""
    config = settings(preset, **changes)
    # A seed may be meant for the training alone; the split that prepared cells came with is kept either way.
    asked = [field.name for field in fields(DataConfig) if field.name in changes and field.name != "seed"]
    return load_prepared(
        data, config.data, asked=asked, genes_per_token=config.network.genes_per_token, transpose=transpose
    )


def train(
    data: Data | Prepared,
    *,
    out: Path | str,
    preset: str | RunConfig = DEFAULT_PRESET,
    transpose: bool = False,
    **changes: Any,
) -> Run:
    """Train a diffusion transformer on `data` into the folder `out`; called again, it continues.

    `data` is an AnnData (raw counts, or on a log scale), a path, "pbmc3k" for the embedded cells, or Prepared cells;
    `changes` are single settings such as steps=500, seed=1, cell_type_key="cell_type", cell_types=["B cells"].
    """
    _start_jax()
    if not isinstance(data, Prepared):
        data = prepare(data, preset=preset, transpose=transpose, **changes)
    config = replace(settings(preset, **changes), data=data.facts.settings)
    return loop.train(data, config, out)


def sample(run: Run | Path | str, cells: int, *, out: Path | str | None = None, **options: Any) -> AnnData | Path:
    """`cells` synthetic cells from a trained run; with `out`, written to that .h5ad or .zarr, whose path is returned.

    `options` are SamplingConfig's: solver, steps or acceleration, schedule, eta, seed, batch_size, dtype.
    """
    _start_jax()
    config = SamplingConfig(**{name: value for name, value in options.items() if value is not None})
    if out is None:
        return generation.sample(load_model(run), cells, config)
    out = Path(out)
    check_suffix(out, "synthetic cells")
    model = load_model(run)
    if not store.is_finished(out, generation.provenance(model, cells, config)):
        write_cells(generation.sample(model, cells, config), out)
    return out


def fit_schedule(run: Run | Path | str, steps: int, *, out: Path | str | None = None, seed: int = 0) -> list[int]:
    """`steps` timesteps fitted to a trained model; with `out`, written there for `sample(..., schedule=out)`."""
    _start_jax()
    if out is not None:
        store.check_timesteps_output(Path(out))
    taus = fit_timesteps(load_model(run), steps, seed=seed).tolist()
    if out is not None:
        store.write_timesteps(taus, Path(out))
    return taus


def benchmark(
    run: Run | Path | str | None = None,
    *,
    out: Path | str,
    preset: str | RunConfig | None = None,
    cases: Sequence[str] = (),
    **options: Any,
) -> str:
    """Time every sampler on the devices at hand and score its cells, into the folder `out`; returns the table.

    `run` is a trained run, or a `preset` is given whose network is timed with random weights. `cases` are names or
    shell patterns ("ddpm-1000", "unipc-*"); `options` are dtype, batch_size, seeds and repeats. What is there already
    is not measured again.
    """
    from .benchmarking.harness import Settings
    from .benchmarking.run import run_benchmark

    use_every_core()
    if (run is None) == (preset is None):
        raise BadConfig("give a run to benchmark, or a preset (--preset) for its network with random weights")
    source = settings(preset) if preset is not None else Path(run.path if isinstance(run, Run) else run)
    chosen = Settings(**{name: value for name, value in options.items() if value is not None})
    return run_benchmark(source, Path(out), chosen, patterns=cases)


def evaluate(
    real: Run | Data, synthetic: AnnData | Path | str, *, out: Path | str | None = None, seed: int = 0, repeats: int = 5
) -> Report:
    """Score synthetic cells against real cells never trained on, beside real-vs-real and genes-shuffled.

    `real` is the run (its held-out cells are used), or cells in any form `train` takes: those the model was trained on
    are then left out. With `out`, report.html, report.json and the pictures are written to that folder.
    """
    from .evaluation.report import evaluate as report

    real, synthetic = held_out_side(real.path if isinstance(real, Run) else real, synthetic)
    return report(real, synthetic, out=None if out is None else Path(out), seed=seed, repeats=repeats)


def describe(path: Path | str) -> list[str]:
    """Lines about a run folder, prepared cells or synthetic cells, in plain words."""
    path = Path(path)
    if (path / "config.json").is_file():
        return _describe_run(Run(path))
    record = store.read_provenance(path) if path.exists() else None
    if record is not None:
        facts = Facts.from_dict(json.loads(record["facts"]))
        return [
            f"{record['cells']} synthetic cells x {len(facts.genes)} genes",
            f"solver {record['solver']}, {record['network_evaluations']} network evaluations a cell, "
            f"seed {record['seed']}",
            f"from a model trained {record['trained_steps']} steps on {facts.source} ({facts.n_train} cells)",
        ]
    cells, source = load_cells(path)
    if is_prepared(cells):
        prepared = prepared_from(cells)
        return [f"prepared cells: {cells.n_obs} x {cells.n_vars} genes", *prepared.facts.notes]
    return [f"{source}: {cells.n_obs} cells x {cells.n_vars} genes, not made by scrdit"]


def _describe_run(run: Run) -> list[str]:
    config = run.config()
    with Checkpoints(run) as checkpoints:
        if checkpoints.latest() is None:
            return [f"run {run.path}: no checkpoint yet; {config.training.steps} steps wanted"]
        model = checkpoints.load()
    facts, network = model.facts, config.network
    size = sum(leaf.size for leaf in jax.tree.leaves(model.params))
    types = ", ".join(f"{name} {count}" for name, count in facts.cell_types.items())
    return [
        f"run {run.path}: step {model.step} of {config.training.steps}",
        f"trained on {facts.source}: {facts.n_train} cells, {facts.n_held_out} held out, {len(facts.genes)} genes",
        f"DiT: {size / 1e6:.2f} M parameters, width {network.width}, depth {network.depth}, "
        f"{network.genes_per_token} genes a token; predicts {config.diffusion.prediction}",
        *([f"cell types: {types}"] if types else []),
        *facts.notes,
    ]


__all__ = [
    "benchmark",
    "describe",
    "evaluate",
    "fit_schedule",
    "load_preset",
    "prepare",
    "sample",
    "settings",
    "train",
    "write_prepared",
]
