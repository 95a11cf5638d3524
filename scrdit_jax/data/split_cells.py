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
from ..errors import BadInput
from ..io.backed import BackedMatrix, Cells, make_cells
from ..io.checking import Matrix, notes_of
from .cell_types import TypedCells, cells_of_types, counted
from .normalizing import Normalization
from .splitting import MOST_KEPT, split_cells, validation_sentence
from .statistics import CellStatistics, GeneStatistics, survey


class SplitCells(NamedTuple):
    """`cells` on the log scale with all their genes, which of them are `held_out` (cell,) bool, how they were brought
    to the scale, the column `key` that holds their types (None: none), the `digest` of them as they came, sentences for
    the user, the statistics of the `genes` over the training cells, and the `donor_border` of `splitting.Split`."""

    cells: Cells
    held_out: np.ndarray
    normalization: Normalization
    key: str | None
    digest: str
    notes: tuple[str, ...]
    genes: GeneStatistics
    donor_border: float | None = None

    @classmethod
    def of(
        cls,
        whole: Cells,
        config: DataConfig,
        normalise: Callable[[Cells, CellStatistics], tuple[Cells, Normalization]],
        target_sum_of: Callable[[CellStatistics], float | None],
        *,
        source: str,
        known: Sequence[Variable] = (),
        border: float | None = None,
    ) -> SplitCells:
        """Checked cells, gone through once, selected, brought to the scale and split as `config` says.

        `target_sum_of` is asked of the first cells' statistics what `normalise` will scale to: where it is wrong, the
        cells are gone through again. Categories of `known` variables may have few cells; `border` is what
        an earlier split found for donors. Raises BadInput or UnknownCellType.
        """
        typed, linear = cells_of_types(whole, config, source), config.gene_selection == "hvg"
        cells = categorical(_of_types(whole, typed), config.condition_on, source, known=known)
        split = split_cells(whole.obs, config, source, among=typed.chosen, border=border)
        found = survey(whole, typed.chosen & ~split.held_out, target_sum_of, linear=linear, source=source)
        statistics = found.cells[typed.chosen]
        held_out = split.held_out[typed.chosen & (found.cells.library_size > 0)]
        replaced = [name for name in cells.obs if name in ("library_size", "split") or is_derived(name)]
        cells, normalization = normalise(cells, statistics)
        notes = [*notes_of(cells), *typed.notes, normalization.sentence]
        notes += [f"the column {name!r} of obs was replaced" for name in replaced]
        notes += [_sizes(held_out, config, source), *split.notes]
        notes += validation_sentence(cells.obs[held_out], config, source)
        genes = found.genes
        if found.target_sum != normalization.target_sum:
            genes = GeneStatistics.of_all(cells.X[~held_out], linear=linear)
        return cls(cells, held_out, normalization, typed.key, found.digest, tuple(notes), genes, split.border)

    @property
    def training_obs(self) -> pd.DataFrame:
        """The table of the cells that are not held out."""
        return self.cells.obs[~self.held_out]

    def of_genes(self, columns: np.ndarray) -> Cells:
        """The cells with the genes of these columns alone, in any order, and `obs.split`; X is CSR or on a disk."""
        x = as_rows(self.cells.X[:, columns])
        split = pd.Categorical(np.where(self.held_out, "held_out", "train"), categories=["train", "held_out"])
        obs = _plain(without_derived(self.cells.obs).assign(split=split))
        return make_cells(x, obs, _plain(self.cells.var.iloc[columns]))

    def share_of(self, columns: np.ndarray) -> float:
        """Of the training cells' values, what the genes of these columns hold."""
        return float(self.genes.expressing[columns].sum() / self.genes.expressing.sum())

    def record(self) -> dict[str, Any]:
        """What metadata say of the cells themselves."""
        n_train = int(np.sum(~self.held_out))
        return {
            "cell_type_key": self.key,
            "cell_types": counted(self.training_obs[self.key]) if self.key else {},
            "n_train": n_train,
            "n_held_out": len(self.held_out) - n_train,
            "digest": self.digest,
            "donor_border": self.donor_border,
        }


def without_derived(table: pd.DataFrame) -> pd.DataFrame:
    """Without the columns of cells' states."""
    return table.drop(columns=[name for name in table if is_derived(name)])


def as_rows(x: Matrix) -> sparse.csr_matrix | BackedMatrix:
    """As it is on the disk; in memory CSR with sorted indices, which columns that do not ascend leave unsorted."""
    if isinstance(x, BackedMatrix):
        return x
    rows = sparse.csr_matrix(x, dtype=np.float32)
    rows.sort_indices()
    return rows


def _of_types(cells: Cells, typed: TypedCells) -> Cells:
    """The chosen cells, with their types."""
    if typed.types is None:
        return cells
    selected: Any = cells if typed.chosen.all() else cells[typed.chosen]
    return make_cells(selected.X, selected.obs.assign(**{typed.key: typed.types}), selected.var, dict(cells.uns))


def _sizes(held_out: np.ndarray, config: DataConfig, source: str) -> str:
    """How many cells are to be trained on, and how many not; BadInput where under 2 are left to train on."""
    n_held_out = int(np.sum(held_out))
    if (n_train := len(held_out) - n_held_out) < 2:
        raise BadInput(
            f"{source}: {n_train} of its {len(held_out)} cells fall to training ({config.held_out:g} held out); "
            "there must be at least 2: give more cells, name more cell types, or hold out less"
        )
    kept = f", {MOST_KEPT} of which a run keeps" if n_held_out > MOST_KEPT else ""
    return f"{n_train} cells for training, {n_held_out} held out{kept}"


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """Columns of mixed things as words, which every file format can hold."""
    mixed = [name for name, dtype in table.dtypes.items() if pd.api.types.is_object_dtype(dtype)]
    return table.assign(**{name: table[name].astype(str) for name in mixed})
