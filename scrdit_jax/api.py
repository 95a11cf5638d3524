"""The public functions, which the command line calls too."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
from anndata import AnnData

from .caches import keep_programs
from .checkpoint import Checkpoints, Run, load_model
from .config import DataConfig, RunConfig, SamplingConfig, load_preset
from .data.preparing import Facts, Prepared, is_prepared, prepared_from, write_prepared
from .data.reading import open_cells
from .data.sources import Data, load_cells, load_prepared, too_large
from .data.writing import SUFFIXES, check_suffix
from .devices import bind_processes, join_processes, use_every_core
from .errors import BadConfig
from .evaluation.sides import held_out_side
from .extras import optional
from .generation import outputs, store
from .generation import run as generation
from .generation.assembling import assemble as assemble_shards
from .generation.fitting import fit_timesteps
from .generation.judging import Judge
from .generation.outputs import is_finished
from .generation.plan import SHARD_CELLS
from .generation.run import Summary
from .generation.verifying import find_damage
from .training import loop

if TYPE_CHECKING:
    from .evaluation.report import Report

DEFAULT_PRESET = "base"
REFERENCE_HEADS = 8  # the paper's network; nothing in its weights tells
_NETWORKS = {
    "dit": "DiT of width {0.width}, depth {0.depth}, {0.genes_per_token} genes a token",
    "unet": "UNet of {0.channels} to 8 x {0.channels} channels",
}


def settings(preset: str | RunConfig = DEFAULT_PRESET, **changes: Any) -> RunConfig:
    """A preset with single settings changed by name, e.g. settings("demo", steps=500, cell_types=["B cells"])."""
    config = preset if isinstance(preset, RunConfig) else load_preset(preset)
    return config.with_settings(changes)


def _start_jax() -> None:
    """Before JAX first looks for devices."""
    use_every_core()
    keep_programs()


def prepare(
    data: Data,
    *,
    preset: str | RunConfig = DEFAULT_PRESET,
    transpose: bool = False,
    stream: bool | None = None,
    **changes: Any,
) -> Prepared:
    """Read, check, normalise, split and select genes, as `train` does by itself; `.facts.notes` say what was done.

    With `stream`, or where there is not memory for more, the cells stay on the disk.
    """
    config = settings(preset, **changes)
    # A seed may be meant for the training alone; the split that prepared cells came with is kept either way.
    asked = [field.name for field in fields(DataConfig) if field.name in changes and field.name != "seed"]
    stored = too_large(data) is not None if stream is None else stream
    return load_prepared(
        data,
        config.data,
        asked=asked,
        multiple_of=config.network.gene_multiple,
        transpose=transpose,
        stored=stored,
    )


def train(
    data: Data | Prepared,
    *,
    out: Path | str,
    preset: str | RunConfig = DEFAULT_PRESET,
    transpose: bool = False,
    stream: bool | None = None,
    max_minutes: float | None = None,
    tensorboard: bool = False,
    distributed: bool = False,
    coordinator: str | None = None,
    processes: int | None = None,
    process_id: int | None = None,
    tell: Callable[[Sequence[str]], None] | None = None,
    **changes: Any,
) -> Run:
    """Train a diffusion transformer on `data` into the folder `out`; called again, it continues.

    `data` is an AnnData (raw counts, or on a log scale), a path, "pbmc3k" for the embedded cells, or Prepared cells;
    `changes` are single settings such as steps=500, seed=1, cell_type_key="cell_type", cell_types=["B cells"]. With
    `stream`, or where there is not memory for more, the cells stay on the disk and are read from the run's own copy.

    It ends before the last step, with a checkpoint, on SIGTERM, after `max_minutes`, or when the held-out score has
    stalled: the run's `stopped` then says so. With `distributed`, processes with the same call train one model on the
    devices of all; see `devices.bind_processes`. `tell` is given the sentences about the cells before training begins.
    """
    from .benchmarking.timing import known_matrix_rate

    if not distributed and (coordinator, processes, process_id) != (None, None, None):
        raise BadConfig("--coordinator, --processes and --process-id are for --distributed")
    if max_minutes is not None and not max_minutes > 0:
        raise BadConfig(f"{max_minutes:g} minutes are no time to train in; give --max-minutes above 0")
    if tensorboard:
        optional("tensorboardX", extra="tensorboard")
    config = settings(preset, **changes)
    if distributed:
        bind_processes(coordinator, processes, process_id)
    _start_jax()
    prepared = data
    if not isinstance(data, Prepared):
        prepared = prepare(data, preset=preset, transpose=transpose, stream=stream, **changes)
    to_copy = prepared.on_disk and not isinstance(data, Prepared) and not is_prepared(prepared.cells)
    if tell is not None:
        where = (too_large(data) or "the cells stay on the disk, as asked",) if to_copy else ()
        tell((*prepared.facts.notes, *where))
    config = replace(config, data=prepared.facts.settings)
    options = loop.Options(
        max_minutes=max_minutes,
        tensorboard=tensorboard,
        judge=Judge,
        matrix_rate=known_matrix_rate(config.training.dtype),
    )
    source = partial(_copied, prepared) if to_copy else prepared
    return loop.train(source, config, out, options)


def _copied(prepared: Prepared, run: Run) -> Prepared:
    """Prepared cells that are streamed, from a copy in the run's folder: only the chosen genes, normalised once."""
    if run.cells_path.exists():
        there = prepared_from(open_cells(run.cells_path))
        if there.facts == prepared.facts:
            return there
    write_prepared(prepared, run.cells_path)
    return prepared_from(open_cells(run.cells_path))


def import_torch(
    checkpoint: Path | str,
    *,
    out: Path | str,
    heads: int = REFERENCE_HEADS,
    genes: Path | str | Sequence[str] | None = None,
    zero_value: float | None = -10.0,
    key: str | None = None,
) -> Run:
    """A run in the folder `out` from a checkpoint of the paper's PyTorch implementation, .pt or .safetensors.

    `genes` are their names in the order of training, or a file that has them: one a line, or cells. `key` picks one of
    several state dicts. A .pt needs the extra `torch`, a .safetensors the extra `safetensors` and no PyTorch.
    """
    from .importing.genes import read_gene_names
    from .importing.run import import_reference

    names = None
    if genes is not None:
        names = read_gene_names(Path(genes)) if isinstance(genes, str | Path) else tuple(genes)
    return import_reference(checkpoint, out, heads=heads, genes=names, zero_value=zero_value, key=key)


def sample(run: Run | Path | str, cells: int, *, out: Path | str | None = None, **options: Any) -> AnnData | Path:
    """`cells` synthetic cells from a trained run; with `out`, written as `generate` does, and the path is returned.

    `options` are SamplingConfig's: solver, steps or acceleration, schedule, eta, seed, batch_size, dtype.
    """
    if out is not None:
        return generate(run, cells, out=out, **options).path
    _start_jax()
    return generation.sample(load_model(run), cells, _sampling_config(options))


def generate(
    run: Run | Path | str,
    cells: int,
    *,
    out: Path | str,
    shard_cells: int = SHARD_CELLS,
    distributed: bool = False,
    coordinator: str | None = None,
    processes: int | None = None,
    process_id: int | None = None,
    ray: str | None = None,
    **options: Any,
) -> Summary:
    """`cells` synthetic cells in a file (.h5ad, .zarr) or a folder of shards, in memory that does not grow with them.

    Called again it continues. With `distributed`, or beside other processes with the same request, the shards of a
    folder are shared; see `devices.join_processes` for how processes find their number. With `ray`, the address of a
    Ray cluster or "local", the shards are its tasks. `options` are SamplingConfig's.
    """
    out, config = Path(out), _sampling_config(options)
    if out.suffix and not store.is_store(out):
        check_suffix(out, "synthetic cells")
        if distributed or ray is not None:
            raise BadConfig(f"{out} is one file; several processes write to a folder of shards: give one as --out")
    else:
        store.check_folder(out)
    if not distributed and (coordinator, processes, process_id) != (None, None, None):
        raise BadConfig("--coordinator, --processes and --process-id are for --distributed")
    if ray is not None:
        if distributed:
            raise BadConfig("--ray and --distributed are two ways to share the work; give one of them")
        from .generation.elastic import fill_with_ray

        path = run.path if isinstance(run, Run) else Path(run)
        return fill_with_ray(path, cells, config, out, address=ray, shard_cells=shard_cells)
    place = join_processes(coordinator, processes, process_id) if distributed else (0, 1)
    _start_jax()
    model = load_model(run)
    if out.suffix in SUFFIXES:
        return generation.fill_file(model, cells, config, out)
    return generation.fill(model, cells, config, out, process=place[0], processes=place[1], shard_cells=shard_cells)


def _sampling_config(options: dict[str, Any]) -> SamplingConfig:
    return SamplingConfig(**{name: value for name, value in options.items() if value is not None})


@dataclass(frozen=True)
class Verification:
    """What `verify` found: the `problems` of single shards, and what is so after a repair; no digest while unsound."""

    cells: int
    shards: int
    problems: tuple[str, ...]
    repaired: bool
    notes: tuple[str, ...]
    digest: str | None


def verify(path: Path | str, *, repair: Run | Path | str | None = None) -> Verification:
    """Compute every digest of a folder of shards again; with `repair`, a run, make anew what is missing or damaged."""
    path = Path(path)
    with store.Store(path) as shards:
        damage, plan = find_damage(shards), shards.plan
        digest = None if damage else shards.digest()
    problems = tuple(f"shard {shard.index}: {what}" for shard, what in damage.items())
    if not damage or repair is None:
        return Verification(plan.cells, len(plan), problems, False, (), digest)
    _start_jax()
    changed = generation.repair(load_model(repair), path, list(damage))
    with store.Store(path) as shards:
        digest = shards.digest()
    notes = tuple(
        f"shard {shard.index}: not the cells its record told of; made on another device?" for shard in changed
    )
    return Verification(plan.cells, len(plan), problems, True, notes, digest)


def assemble(path: Path | str, *, out: Path | str) -> Path:
    """The cells of a finished folder of shards as one .h5ad or .zarr, without holding them in memory."""
    path, out = Path(path), Path(out)
    check_suffix(out, "synthetic cells")
    with store.Store(path) as shards:
        if not is_finished(out, shards.manifest.request):
            assemble_shards(shards, out)
    return out


def fit_schedule(run: Run | Path | str, steps: int, *, out: Path | str | None = None, seed: int = 0) -> list[int]:
    """`steps` timesteps fitted to a trained model; with `out`, written there for `sample(..., schedule=out)`."""
    _start_jax()
    if out is not None:
        outputs.check_timesteps_output(Path(out))
    taus = fit_timesteps(load_model(run), steps, seed=seed).tolist()
    if out is not None:
        outputs.write_timesteps(taus, Path(out))
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
    if store.is_store(path):
        return _describe_store(path)
    record = outputs.read_provenance(path) if path.exists() else None
    if record is not None:
        cells = record["cells"]
        if "first_cell" in record:
            cells = f"cells {record['first_cell']} to {record['last_cell']} of {cells}"
        return _describe_cells(record, cells)
    cells, source = load_cells(path)
    if is_prepared(cells):
        prepared = prepared_from(cells)
        return [f"prepared cells: {cells.n_obs} x {cells.n_vars} genes", *prepared.facts.notes]
    return [f"{source}: {cells.n_obs} cells x {cells.n_vars} genes, not made by scrdit"]


def _describe_cells(record: dict[str, Any], cells: object) -> list[str]:
    facts = Facts.from_dict(json.loads(record["facts"]))
    return [
        f"{cells} synthetic cells x {len(facts.genes)} genes",
        f"solver {record['solver']}, {record['network_evaluations']} network evaluations a cell, seed {record['seed']}",
        f"from a model trained {record['trained_steps']} steps on {facts.source} ({facts.n_train} cells)",
    ]


def _describe_store(path: Path) -> list[str]:
    with store.Store(path) as shards:
        plan, records, made_on = shards.plan, shards.records(), shards.manifest.device
        done = sum(record.cells for record in records)
        lines = [
            *_describe_cells(shards.manifest.request, f"{done} of {plan.cells}" if done < plan.cells else done),
            f"{len(records)} of {len(plan)} shards of {plan.shard_cells} cells, "
            f"{sum(record.bytes for record in records) / 1e6:.1f} MB",
            f"batches of {plan.batch_size}; begun on {made_on['devices']} x {made_on['kind']}",
        ]
        if done:
            zeros = 1 - sum(record.nonzeros for record in records) / (done * len(shards.genes))
            lines.append(f"{zeros:.1%} of the values are zeros")
        return [*lines, f"digest {shards.digest()}" if done == plan.cells else "unfinished: run the same command again"]


def _describe_run(run: Run) -> list[str]:
    config = run.config()
    with Checkpoints(run) as checkpoints:
        if checkpoints.latest() is None:
            return [f"run {run.path}: no checkpoint yet; {config.training.steps} steps wanted"]
        model, digest, best = checkpoints.load(), checkpoints.digest(), checkpoints.best()
    facts, network = model.facts, config.network
    size = sum(leaf.size for leaf in jax.tree.leaves(model.params))
    types = ", ".join(f"{name} {count}" for name, count in facts.cell_types.items())
    return [
        f"run {run.path}: step {model.step} of {config.training.steps}",
        f"trained on {facts.source}: {facts.n_train} cells, {facts.n_held_out} held out, {len(facts.genes)} genes",
        f"{_NETWORKS[network.architecture].format(network)}, {size / 1e6:.2f} M parameters; "
        f"predicts {config.diffusion.prediction}",
        f"digest {digest}",
        *([f"the best held-out score is that of step {best}"] if best is not None else []),
        *([f"cell types: {types}"] if types else []),
        *facts.notes,
    ]


__all__ = [
    "assemble",
    "benchmark",
    "describe",
    "evaluate",
    "fit_schedule",
    "generate",
    "import_torch",
    "load_preset",
    "prepare",
    "sample",
    "settings",
    "train",
    "verify",
    "write_prepared",
]
