"""A run in, synthetic cells out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Unpack

from anndata import AnnData

from ..checkpoint import Run, load_model
from ..conditioning.request import CellRequest, PerType, Quotas, resolve
from ..conditioning.unseen import notes_on_rare
from ..config import SamplingConfig
from ..config.checks import shown
from ..devices import join_processes
from ..errors import BadConfig, enough_memory
from ..families import Trained, load
from ..generation import fill, fitting, outputs, store
from ..generation.assemble import assemble as assemble_shards
from ..generation.fill import Sharing, Summary
from ..generation.plan import SHARD_CELLS
from ..generation.request import SampleRequest, notes_on
from ..generation.sample import sample as sample_in_memory
from ..generation.verify import find_damage
from ..importing.pretrained import open_trained
from ..io.reading import Data
from ..io.writing import SUFFIXES, check_suffix
from ..options import SamplingOptions, with_keywords
from ..paths import writable_path
from .arguments import checked
from .training import require_distributed, start_jax

OnNotes = Callable[[Sequence[str]], None]


@with_keywords(SamplingOptions)
@checked
@enough_memory("lower --batch-size, or ask for fewer cells")
def sample(
    run: Run | Path | str,
    cells: int | None = None,
    *,
    out: Path | str | None = None,
    cell_types: Sequence[str] = (),
    conditions: Mapping[str, str] | None = None,
    per_type: PerType | None = None,
    match: Data | None = None,
    on_notes: OnNotes | None = None,
    **options: Unpack[SamplingOptions],
) -> AnnData | Path:
    """Sample synthetic cells from a trained run, in memory or into a file.

    Parameters
    ----------
    run
        The run, its directory, that of a family, or the name of a model that ships ("pbmc3k").
    cells
        How many; `per_type` and `match` say it themselves.
    out
        A file or folder, written as `generate` does.
    cell_types
        Equal shares of these types, of a model that is conditioned on types.
    conditions
        {column: category} that all have. Other columns are as in the training cells with these; where none has them,
        they are left out.
    per_type
        As many of each as {name: number}, a table or a .csv says.
    match
        In the proportions of these real cells; as many, unless `cells` says another number.
    on_notes
        Is called with sentences on combinations that no training cell has, or too few, before sampling begins.
    **options
        See `config.SamplingConfig`: solver, steps or acceleration, schedule, eta, variance, seed, batch_size, dtype,
        guidance (a number, or {column: number}), output ("counts" adds a layer), depth.

    Returns
    -------
    AnnData or Path
        Cells x genes, CSR on the log scale, with their provenance in `.uns["scrdit"]`; with `out`, the path.

    Raises
    ------
    BadConfig, BadTimesteps, UnknownCellType, BadInput
        Where the model cannot be sampled so.
    MissingExtra
        Where the dtype needs a library that is not installed.
    RunMismatch
        If there is no run.

    Examples
    --------
    >>> cells = scrdit.sample(run, 20, steps=2)
    >>> cells.shape
    (20, 24)
    >>> cells.uns["scrdit"]["network_evaluations"]
    2
    """
    wanted: dict[str, Any] = {
        "cell_types": cell_types, "conditions": conditions or {}, "per_type": per_type, "match": match
    }  # fmt: skip
    if out is not None:
        return generate(run, cells, out=out, on_notes=on_notes, **wanted, **options).path
    request, sampling = CellRequest(cells=cells, **wanted), _sampling(options)
    start_jax()
    trained = open_trained(run)
    quotas = resolved(request, trained, on_notes)
    return sample_in_memory(trained, SampleRequest.of(trained, quotas, sampling))


@with_keywords(SamplingOptions)
@checked
@enough_memory("lower --batch-size")
def generate(
    run: Run | Path | str,
    cells: int | None = None,
    *,
    out: Path | str,
    cell_types: Sequence[str] = (),
    conditions: Mapping[str, str] | None = None,
    per_type: PerType | None = None,
    match: Data | None = None,
    shard_cells: int = SHARD_CELLS,
    distributed: bool = False,
    coordinator: str | None = None,
    processes: int | None = None,
    process_id: int | None = None,
    ray: str | None = None,
    on_notes: OnNotes | None = None,
    **options: Unpack[SamplingOptions],
) -> Summary:
    """Sample cells into a file or a folder of shards, in memory that does not grow with them; called again, go on.

    Parameters
    ----------
    run, cells, cell_types, conditions, per_type, match, on_notes, **options
        See `sample`.
    out
        A file (.h5ad, .zarr), or a folder for shards.
    shard_cells
        About how many to a shard.
    distributed, coordinator, processes, process_id
        The shards of a folder are shared among processes; see `devices.join_processes` for how they find their number.
        Processes with the same request share them in any case.
    ray
        Address of a Ray cluster, or "local": the shards are its tasks.

    Raises
    ------
    OutputExists
        If `out` holds other cells, or something else.
    DiskFull
        If the cells will not fit; what is there stays and is gone on with.

    Examples
    --------
    >>> scrdit.generate(run, 40, out="atlas", shard_cells=16, batch_size=8, steps=2).cells
    40
    """
    out, sampling = Path(out), _sampling(options)
    request = CellRequest(
        cells=cells, cell_types=cell_types, conditions=conditions or {}, per_type=per_type, match=match
    )
    _check_output(out, several=distributed or ray is not None)
    require_distributed(distributed, coordinator, processes, process_id)
    if ray is not None:
        if distributed:
            raise BadConfig("--ray and --distributed are two ways to share the work; give one of them")
        from ..generation.elastic import fill_with_ray

        path = run.path if isinstance(run, Run) else Path(run)
        quotas = resolved(request, load(path), on_notes)
        return fill_with_ray(path, quotas, sampling, out, address=ray, shard_cells=shard_cells)
    process, count = join_processes(coordinator, processes, process_id) if distributed else (0, 1)
    start_jax()
    trained = open_trained(run)
    quotas = resolved(request, trained, on_notes if process == 0 else None)
    if out.suffix in SUFFIXES:
        return fill.fill_file(trained, quotas, sampling, out)
    sharing = Sharing(process=process, processes=count, shard_cells=shard_cells)
    return fill.fill(trained, quotas, sampling, out, sharing)


def resolved(request: CellRequest, trained: Trained, on_notes: OnNotes | None) -> Quotas:
    """Quotas of a request, after saying what of it the training cells do not have."""
    quotas = resolve(request, trained.conditions)
    if on_notes is not None:
        notes = [*notes_on_rare(request, trained.conditions), *notes_on(trained, quotas)]
        if notes:
            on_notes(notes)
    return quotas


def _check_output(out: Path, *, several: bool) -> None:
    if not writable_path(out).suffix or store.is_store(out):
        store.check_folder(out)
        return
    check_suffix(out, "synthetic cells")
    if several:
        raise BadConfig(f"{out} is one file; several processes write to a folder of shards: give one as --out")


def _sampling(options: Mapping[str, Any]) -> SamplingConfig:
    known = [field.name for field in fields(SamplingConfig)]
    for name in options:
        if name not in known:
            raise BadConfig(f"no option is called {shown(name)}; there are {', '.join(known)}")
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


@checked
def verify(path: Path | str, *, repair: Run | Path | str | None = None) -> Verification:
    """Compute every digest of a folder of shards again.

    Parameters
    ----------
    path
        The folder.
    repair
        A run, to make anew what is missing or damaged.

    Raises
    ------
    OutputExists
        If `path` is no folder of shards, or `repair` another run than the one the cells were made from.

    Examples
    --------
    >>> made = scrdit.generate(run, 40, out="atlas", shard_cells=16, batch_size=8, steps=2)
    >>> scrdit.verify("atlas").problems
    ()
    """
    path = Path(path)
    with store.Store(path) as shards:
        damage, plan = find_damage(shards), shards.plan
        digest = None if damage else shards.digest()
    problems = tuple(f"shard {shard.index}: {what}" for shard, what in damage.items())
    if not damage or repair is None:
        return Verification(plan.cells, len(plan), problems, False, (), digest)
    start_jax()
    changed = fill.repair(open_trained(repair), path, list(damage))
    with store.Store(path) as shards:
        digest = shards.digest()
    notes = tuple(
        f"shard {shard.index}: not the cells of which its record has the digest; made on another device?"
        for shard in changed
    )
    return Verification(plan.cells, len(plan), problems, True, notes, digest)


@checked
def assemble(path: Path | str, *, out: Path | str) -> Path:
    """Write the cells of a finished folder of shards to one .h5ad or .zarr, without holding them in memory.

    Parameters
    ----------
    path
        The folder of shards.
    out
        cells.h5ad or cells.zarr; if it holds these cells already, nothing is done.

    Raises
    ------
    OutputExists
        While shards are missing or damaged, and where `out` holds something else.

    Examples
    --------
    >>> made = scrdit.generate(run, 40, out="atlas", shard_cells=16, batch_size=8, steps=2)
    >>> scrdit.assemble("atlas", out="cells.h5ad")
    PosixPath('cells.h5ad')
    """
    path, out = Path(path), Path(out)
    check_suffix(out, "synthetic cells")
    with store.Store(path) as shards:
        if not outputs.is_finished(out, shards.manifest.provenance):
            assemble_shards(shards, out)
    return out


@checked
@enough_memory("give it fewer cells")
def fit_schedule(
    run: Run | Path | str,
    steps: int,
    *,
    solver: str | None = None,
    out: Path | str | None = None,
    seed: int = 0,
) -> list[int]:
    """Fit timesteps to a trained model.

    Parameters
    ----------
    run
        The run.
    steps
        How many timesteps, which is network evaluations a cell.
    solver
        "distributional", of a model that can be drawn from, fitted by the run's held-out cells; or "unipc".
    out
        A file for ``sample(..., schedule=out)``.
    seed
        Of the cells that the fit is made with.

    Returns
    -------
    list of int
        Descending.

    Raises
    ------
    BadTimesteps, BadConfig, OutputExists

    Examples
    --------
    >>> timesteps = scrdit.fit_schedule(run, 2, solver="unipc", out="timesteps.json")
    >>> cells = scrdit.sample(run, 20, schedule="timesteps.json")
    """
    start_jax()
    if out is not None:
        outputs.check_timesteps_output(Path(out))
    run = run if isinstance(run, Run) else Run(Path(run))
    model = load_model(run)
    solver = solver or fitting.default_solver(model)
    taus = fitting.fit(model, solver, steps, held_out=run.held_out_path, seed=seed).tolist()
    if out is not None:
        outputs.write_timesteps(taus, Path(out), solver=solver, model=model.digest)
    return taus
