"""Simulated cells as an AnnData, with the truth beside them, or in the schema of Open Problems."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from .. import __version__
from ..config import SimulationConfig
from ..config.simulation import GROUP
from ..errors import BadInput, OutputExists
from ..generation.store import layout_of
from ..io.append import COUNTS, CellBlock
from ..io.reading import read_part
from ..provenance import KEY, Provenance
from .droplets import Droplets
from .effects import Effects, batch_names, group_names

SIMULATION, RECORD = "simulation", "record"
BATCH, DOUBLET, PARTNER, AMBIENT = "batch", "is_doublet", "partner", "ambient_fraction"
NATIVE_COUNTS, NORMALIZED = "native_counts", "normalized"
IS_DE, LOG2_FOLD_CHANGE, LOG2_BATCH_FACTOR = "is_de", "log2_fold_change", "log2_batch_factor"


@dataclass(frozen=True, eq=False)
class Truth:
    """What was planted: `partners` (doublet, variable) are the labels of the second cells, `native` the counts without
    ambient ones, which are so many of each cell, `ambient` (cell,); None where none are. `record` is JSON of it all."""

    config: SimulationConfig
    effects: Effects
    droplets: Droplets
    partners: np.ndarray
    native: sparse.csr_matrix | None
    ambient: np.ndarray | None
    record: str


def as_adata(block: CellBlock, provenance: Provenance, truth: Truth, batch_size: int) -> AnnData:
    """Cells of `block`, number 0 and on.

    obs: `group`, `batch`, `is_doublet`, `partner_COLUMN`, `ambient_fraction`; var: `is_de`, and `log2_fold_change`
    where one category has any; varm: `log2_fold_change` (gene, category) and `log2_batch_factor` (gene, batch); uns
    "simulation": the settings, and what is one number a batch. Only of what was planted. A column of the model's that
    has the name of one of them is kept, and the planted one is called `planted_NAME`.
    """
    layout = layout_of(provenance)
    obs = layout.obs(block, 0)
    uns = {SIMULATION: _settings(truth)}
    for name, column in _columns(truth, layout.columns, block.counts).items():
        name = free_name(name, [own for own, _ in layout.columns])
        obs[name] = column
    genes = pd.DataFrame(index=pd.Index(layout.genes, name="gene"))
    open_problems = truth.config.schema == "open-problems"
    layers: dict[str, Any] = {COUNTS: block.counts}
    if truth.native is not None:
        layers[NATIVE_COUNTS] = truth.native
    if open_problems:
        genes["feature_name"] = list(layout.genes)
        layers[NORMALIZED] = block.cells
        uns |= _identifiers(provenance)
    cells = AnnData(None if open_problems else block.cells, obs=obs, var=genes, layers=layers)
    _add_gene_truth(cells, truth.effects, truth.config)
    cells.uns |= uns
    cells.uns[KEY] = provenance.to_uns() | {"batch_size": batch_size}
    return cells


def free_name(name: str, taken: Collection[str]) -> str:
    """The name, or `planted_NAME` where it is taken."""
    return f"planted_{name}" if name in taken else name


def _columns(truth: Truth, variables: Any, counts: sparse.csr_matrix) -> dict[str, Any]:
    """Columns of obs, of what was planted."""
    config, droplets, found = truth.config, truth.droplets, {}
    for name, codes, names in (
        (GROUP, droplets.group, group_names(config)), (BATCH, droplets.batch, batch_names(config))
    ):  # fmt: skip
        if names:
            found[name] = pd.Categorical.from_codes(codes, categories=list(names))
    if config.doublets:
        found[DOUBLET] = droplets.is_doublet
        for place, (name, names) in enumerate(variables):
            codes = np.full(len(droplets.group), -1, np.int32)
            codes[droplets.hosts] = truth.partners[:, place]
            found[f"{PARTNER}_{name}"] = pd.Categorical.from_codes(codes, categories=list(names))
    if truth.ambient is not None:
        total = np.asarray(counts.sum(axis=1), np.float64).ravel()
        found[AMBIENT] = (truth.ambient / np.maximum(total, 1)).astype(np.float32)
    return found


def _add_gene_truth(cells: AnnData, effects: Effects, config: SimulationConfig) -> None:
    """Which genes, and which effect."""
    genes = cells.var_names
    if effects.categories:
        cells.var[IS_DE] = effects.is_de
        table = pd.DataFrame(effects.fold_changes.T.astype(np.float32), index=genes, columns=list(effects.categories))
        cells.varm[LOG2_FOLD_CHANGE] = table
        affected = np.flatnonzero(np.any(effects.fold_changes != 0, axis=1))
        if len(affected) == 1:
            cells.var[LOG2_FOLD_CHANGE] = table.iloc[:, affected[0]].to_numpy()
    if config.batch_strength:
        names = list(batch_names(config))
        cells.varm[LOG2_BATCH_FACTOR] = pd.DataFrame(effects.batches.T.astype(np.float32), index=genes, columns=names)


def _settings(truth: Truth) -> dict[str, Any]:
    """What files can hold of the settings, the factor of depth of each batch, and the record."""
    settings = {name: value for name, value in asdict(truth.config).items() if value is not None}
    settings["log2_fold_change"] = np.array(truth.config.log2_fold_change)
    settings["de_cell_types"] = np.array(truth.config.de_cell_types, object)
    settings["batch_depth_factor"] = np.exp2(truth.effects.depths)
    return settings | {RECORD: truth.record, "version": __version__}


def _identifiers(provenance: Provenance) -> dict[str, str]:
    source = re.sub(r"[^A-Za-z0-9_]+", "_", provenance.metadata.source).strip("_").lower()
    target = provenance.metadata.normalization.target_sum
    scale = "log" if target is None else f"log_cp{f'{target / 1000:g}k' if target >= 1000 else f'{target:g}'}"
    return {"dataset_id": f"scrdit_jax/{source}", "method_id": "scrdit_jax", "normalization_id": scale}


def is_written(path: Path, record: str) -> bool:
    """Whether `path` holds the cells of this `record` already; OutputExists if it holds anything else."""
    if not path.exists():
        return False
    try:
        found = read_part(path, f"uns/{SIMULATION}/{RECORD}")
    except BadInput:
        found = None
    if found is None or str(found) != record:
        raise OutputExists(
            f"{path} is there already and holds {'something else' if found is None else 'another simulation'}; "
            "choose another --out or move it"
        )
    return True
