"""The cells of an evaluation: held-out and training cells of the model, and the synthetic ones, on one scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from anndata import AnnData

from ..data.adapting import align
from ..data.preparing import prepared_from
from ..data.splitting import split_cells
from ..errors import BadInput
from ..io.backed import Cells
from ..io.reading import EMBEDDED, Data, embedded_pbmc3k, load_cells, open_cells, read_cells
from ..paths import readable_path
from ..provenance import KEY, Provenance

HELD_OUT, STREAMED, CONFIG = "held_out.h5ad", "cells.h5ad", "config.json"
EMBEDDED_SOURCE = "embedded PBMC 3k"
NO_RECORD = "the synthetic cells do not say what they were trained on; evaluate cells that scrdit made"


@dataclass(frozen=True, kw_only=True)
class ComparedCells:
    """Synthetic cells, real ones that their model never saw, and those it was trained on, all on one log scale.

    `training` may stay on the disk; it is None where those cells are not known, and `no_training` then says why, and
    what to do about it. `donor_key` is the column of obs by which whole donors were held out, where they were.
    """

    held_out: AnnData
    synthetic: AnnData
    training: Cells | None = None
    no_training: str = NO_RECORD
    donor_key: str | None = None


def require_column(real: AnnData, column: str) -> None:
    """BadInput, with those that there are, unless obs of the real cells has this column."""
    if column not in real.obs:
        there = ", ".join(map(str, real.obs.columns)) or "none"
        raise BadInput(f"the real cells have no column {column!r}; their columns: {there}")


def compared_cells(real: Data, synthetic: AnnData | Path | str) -> ComparedCells:
    """What to evaluate synthetic cells with.

    `real` is a run directory, or cells; of those the synthetic cells' own record says how to bring them to their scale
    and which were trained on. Without such a record both are taken as they are, with the genes they share in name.
    """
    if not isinstance(synthetic, AnnData):
        synthetic = read_cells(synthetic)
    record = _record_of(synthetic)
    if not isinstance(real, AnnData) and (readable_path(real) / HELD_OUT).is_file():
        training, why = _training_of_run(Path(real), record)
        held_out = read_cells(Path(real) / HELD_OUT)
        key = None if record is None else record.metadata.settings.donor_key
        return ComparedCells(held_out=held_out, synthetic=synthetic, training=training, no_training=why, donor_key=key)
    if not isinstance(real, AnnData) and (Path(real) / CONFIG).is_file():
        raise BadInput(f"run {real} has no held-out cells (imported weights?); give a file of real cells instead")
    cells, source = load_cells(real)
    if record is None:
        return ComparedCells(held_out=cells, synthetic=synthetic)
    training, held_out = _split(cells, record, source)
    if not held_out.n_obs:
        raise BadInput(f"{source}: every cell that could be compared was trained on; give cells that were held out")
    training, why = _if_whole(training, record, source)
    key = record.metadata.settings.donor_key
    return ComparedCells(held_out=held_out, synthetic=synthetic, training=training, no_training=why, donor_key=key)


def _record_of(synthetic: AnnData) -> Provenance | None:
    """What made the cells, None where they do not say; BadInput where they do and it cannot be read."""
    record, values = Provenance.from_uns(synthetic.uns), synthetic.uns.get(KEY)
    if record is None and isinstance(values, Mapping) and {"provenance", "facts"} & set(values):
        raise BadInput("the synthetic cells' record of what made them cannot be read; generate them again")
    return record


def _split(cells: AnnData, record: Provenance, source: str) -> tuple[AnnData, AnnData]:
    """(training, held-out) cells on the model's scale, with its genes and only of cell types that it knows."""
    metadata = record.metadata
    aligned = align(cells, metadata, source=source)
    if metadata.cell_type_key in aligned.obs:
        aligned = aligned[aligned.obs[metadata.cell_type_key].astype(str).isin(record.cell_types).to_numpy()]
    if "split" in aligned.obs and set(aligned.obs["split"].astype(str)) <= {"train", "held_out"}:
        held_out = (aligned.obs["split"].astype(str) == "held_out").to_numpy()
    else:
        border = metadata.donor_border
        held_out = split_cells(aligned.obs, metadata.settings, source, border=border).held_out
    return aligned[~held_out].copy(), aligned[held_out].copy()


def _if_whole(training: Cells, record: Provenance, source: str) -> tuple[Cells | None, str]:
    """The training cells, if they are as many as the model was trained on: others would be no originals of copies."""
    there = sum(model.metadata.n_train for model in record.models)
    if training.n_obs == there:
        return training, ""
    return None, (
        f"{source} is not the file the model was trained on ({training.n_obs:,} training cells in it, "
        f"{there:,} recorded); evaluate with that file ({record.metadata.source})"
    )


def _training_of_run(run: Path, record: Provenance | None) -> tuple[Cells | None, str]:
    """The training cells that a run keeps, or the embedded ones; else None and why not."""
    stored = open_cells(run / STREAMED) if (run / STREAMED).is_file() else None
    if stored is not None:
        prepared = prepared_from(stored)
        if record is None or record.metadata.digest == prepared.metadata.digest:
            return prepared.train, ""
        return None, f"the model was trained on other cells than the run {run}; evaluate with its own run or file"
    if record is None:
        return None, NO_RECORD
    if record.metadata.source == EMBEDDED_SOURCE:
        training, _ = _split(embedded_pbmc3k(), record, EMBEDDED)
        return _if_whole(training, record, EMBEDDED)
    return None, (
        "a run does not keep its training cells; evaluate with the file the model was trained on "
        f"({record.metadata.source}) instead of the run"
    )
