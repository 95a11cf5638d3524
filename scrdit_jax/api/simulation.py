"""A run in, synthetic cells with planted effects out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Unpack

from anndata import AnnData

from ..checkpoint import Run
from ..conditioning.request import CellRequest, PerType, share_out
from ..config import SamplingConfig, SimulationConfig
from ..config.checks import shown
from ..errors import BadConfig
from ..importing.pretrained import open_trained
from ..io.reading import Data
from ..io.writing import check_suffix, write_cells
from ..options import SimulationOptions, with_keywords
from ..simulation.output import is_written
from ..simulation.simulate import record_of, request_of
from ..simulation.simulate import simulate as simulate_in_memory
from .arguments import checked
from .synthesis import OnNotes, resolved
from .training import start_jax


@with_keywords(SimulationOptions)
@checked
def simulate(
    run: Run | Path | str,
    cells: int | None = None,
    *,
    out: Path | str | None = None,
    cell_types: Sequence[str] = (),
    conditions: Mapping[str, str] | None = None,
    per_type: PerType | None = None,
    proportions: Mapping[str, float] | None = None,
    match: Data | None = None,
    on_notes: OnNotes | None = None,
    **options: Unpack[SimulationOptions],
) -> AnnData | Path:
    """Sample counts with known effects planted in them, for benchmarks of methods that look for such effects.

    Cells are those that `sample` draws with the same seed. An effect multiplies the rate at which a cell's molecules
    are counted, before they are counted: of a lowered gene each molecule is kept with some probability (binomial
    thinning, Gerard 2020), of a raised one more are drawn from the rate that the count and the model's own
    distribution of the gene in such a cell imply. So zeros follow, and what has no effect stays as it was.

    Parameters
    ----------
    run
        The run, its directory, that of a family, or the name of a model that ships ("pbmc3k").
    cells, cell_types, conditions, per_type, match, on_notes
        See `sample`.
    proportions
        {cell type: share} of so many `cells`; shares are taken relative to their sum.
    out
        A file, .h5ad or .zarr; one that holds these cells already is left as it is.
    **options
        What is planted: de_share (share of genes), log2_fold_change (a number, or the least and the greatest of
        uniform ones), up_share, groups, de_by, de_cell_types; batches, batch_strength, batch_share, batch_depth;
        depth_factor, doublets, ambient (shares), effects_seed; schema ("open-problems"): see
        `config.SimulationConfig`. How cells are sampled: solver, steps, schedule, seed, batch_size, dtype, guidance,
        depth: see `config.SamplingConfig`.

    Returns
    -------
    AnnData or Path
        Cells x genes: `layers["counts"]`, and X on the log scale of each cell's new library size. The truth: obs
        `group`, `batch`, `is_doublet`, `partner_*` (the second cell's labels) and `ambient_fraction`; var `is_de` and
        `log2_fold_change`; varm `log2_fold_change` (gene x category) and `log2_batch_factor` (gene x batch); layers
        `native_counts`, without ambient ones; uns "simulation", the settings. With `out`, the path.

    Raises
    ------
    BadConfig, BadTimesteps, UnknownCellType, BadInput
        Where the model cannot be sampled so, or what is to be planted contradicts itself; where genes are to be raised
        and the model predicts no distribution.
    OutputExists
        If `out` holds something else.
    RunMismatch
        If there is no run.

    Examples
    --------
    >>> cells = scrdit.simulate(run, 20, steps=2, de_share=0.25)
    >>> int(cells.var["is_de"].sum())
    6
    """
    config, sampling = _settings(options)
    if out is not None:
        check_suffix(Path(out), "simulated cells")
    if proportions is not None:
        per_type = _per_type(cells, per_type, proportions)
    request = CellRequest(
        cells=cells, cell_types=cell_types, conditions=conditions or {}, per_type=per_type, match=match
    )
    start_jax()
    trained = open_trained(run)
    quotas = resolved(request, trained, on_notes)
    if out is None:
        return simulate_in_memory(trained, quotas, sampling, config)
    record = record_of(request_of(trained, quotas, sampling).provenance(trained), config)
    if not is_written(Path(out), record):
        write_cells(simulate_in_memory(trained, quotas, sampling, config), Path(out), compress=True)
    return Path(out)


def _settings(options: Mapping[str, Any]) -> tuple[SimulationConfig, SamplingConfig]:
    """Options by what they are of; None is the default."""
    given = {name: value for name, value in options.items() if value is not None}
    planted = [field.name for field in fields(SimulationConfig)]
    sampled = [field.name for field in fields(SamplingConfig) if field.name != "output"]
    for name in options:
        if name not in (*planted, *sampled):
            raise BadConfig(f"no option is called {shown(name)}; there are {', '.join((*planted, *sampled))}")
    config = SimulationConfig(**{name: value for name, value in given.items() if name in planted})
    return config, SamplingConfig(output="counts", **{name: v for name, v in given.items() if name in sampled})


def _per_type(cells: int | None, per_type: PerType | None, proportions: Mapping[str, float]) -> dict[str, int]:
    """{cell type: number} of so many cells."""
    if per_type is not None:
        raise BadConfig("proportions and per_type both say how many of each type; give one of them")
    if cells is None:
        raise BadConfig("proportions are of a number of cells, which is not said; add --cells")
    shares = share_out(cells, list(proportions.values())).tolist()
    return dict(zip(proportions, shares, strict=True))
