"""The public functions, which the command line calls too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anndata import AnnData

from .cache import enable_compilation_cache
from .checkpoint import Run, load_model
from .conditioning.request import CellRequest, PerType, resolve
from .config import DataConfig, RunConfig, SamplingConfig, load_preset
from .data.preparing import Prepared, is_prepared, prepared_from, write_prepared
from .data.sources import load_prepared, too_large
from .devices import bind_processes, join_processes, use_every_core
from .errors import BadConfig
from .evaluation.sides import held_out_side
from .extras import optional
from .families import load
from .generation import fitting, outputs, store
from .generation import sample as generation
from .generation.assemble import assemble as assemble_shards
from .generation.fitting import fit_carried
from .generation.outputs import is_finished
from .generation.plan import SHARD_CELLS
from .generation.sample import Summary
from .generation.scoring import ModelScorer
from .generation.verify import find_damage
from .info import describe
from .io.reading import Data, open_cells
from .io.writing import SUFFIXES, check_suffix
from .training import loop
from .training.family import train_family

if TYPE_CHECKING:
    from .evaluation.report import Report

DEFAULT_PRESET = "base"
REFERENCE_HEADS = 8  # the paper's network; nothing in its weights tells


def settings(preset: str | RunConfig = DEFAULT_PRESET, **changes: Any) -> RunConfig:
    """A preset with single settings changed by name, e.g. settings("demo", steps=500, cell_types=["B cells"])."""
    config = preset if isinstance(preset, RunConfig) else load_preset(preset)
    return config.with_settings(changes)


def _start_jax() -> None:
    """Before JAX first looks for devices."""
    use_every_core()
    enable_compilation_cache()


def prepare(
    data: Data,
    *,
    preset: str | RunConfig = DEFAULT_PRESET,
    transpose: bool = False,
    stream: bool | None = None,
    **changes: Any,
) -> Prepared:
    """Read, check, normalise, split and select genes, as `train` does by itself; `.metadata.notes` say what was done.

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
    per_cell_type: bool = False,
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

    With `per_cell_type`, one for each cell type: the folder of all of them samples as one run does. With
    condition_on=["cell_type"], one for all that knows the types by name.

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
        tell((*prepared.metadata.notes, *where))
    config = replace(config, data=prepared.metadata.settings)
    options = loop.TrainingOptions(
        max_minutes=max_minutes,
        tensorboard=tensorboard,
        scorer=ModelScorer,
        fit=fit_carried,
        matrix_rate=known_matrix_rate(config.training.dtype),
    )
    if per_cell_type:
        if prepared.on_disk:
            raise BadConfig("a family is trained from memory, and these cells are streamed; leave --per-cell-type out")
        return train_family(
            prepared, config, out, options, say=lambda line: tell((line,)) if tell is not None else None
        )
    source = partial(_copied, prepared) if to_copy else prepared
    return loop.train(source, config, out, options)


def _copied(prepared: Prepared, run: Run) -> Prepared:
    """Prepared cells that are streamed, from a copy in the run's folder: only the chosen genes, normalised once."""
    if run.cells_path.exists():
        there = prepared_from(open_cells(run.cells_path))
        if there.metadata == prepared.metadata:
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
    first_timestep: int = 0,
) -> Run:
    """A run in the folder `out` from a checkpoint of the paper's PyTorch implementation, .pt or .safetensors.

    `genes` are their names in the order of training, or a file that has them: one a line, or cells. `key` picks one of
    several state dicts. `first_timestep`: see `importing.run`. A .pt needs the extra `torch`, a .safetensors the extra
    `safetensors` and no PyTorch.
    """
    from .importing.genes import read_gene_names
    from .importing.run import import_reference

    names = None
    if genes is not None:
        names = read_gene_names(Path(genes)) if isinstance(genes, str | Path) else tuple(genes)
    return import_reference(
        checkpoint, out, heads=heads, genes=names, zero_value=zero_value, key=key, first_timestep=first_timestep
    )


def pretrained(name: str = "pbmc3k", *, out: Path | str) -> Run:
    """A run in the folder `out` with a model that ships with the package: "pbmc3k", trained on the embedded cells."""
    from .importing.pretrained import unpack

    return unpack(name, out)


def sample(
    run: Run | Path | str,
    cells: int | None = None,
    *,
    out: Path | str | None = None,
    cell_types: Sequence[str] = (),
    per_type: PerType | None = None,
    match: Data | None = None,
    **options: Any,
) -> AnnData | Path:
    """`cells` synthetic cells from a trained run; with `out`, written as `generate` does, and the path is returned.

    Of a model with labels: equal shares of `cell_types`; or as many as `per_type` says, {name: number}, a table or a
    .csv; or as real cells are, `match`; else as the training cells are. `options` are SamplingConfig's: solver, steps
    or acceleration, schedule, eta, seed, batch_size, dtype, guidance, output ("counts" adds a layer), depth.
    """
    if out is not None:
        mixture = {"cell_types": cell_types, "per_type": per_type, "match": match}
        return generate(run, cells, out=out, **mixture, **options).path
    wanted, config = CellRequest(cells=cells, cell_types=cell_types, per_type=per_type, match=match), _sampling(options)
    _start_jax()
    model = load(run)
    total, labels = resolve(wanted, model)
    return generation.sample(model, total, config, labels)


def generate(
    run: Run | Path | str,
    cells: int | None = None,
    *,
    out: Path | str,
    cell_types: Sequence[str] = (),
    per_type: PerType | None = None,
    match: Data | None = None,
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
    Ray cluster or "local", the shards are its tasks. What cells of a model with labels are, and the `options`, as for
    `sample`.
    """
    out, config = Path(out), _sampling(options)
    wanted = CellRequest(cells=cells, cell_types=cell_types, per_type=per_type, match=match)
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
        total, labels = resolve(wanted, load(path))
        return fill_with_ray(path, total, config, out, labels, address=ray, shard_cells=shard_cells)
    place = join_processes(coordinator, processes, process_id) if distributed else (0, 1)
    _start_jax()
    model = load(run)
    total, labels = resolve(wanted, model)
    if out.suffix in SUFFIXES:
        return generation.fill_file(model, total, config, out, labels)
    process, processes = place
    return generation.fill(
        model, total, config, out, labels, process=process, processes=processes, shard_cells=shard_cells
    )


def _sampling(options: dict[str, Any]) -> SamplingConfig:
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
    changed = generation.repair(load(repair), path, list(damage))
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


def fit_schedule(
    run: Run | Path | str,
    steps: int,
    *,
    solver: str | None = None,
    out: Path | str | None = None,
    seed: int = 0,
) -> list[int]:
    """`steps` timesteps fitted to a trained model; with `out`, written there for `sample(..., schedule=out)`.

    For "distributional", of a model that can be drawn from, by the run's held-out cells; else for "unipc".
    """
    _start_jax()
    if out is not None:
        outputs.check_timesteps_output(Path(out))
    run = run if isinstance(run, Run) else Run(Path(run))
    model = load_model(run)
    solver = solver or fitting.default_solver(model)
    taus = fitting.fit(model, solver, steps, held_out=run.held_out_path, seed=seed).tolist()
    if out is not None:
        outputs.write_timesteps(taus, Path(out), solver=solver, model=model.digest)
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
