"""Cells as they come, checked, selected, brought to the log scale and split; their genes are not chosen yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from ..conditioning.derived import is_derived
from ..conditioning.variables import Variable, categorical
from ..config import DataConfig
from ..errors import BadInput, UnknownCellType
from ..io.backed import BackedMatrix, Cells, make_cells
from ..io.checking import Matrix, listed, notes_of
from .normalizing import Normalization
from .splitting import held_out_mask
from .statistics import CellStatistics, survey

DEFAULT_CELL_TYPE_KEY = "cell_type"


class SplitCells(NamedTuple):
    """`cells` on the log scale with all their genes, which of them are `held_out` (cell,) bool, how they were brought
    to the scale, the column `key` that holds their types (None: none), the `digest` of them as they came, and sentences
    for the user."""

    cells: Cells
    held_out: np.ndarray
    normalization: Normalization
    key: str | None
    digest: str
    notes: tuple[str, ...]

    @classmethod
    def of(
        cls,
        cells: Cells,
        config: DataConfig,
        normalise: Callable[[Cells, CellStatistics], tuple[Cells, Normalization]],
        *,
        source: str,
        known: Sequence[Variable] = (),
    ) -> SplitCells:
        """Checked `cells`, gone through once, then selected, brought to the scale and split as `config` says.

        Categories of `known` variables may have few cells. Raises BadInput or UnknownCellType.
        """
        digest, statistics = survey(cells, source)
        cells, statistics, key, notes = _cells_of_types(cells, statistics, config, source)
        cells = categorical(cells, config.condition_on, source, known=known)
        replaced = [name for name in cells.obs if name in ("library_size", "split") or is_derived(name)]
        cells, normalization = normalise(cells, statistics)
        notes = [*notes_of(cells), *notes, normalization.sentence]
        notes += [f"the column {name!r} of obs was replaced" for name in replaced]
        held_out = _held_out(cells, config, source)
        notes.append(f"{int(np.sum(~held_out))} cells for training, {int(np.sum(held_out))} held out")
        return cls(cells, held_out, normalization, key, digest, tuple(notes))

    @property
    def training_obs(self) -> pd.DataFrame:
        """The table of the cells that are not held out."""
        return self.cells.obs[~self.held_out]

    def of_genes(self, columns: np.ndarray) -> Cells:
        """The cells with the genes of these columns alone, in any order, and `obs.split`; X is CSR or on a disk."""
        x = rows_of(self.cells.X[:, columns])
        if not isinstance(x, BackedMatrix):
            x.sort_indices()
        split = pd.Categorical(np.where(self.held_out, "held_out", "train"), categories=["train", "held_out"])
        obs = _plain(without_derived(self.cells.obs).assign(split=split))
        return make_cells(x, obs, _plain(self.cells.var.iloc[columns]))

    def record(self) -> dict[str, Any]:
        """What metadata say of the cells themselves."""
        n_train = int(np.sum(~self.held_out))
        return {
            "cell_type_key": self.key,
            "cell_types": _counts(self.training_obs[self.key]) if self.key else {},
            "n_train": n_train,
            "n_held_out": len(self.held_out) - n_train,
            "digest": self.digest,
        }


def without_derived(table: pd.DataFrame) -> pd.DataFrame:
    """Without the columns of cells' states."""
    return table.drop(columns=[name for name in table if is_derived(name)])


def rows_of(x: Matrix) -> sparse.csr_matrix | BackedMatrix:
    """`x` as CSR float32, or as it lies on the disk."""
    return x if isinstance(x, BackedMatrix) else sparse.csr_matrix(x, dtype=np.float32)


def _held_out(cells: Cells, config: DataConfig, source: str) -> np.ndarray:
    """(cell,) bool: the cells that are held out; BadInput where under 2 are left to train on."""
    held_out = held_out_mask(cells.obs_names, config.held_out, config.seed)
    if (n_train := int(np.sum(~held_out))) < 2:
        raise BadInput(
            f"{source}: {n_train} of its {cells.n_obs} cells fall to training ({config.held_out:g} held out); "
            "there must be at least 2: give more cells, name more cell types, or hold out less"
        )
    return held_out


def _cells_of_types(
    cells: Cells, statistics: CellStatistics, config: DataConfig, source: str
) -> tuple[Cells, CellStatistics, str | None, list[str]]:
    """The cells of the named types (all, without names) and their statistics, the column that holds the types, and what
    to say about it."""
    key = config.cell_type_key or DEFAULT_CELL_TYPE_KEY
    if config.cell_type_key is None and not config.cell_types:
        if key not in cells.obs or cells.obs[key].dtype.kind in "biufc":
            return cells, statistics, None, []
        if cells.obs[key].isna().any():
            missing = int(cells.obs[key].isna().sum())
            return cells, statistics, None, [f"obs[{key!r}] lacks {missing} labels; cell types were not used"]
    if key not in cells.obs:
        there = f"obs has {listed(cells.obs.columns)}" if len(cells.obs.columns) else "obs has no columns"
        raise BadInput(f"{source} has no column {key!r} for cell types; {there}: pass one as --cell-type-key")
    if missing := int(cells.obs[key].isna().sum()):
        raise BadInput(
            f"{source}: obs[{key!r}] lacks the label of {missing} of {cells.n_obs} cells; label them or leave them out"
        )
    labels = cells.obs[key].astype(str)
    there = sorted(labels.unique())
    order = map(str, cells.obs[key].cat.categories) if cells.obs[key].dtype == "category" else there
    for name in config.cell_types:
        if name not in there:
            raise UnknownCellType(f"{source} has no cell type {name!r} in obs[{key!r}]; there are {listed(there)}")
    chosen = labels.isin(config.cell_types).to_numpy() if config.cell_types else np.ones(cells.n_obs, dtype=bool)
    notes = [f"{int(chosen.sum())} of {cells.n_obs} cells are {listed(config.cell_types)}"] * bool(config.cell_types)
    types = pd.Categorical(labels[chosen], categories=[name for name in order if name in set(labels[chosen])])
    selected = cells if chosen.all() else cells[chosen]
    obs = selected.obs.assign(**{key: types})
    return make_cells(selected.X, obs, cells.var, dict(cells.uns)), statistics[chosen], key, notes


def _counts(labels: pd.Series) -> dict[str, int]:
    return {str(name): int(n) for name, n in labels.value_counts().sort_index().items() if n}


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """Columns of mixed things as words, which every file format can hold."""
    mixed = [name for name, dtype in table.dtypes.items() if pd.api.types.is_object_dtype(dtype)]
    return table.assign(**{name: table[name].astype(str) for name in mixed})
