"""Cells in, a run out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Unpack

from ..cache import enable_compilation_cache
from ..checkpoint import Run
from ..config import DataConfig, RunConfig, load_preset
from ..data.preparing import Prepared, prepared_from, write_prepared
from ..data.sources import DataSets, load_prepared, too_large
from ..devices import bind_processes, use_every_core
from ..errors import BadConfig, BadInput, enough_memory
from ..extras import optional
from ..generation.fitting import fit_carried
from ..generation.scoring import ModelScorer
from ..io.reading import open_cells
from ..options import SettingChanges, with_keywords
from ..training import loop
from ..training.family import train_family
from ..training.fine_tuning import Base
from .arguments import checked

DEFAULT_PRESET = "base"
# Of streamed cells' values, what the chosen genes may hold that a copy of them is made to train from.
MOST_COPIED = 0.5
REFERENCE_HEADS = 8  # the paper's network; nothing in its weights tells


@with_keywords(SettingChanges)
@checked
def settings(preset: str | RunConfig = DEFAULT_PRESET, **changes: Unpack[SettingChanges]) -> RunConfig:
    """Give a preset with single settings changed by name.

    Parameters
    ----------
    preset
        Name of a preset that ships ("demo", "base", "paper", "transcriptome"), path of a .json file of the same form,
        or a config.
    **changes
        Settings by name, e.g. ``steps=500, cell_types=["B cells"]``.

    Raises
    ------
    BadConfig
        For a name that is no setting, and for a value outside its range.

    Examples
    --------
    >>> scrdit.settings("demo", steps=500, genes=3000).training.steps
    500
    """
    config = preset if isinstance(preset, RunConfig) else load_preset(preset)
    return config.with_settings(changes)


@with_keywords(SettingChanges)
@checked
@enough_memory("give --stream, or fewer cells or genes")
def prepare(
    data: DataSets,
    *,
    preset: str | RunConfig = DEFAULT_PRESET,
    transpose: bool = False,
    stream: bool | None = None,
    **changes: Unpack[SettingChanges],
) -> Prepared:
    """Read, check, normalise, split and select genes, as `train` does by itself; `.metadata.notes` say what was done.

    Parameters
    ----------
    data
        An AnnData (raw counts, or on a log scale), a path, or "pbmc3k" for the embedded cells; or several of them, as a
        list or a folder of .h5ad and .zarr, which are joined on the genes and columns that all have. The column
        ``file`` of obs then says which of them a cell is from.
    preset, **changes
        See `settings`.
    transpose
        Rows of a text file or .npy are genes.
    stream
        Leave the cells on the disk; None: where there is not memory for them.

    Raises
    ------
    BadInput, UnknownCellType
        Where the cells cannot be used.

    Examples
    --------
    >>> prepared = scrdit.prepare(adata, preset="small.json")
    >>> prepared.cells.shape
    (90, 24)
    """
    config = settings(preset, **changes)
    # A seed may be meant for the training alone; the split that prepared cells came with is kept either way.
    asked = [field.name for field in fields(DataConfig) if field.name in changes and field.name != "seed"]
    return load_prepared(
        data,
        config.data,
        asked=asked,
        multiple_of=config.network.gene_multiple,
        groups=config.network.gene_groups,
        transpose=transpose,
        stored=_stored(data, stream),
    )


def _stored(data: DataSets, stream: bool | None) -> bool:
    """Whether the cells stay on the disk."""
    return too_large(data) is not None if stream is None else stream


@with_keywords(SettingChanges)
@checked
@enough_memory("lower --batch-size, or raise --accumulate")
def train(
    data: DataSets | Prepared,
    *,
    out: Path | str,
    preset: str | RunConfig = DEFAULT_PRESET,
    from_run: Run | Path | str | None = None,
    transpose: bool = False,
    per_cell_type: bool = False,
    stream: bool | None = None,
    max_minutes: float | None = None,
    tensorboard: bool = False,
    distributed: bool = False,
    coordinator: str | None = None,
    processes: int | None = None,
    process_id: int | None = None,
    on_notes: Callable[[Sequence[str]], None] | None = None,
    **changes: Unpack[SettingChanges],
) -> Run:
    """Train a diffusion transformer on `data` into the run directory `out`; called again, it continues.

    Parameters
    ----------
    data
        See `prepare`; or Prepared cells.
    out
        The run directory, new or to continue.
    preset, **changes
        See `settings`. With ``condition_on=["cell_type"]`` the model is conditioned on that column of obs.
    from_run
        A run whose model is trained further on these cells, such as those of a new donor; they must have its genes.
        Genes, scale, network and conditions are that run's, with categories that are new in its columns added, and
        cannot be changed. Training settings are its own too, unless given, but for a quarter of the steps. Categories
        that these cells lack can still be sampled. The new run needs `from_run` no more once it has a checkpoint.
    transpose, stream
        See `prepare`. Streamed cells are read from a copy in the run of the chosen genes; from the files themselves,
        which must then stay as they are, where these genes hold most of the values.
    per_cell_type
        A model for each cell type (the paper's way); the directory of all of them samples as one run does.
    max_minutes
        Save and end at the first step's end after so long.
    tensorboard
        Write the metrics for TensorBoard, too.
    distributed, coordinator, processes, process_id
        Processes with the same call train one model on the devices of all; see `devices.bind_processes`.
    on_notes
        Is called with sentences about the cells, before training begins.

    Returns
    -------
    Run
        Its `stopped` says why training ended before the last step (SIGTERM, `max_minutes`, a held-out score that has
        stalled); None if it did not.

    Raises
    ------
    RunMismatch, OutputExists
        If `out` holds a run of other settings or cells, or something else, or another process trains there.
    GeneMismatch
        If the cells lack genes of `from_run`.
    Diverged
        When the loss is no longer finite, or has risen for good; the last good checkpoint is kept.

    Examples
    --------
    >>> run = scrdit.train(adata, out="run", preset="small.json", steps=4)
    >>> run.path
    PosixPath('run')
    """
    if tensorboard:
        optional("tensorboardX", extra="tensorboard")
    if from_run is None:
        settings(preset, **changes)  # a mistake is said before other processes are waited for
    else:
        _require_alone(data, preset, per_cell_type)
    require_distributed(distributed, coordinator, processes, process_id)
    if distributed:
        bind_processes(coordinator, processes, process_id)
    start_jax()
    base = None if from_run is None else Base.load(from_run, out)
    config = settings(preset, **changes) if base is None else base.settings(changes)
    if isinstance(data, Prepared):
        prepared = data
    elif base is None:
        prepared = prepare(data, preset=preset, transpose=transpose, stream=stream, **changes)
    else:
        prepared = base.prepare(data, config, transpose=transpose, stored=_stored(data, stream))
    source: Prepared | Callable[[Run], Prepared] = prepared
    notes = list(prepared.metadata.notes)
    if not isinstance(data, Prepared) and prepared.on_disk:
        source, where = _on_disk(prepared)
        notes += [too_large(data) or "the cells stay on the disk, as asked", where]
    if on_notes is not None:
        on_notes(notes)
    config = replace(config, data=prepared.metadata.settings)
    options = replace(_options(config, max_minutes, tensorboard), on_notes=on_notes)
    if per_cell_type:
        on_note = (lambda note: None) if on_notes is None else (lambda note: on_notes((note,)))
        return train_family(prepared, config, out, options, on_note=on_note)
    return loop.train(source, config, out, options, base=None if base is None else base.model)


def _require_alone(data: DataSets | Prepared, preset: str | RunConfig, per_cell_type: bool) -> None:
    """BadConfig where what is asked for cannot be had of a model that is trained further."""
    if preset != DEFAULT_PRESET:
        raise BadConfig("--preset and --from both say what the settings are; give one of them")
    if per_cell_type:
        raise BadConfig("--per-cell-type trains new models, --from an old one further; give one of them")
    if isinstance(data, Prepared):
        raise BadConfig("prepared cells have genes and a scaling of their own; with from_run give cells as they came")


def _options(config: RunConfig, max_minutes: float | None, tensorboard: bool) -> loop.TrainingOptions:
    from ..benchmarking.timing import known_matrix_rate

    return loop.TrainingOptions(
        max_minutes=max_minutes,
        tensorboard=tensorboard,
        scorer=ModelScorer,
        fit=fit_carried,
        matrix_rate=known_matrix_rate(config.training.dtype),
    )


def _on_disk(prepared: Prepared) -> tuple[Prepared | Callable[[Run], Prepared], str]:
    """Give what streamed cells are trained from, and a sentence about it."""
    if prepared.share is None:
        return prepared, "they are read as they were prepared"
    if prepared.share > MOST_COPIED:
        return prepared, (
            f"they are read from the files as they are, of whose values the chosen genes hold {prepared.share:.0%}: "
            "leave the files in place until training has ended"
        )
    return partial(_copied, prepared), (
        f"the chosen genes, which hold {prepared.share:.0%} of the values, are copied into the run"
    )


def _copied(prepared: Prepared, run: Run) -> Prepared:
    """Copy streamed cells into the run directory, only the chosen genes, normalised once; the copy, on the disk."""
    there = open_cells(run.cells_path) if run.cells_path.exists() else None
    if there is None or prepared_from(there).metadata != prepared.metadata:
        write_prepared(prepared, run.cells_path)
        there = open_cells(run.cells_path)
    if there is None:
        raise BadInput(f"{run.cells_path} cannot be streamed; delete it and type the same command again")
    return replace(prepared_from(there), marginals=prepared.marginals)


@checked
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
    """Make a run in `out` from a checkpoint of the paper's PyTorch implementation, .pt or .safetensors.

    Parameters
    ----------
    checkpoint
        The file; nothing but tensors is loaded. A .pt needs the extra `torch`, a .safetensors the extra `safetensors`
        and no PyTorch.
    out
        The run directory, new.
    heads
        Attention heads, of which the weights tell nothing.
    genes
        Their names in the order of training, or a file that has them: one a line, or cells.
    zero_value
        What zeros were turned into; None: left.
    key
        Which of several state dicts.
    first_timestep
        What its timesteps count from, 0 or 1; see `importing.run`.

    Raises
    ------
    BadInput, GeneMismatch, OutputExists, MissingExtra
    """
    from ..importing.genes import read_gene_names
    from ..importing.run import import_reference

    names = None
    if genes is not None:
        names = read_gene_names(Path(genes)) if isinstance(genes, str | Path) else tuple(genes)
    return import_reference(
        checkpoint, out, heads=heads, genes=names, zero_value=zero_value, key=key, first_timestep=first_timestep
    )


@checked
def pretrained(name: str = "pbmc3k", *, out: Path | str) -> Run:
    """Make a run in the directory `out` with a model that ships with the package.

    Parameters
    ----------
    name
        "pbmc3k", trained on the embedded cells.
    out
        New; one that holds this model already is left as it is.

    Raises
    ------
    BadConfig, OutputExists
        For a name that does not ship, and where `out` holds something else.
    """
    from ..importing.pretrained import unpack

    return unpack(name, out)


def start_jax() -> None:
    """Before JAX first looks for devices."""
    use_every_core()
    enable_compilation_cache()


def require_distributed(
    distributed: bool, coordinator: str | None, processes: int | None, process_id: int | None
) -> None:
    """BadConfig where processes are described that are not asked for."""
    if not distributed and (coordinator, processes, process_id) != (None, None, None):
        raise BadConfig("--coordinator, --processes and --process-id are for --distributed")
