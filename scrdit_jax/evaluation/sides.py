"""The two sides of an evaluation, on one scale and with the same genes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from anndata import AnnData

from ..data.preparing import align
from ..data.splitting import held_out_mask
from ..errors import BadInput
from ..io.reading import Data, load_cells, read_cells
from ..provenance import Provenance

HELD_OUT = "held_out.h5ad"


def held_out_side(real: Data, synthetic: AnnData | Path | str) -> tuple[AnnData, AnnData]:
    """(real cells the model never saw, synthetic cells).

    `real` is a run folder, or cells; of those the synthetic cells' own record says how to bring them to their scale
    and which were trained on. Without such a record both sides are taken as they are, with the genes they share in
    name.
    """
    if not isinstance(synthetic, AnnData):
        synthetic = read_cells(synthetic)
    if not isinstance(real, AnnData) and (Path(real) / HELD_OUT).is_file():
        return read_cells(Path(real) / HELD_OUT), synthetic
    if not isinstance(real, AnnData) and (Path(real) / "config.json").is_file():
        raise BadInput(f"run {real} has no held-out cells (imported weights?); give a file of real cells instead")
    cells, source = load_cells(real)
    record = Provenance.from_uns(synthetic.uns)
    if record is None:
        return cells, synthetic
    metadata = record.metadata
    aligned = align(cells, metadata, source=source)
    if metadata.cell_type_key in aligned.obs:
        aligned = aligned[aligned.obs[metadata.cell_type_key].astype(str).isin(record.cell_types).to_numpy()]
    if "split" in cells.obs:
        held_out = (aligned.obs["split"].astype(str) == "held_out").to_numpy()
    else:
        held_out = held_out_mask(aligned.obs_names, metadata.settings.held_out, metadata.settings.seed)
    if not np.any(held_out):
        raise BadInput(f"{source}: every cell that could be compared was trained on; give cells that were held out")
    return aligned[held_out].copy(), synthetic
