"""From checked cells to what a model is trained on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .. import strict_json
from ..conditioning.state import LIBRARY_SIZE, StateSpace, no_axes
from ..conditioning.variables import Variable, find_variables
from ..config import DataConfig, GeneGroups
from ..errors import BadConfig, BadInput, OutputExists
from ..io.backed import BackedMatrix, Cells, make_cells, rows_of
from ..io.checking import check_cells, row_blocks
from ..io.hdf5 import open_hdf5
from ..io.writing import check_suffix, write_cells
from ..registry import DERIVED
from .chosen_genes import fit_chosen_genes
from .gene_order import in_order
from .genes import choose_genes
from .marginals import gene_marginals
from .metadata import AXES_KEY, METADATA_KEY, DatasetMetadata
from .normalizing import normalize, target_sum_of
from .split_cells import SplitCells, as_rows, without_derived
from .splitting import kept_mask


@dataclass(frozen=True)
class Prepared:
    """Cells on the log scale with the chosen genes (X CSR float32, `obs.split`, `obs.library_size`), their metadata
    and, where they were just prepared, the training cells' `marginals` and the `share` that the chosen genes have of
    the values above zero that training cells have.

    Their states are columns of obs, measured along `axes` (set, gene + 1, n); see conditioning.state.
    """

    cells: Cells
    metadata: DatasetMetadata
    axes: np.ndarray
    marginals: np.ndarray | None = None
    share: float | None = None

    def gene_marginals(self) -> np.ndarray:
        """The marginals of the training cells, (gene, 3) float32: found when they were prepared, or now."""
        return gene_marginals(self.train.X) if self.marginals is None else self.marginals

    @property
    def space(self) -> StateSpace:
        """What the cells' states are made of."""
        return StateSpace(self.metadata.state, self.axes)

    def training_states(self, *, apart: bool) -> np.ndarray:
        """States (cell, column) float32 of the training cells; `apart`, along axes that were found without them, where
        there are any."""
        train = self.train
        if len(self.axes) == 1 or not apart:
            columns = [train.obs[column.name].to_numpy(np.float32) for column in self.metadata.state]
            return np.stack(columns, axis=1) if columns else np.zeros((train.n_obs, 0), np.float32)
        x = rows_of(train.X, np.arange(train.n_obs))
        return self.space.states_apart(x, train.obs["library_size"].to_numpy())

    def in_space(self, space: StateSpace) -> Prepared:
        """The same cells with their states in another `space`, such as that of a checkpoint: all cells are read."""
        library = self.cells.obs["library_size"].to_numpy()
        blocks = zip(row_blocks(self.cells.X), row_blocks(library), strict=True)
        states = np.concatenate([space.states(*block) for block in blocks])
        metadata = replace(self.metadata, state=space.columns)
        return replace(self, cells=_with_states(self.cells, space, states), metadata=metadata, axes=space.axes)

    @property
    def on_disk(self) -> bool:
        """Whether the cells are on a disk, and not in memory."""
        return isinstance(self.cells.X, BackedMatrix)

    @property
    def train(self) -> Cells:
        """The cells to train on, a view."""
        return self.cells[(self.cells.obs["split"] == "train").to_numpy()]

    @property
    def held_out(self) -> Cells:
        """The cells never trained on, a view; MOST_KEPT of them at most, chosen by their names."""
        there = (self.cells.obs["split"] == "held_out").to_numpy(copy=True)
        there[there] = kept_mask(self.cells.obs_names[there], self.metadata.settings.seed)
        return self.cells[there]


def prepare(
    adata: Cells, config: DataConfig, *, multiple_of: int, source: str, groups: GeneGroups | None = None
) -> Prepared:
    """Check, select cell types, normalise, split, choose genes and fit the scaling; the input is not changed.

    Genes and scaling are decided on the training cells alone. Cells on a disk are gone through once, and once more
    where the model is conditioned on numbers that are found in the chosen genes. `source` names the input, `groups`
    are the network's, for the order of the genes. Raises BadInput or UnknownCellType.
    """
    split = SplitCells.of(
        check_cells(adata, source, values=False),
        config,
        lambda cells, statistics: normalize(cells, config, statistics=statistics, source=source),
        partial(target_sum_of, config),
        source=source,
    )
    cells, held_out, genes = split.cells, split.held_out, split.genes
    columns, sentences = choose_genes(genes, config, multiple_of=multiple_of, source=source)
    variables = find_variables(split.training_obs, config.condition_on, source)
    columns, gene_order = in_order(cells.X, held_out, columns, config, groups or GeneGroups())

    chosen, library = split.of_genes(columns), cells.obs["library_size"].to_numpy()
    counts = split.normalization.were_counts
    fitted = fit_chosen_genes(chosen.X, library, held_out, config, genes[columns], counts=counts)
    metadata = DatasetMetadata(
        **split.record(),
        genes=tuple(chosen.var_names),
        normalization=split.normalization,
        scaling=fitted.scaling,
        settings=config,
        source=source,
        notes=(*split.notes, *sentences, *_conditioned_on(variables, fitted.space)),
        variables=variables,
        state=fitted.space.columns,
        gene_order=gene_order,
    )
    chosen = _with_states(chosen, fitted.space, fitted.states)
    return Prepared(chosen, metadata, fitted.space.axes, fitted.marginals, split.share_of(columns))


def _conditioned_on(variables: tuple[Variable, ...], space: StateSpace) -> list[str]:
    """A sentence, where there is anything to say."""
    words = [f"{v.name} ({len(v.categories)} categories)" for v in variables]
    given = [column.source for column in space.columns if column.conditioned]
    for kind in dict.fromkeys(given):
        count = given.count(kind)
        words.append(f"{count} {DERIVED[kind].title}" if count > 1 else DERIVED[kind].title)
    return ["conditioned on " + ", ".join(words)] if words else []


def _with_states(cells: Cells, space: StateSpace, states: np.ndarray) -> Cells:
    """The same cells with `states` (cell, column) in obs."""
    table: Any = cells
    names = [column.name for column in space.columns]
    obs = without_derived(table.obs).assign(**dict(zip(names, states.T, strict=True)))
    return make_cells(table.X, obs, table.var, dict(table.uns))


def of_type(prepared: Prepared, name: str) -> Prepared:
    """Only the cells of one cell type, with the genes and the scaling of all; conditioned on nothing."""
    metadata = prepared.metadata
    cells = prepared.cells[(prepared.cells.obs[metadata.cell_type_key] == name).to_numpy()].copy()
    held_out = int((cells.obs["split"] == "held_out").sum())
    state = tuple(replace(column, conditioned=False) for column in metadata.state if column.source == LIBRARY_SIZE)
    metadata = replace(
        metadata,
        cell_types={name: cells.n_obs - held_out},
        variables=(),
        state=state,
        n_train=cells.n_obs - held_out,
        n_held_out=held_out,
        settings=replace(metadata.settings, cell_type_key=metadata.cell_type_key, cell_types=(name,), derive=()),
        digest=hashlib.sha256(f"{metadata.digest}\n{name}".encode()).hexdigest(),
        notes=(*metadata.notes, f"of these the cells of type {name!r}: {cells.n_obs - held_out} for training"),
    )
    return Prepared(cells, metadata, prepared.axes[:1, :, :0])


def is_prepared(adata: Cells) -> bool:
    """Whether these cells came from `write_prepared`."""
    return METADATA_KEY in adata.uns


def prepared_from(adata: Cells) -> Prepared:
    """The Prepared that was written; BadInput where the cells or genes were changed since."""
    try:
        metadata = DatasetMetadata.from_dict(strict_json.parse(str(adata.uns[METADATA_KEY])))
        axes = np.asarray(adata.uns.get(AXES_KEY, no_axes(adata.n_vars)), np.float32)
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError, BadConfig) as error:
        reason = " ".join(str(error).split())[:120]
        raise BadInput(f"uns[{METADATA_KEY!r}] cannot be understood ({reason}); prepare the cells again") from error
    cells = make_cells(as_rows(adata.X), adata.obs.copy(), adata.var.copy())
    split = cells.obs["split"].value_counts() if "split" in cells.obs else {}
    found = (split.get("train", 0), split.get("held_out", 0))
    if metadata.normalization.were_counts and not metadata.state:
        raise BadInput("these cells were prepared by a version before 0.3, without their states; prepare them again")
    states_there = all(column.name in cells.obs for column in metadata.state)
    counted = found == (metadata.n_train, metadata.n_held_out)
    if tuple(cells.var_names) != metadata.genes or not counted or not states_there:
        raise BadInput(
            f"prepared cells were changed since: {found[0]} training and {found[1]} held-out cells x {cells.n_vars} "
            f"genes, {metadata.n_train} and {metadata.n_held_out} x {len(metadata.genes)} recorded; prepare them again"
        )
    if axes.ndim != 3 or axes.shape[1] != cells.n_vars + 1:
        raise BadInput(f"uns[{AXES_KEY!r}] has the shape {axes.shape}, not that of the genes; prepare them again")
    return Prepared(cells, metadata, axes)


def write_prepared(prepared: Prepared, path: str | Path) -> Path:
    """Write .h5ad or .zarr, in an atomic write.

    A prepared file that is there already is replaced; anything else raises OutputExists.
    """
    path = Path(path)
    check_suffix(path, "prepared cells")
    if path.exists() and not _holds_prepared(path):
        raise OutputExists(f"{path} is there already and holds no prepared cells; choose another --out or move it")
    cells, axes = prepared.cells, {AXES_KEY: prepared.axes} if prepared.axes.size else {}
    uns = {METADATA_KEY: json.dumps(prepared.metadata.to_dict()), **axes}
    write_cells(make_cells(cells.X, cells.obs, cells.var, uns), path)
    return path


def _holds_prepared(path: Path) -> bool:
    if path.is_dir():
        return (path / "uns" / METADATA_KEY).exists()
    if not h5py.is_hdf5(path):
        return False
    with open_hdf5(path) as file:
        return f"uns/{METADATA_KEY}" in file
