"""From checked cells to what a model is trained on, and other cells to a model's genes and scale."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from ..conditioning.derived import is_derived
from ..conditioning.state import LIBRARY_SIZE, StateSpace, no_axes
from ..conditioning.variables import Variable, categorical, find_variables
from ..config import DataConfig, GeneGroups
from ..errors import BadConfig, BadInput, GeneMismatch, OutputExists
from ..io.backed import BackedMatrix, Cells, make_cells, rows_of
from ..io.checking import Matrix, check_cells, notes_of, row_blocks, with_notes
from ..io.writing import check_suffix, write_cells
from ..registry import DERIVED
from .cell_types import TypedCells, cells_of_types, counted
from .chosen_genes import fit_chosen_genes
from .gene_order import in_order
from .genes import choose_genes
from .marginals import gene_marginals
from .metadata import AXES_KEY, METADATA_KEY, DatasetMetadata
from .normalizing import Normalization, normalize, normalize_like, target_sum_of
from .splitting import MOST_KEPT, held_out_mask, kept_mask
from .statistics import CellStatistics, GeneStatistics, Survey, survey


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
        there = (self.cells.obs["split"] == "held_out").to_numpy()
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
    whole = check_cells(adata, source, values=False)
    typed = cells_of_types(whole, config, source)
    cells, key = _of_types(whole, typed), typed.key
    cells = categorical(cells, config.condition_on, source)
    held_out = held_out_mask(whole.obs_names, config.held_out, config.seed)
    found = _surveyed(whole, typed.chosen & ~held_out, config, source)
    statistics, held_out = found.cells[typed.chosen], held_out[typed.chosen & (found.cells.library_size > 0)]
    replaced = [name for name in cells.obs if name in ("library_size", "split") or is_derived(name)]
    cells, normalization = normalize(cells, config, statistics=statistics, source=source)
    notes = [*notes_of(cells), *typed.notes, normalization.sentence]
    notes += [f"the column {name!r} of obs was replaced" for name in replaced]

    n_train, n_held_out = _sizes(held_out, config, source)
    notes.append(f"{n_train} cells for training, {n_held_out} held out" + _kept(n_held_out))
    genes = found.genes
    if found.target_sum != normalization.target_sum:  # the first cells looked otherwise than all
        genes = GeneStatistics.of_all(cells.X[~held_out], linear=_linear(config))
    columns, sentences = choose_genes(genes, config, multiple_of=multiple_of, source=source)
    variables = find_variables(cells.obs[~held_out], config.condition_on, source)
    columns, gene_order = in_order(cells.X, held_out, columns, config, groups or GeneGroups())

    x = _rows(cells.X[:, columns])
    library = cells.obs["library_size"].to_numpy()
    fitted = fit_chosen_genes(x, library, held_out, config, genes[columns], counts=normalization.were_counts)
    share = float(genes.expressing[columns].sum() / genes.expressing.sum())
    split = pd.Categorical(np.where(held_out, "held_out", "train"), categories=["train", "held_out"])
    obs = _plain(_without_derived(cells.obs).assign(split=split))
    chosen = _with_states(make_cells(x, obs, _plain(cells.var.iloc[columns])), fitted.space, fitted.states)
    metadata = DatasetMetadata(
        genes=tuple(chosen.var_names),
        normalization=normalization,
        scaling=fitted.scaling,
        cell_type_key=key,
        cell_types=counted(obs[key][~held_out]) if key else {},
        n_train=n_train,
        n_held_out=n_held_out,
        settings=config,
        source=source,
        digest=found.digest,
        notes=(*notes, *sentences, *_conditioned_on(variables, fitted.space)),
        variables=variables,
        state=fitted.space.columns,
        gene_order=gene_order,
    )
    return Prepared(chosen, metadata, fitted.space.axes, fitted.marginals, share)


def _surveyed(cells: Cells, training: np.ndarray, config: DataConfig, source: str) -> Survey:
    return survey(cells, training, partial(target_sum_of, config), linear=_linear(config), source=source)


def _linear(config: DataConfig) -> bool:
    """Whether genes are chosen by what they are before the logarithm."""
    return config.gene_selection == "hvg"


def _of_types(cells: Cells, typed: TypedCells) -> Cells:
    """The chosen cells, with their types."""
    if typed.types is None:
        return cells
    selected: Any = cells if typed.chosen.all() else cells[typed.chosen]
    return make_cells(selected.X, selected.obs.assign(**{typed.key: typed.types}), selected.var, dict(cells.uns))


def _sizes(held_out: np.ndarray, config: DataConfig, source: str) -> tuple[int, int]:
    """How many cells are to be trained on, and how many not; BadInput where under 2 are left to train on."""
    n_held_out = int(np.sum(held_out))
    if (n_train := len(held_out) - n_held_out) < 2:
        raise BadInput(
            f"{source}: {n_train} of its {len(held_out)} cells fall to training ({config.held_out:g} held out); "
            "there must be at least 2: give more cells, name more cell types, or hold out less"
        )
    return n_train, n_held_out


def _kept(n_held_out: int) -> str:
    return f", {MOST_KEPT} of which a run keeps" if n_held_out > MOST_KEPT else ""


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
    obs = _without_derived(table.obs).assign(**dict(zip(names, states.T, strict=True)))
    return make_cells(table.X, obs, table.var, dict(table.uns))


def _without_derived(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(columns=[name for name in table if is_derived(name)])


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


def align(adata: AnnData, metadata: DatasetMetadata, *, source: str) -> AnnData:
    """Other cells on the model's log scale with the model's genes in its order; X is CSR float32.

    Normalised as the model's cells were, over all genes the file has. A prepared or synthetic file, which is on that
    scale and has exactly these genes, is left alone. `notes_of` the result says what was done. Raises GeneMismatch
    where genes are missing, BadInput where the scale cannot be matched.
    """
    cells = check_cells(adata, source)
    columns = cells.var_names.get_indexer(metadata.genes)
    missing = [gene for gene, column in zip(metadata.genes, columns, strict=True) if column < 0]
    if missing:
        raise GeneMismatch(
            f"{source} lacks {len(missing)} of the model's {len(metadata.genes)} genes (first: {missing[0]!r}); "
            "give cells of the reference the model was trained on, all genes, with the same kind of names"
        )
    notes = list(notes_of(cells))
    if is_prepared(cells):
        made = prepared_from(cells).metadata.normalization
        if (made.method, made.target_sum) != (metadata.normalization.method, metadata.normalization.target_sum):
            raise BadInput(
                f"{source} was prepared with normalisation {_named(made)}, the model's cells with "
                f"{_named(metadata.normalization)}; give the file it was prepared from"
            )
    else:
        statistics = CellStatistics.of_all(cells.X)
        if not _is_on_scale(cells, statistics, metadata):
            recorded = metadata.normalization
            cells, normalization = normalize_like(cells, recorded, statistics=statistics, source=source)
            notes.append(normalization.sentence)
    result = AnnData(
        sparse.csr_matrix(cells.X[:, columns]), obs=cells.obs.copy(), var=cells.var.iloc[columns].copy(), uns=cells.uns
    )
    result.uns.pop(METADATA_KEY, None), result.uns.pop(AXES_KEY, None)
    return with_notes(result, notes)


def is_prepared(adata: Cells) -> bool:
    """Whether these cells came from `write_prepared`."""
    return METADATA_KEY in adata.uns


def prepared_from(adata: Cells) -> Prepared:
    """The Prepared that was written; BadInput where the cells or genes were changed since."""
    try:
        metadata = DatasetMetadata.from_dict(json.loads(str(adata.uns[METADATA_KEY])))
    except (KeyError, TypeError, ValueError, BadConfig) as error:
        raise BadInput(f"uns[{METADATA_KEY!r}] cannot be understood ({error!r}); prepare the cells again") from error
    cells = make_cells(_rows(adata.X), adata.obs.copy(), adata.var.copy())
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
    axes = adata.uns.get(AXES_KEY, no_axes(cells.n_vars))
    return Prepared(cells, metadata, np.asarray(axes, np.float32))


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


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """Columns of mixed things as words, which every file format can hold."""
    mixed = [name for name, dtype in table.dtypes.items() if pd.api.types.is_object_dtype(dtype)]
    return table.assign(**{name: table[name].astype(str) for name in mixed})


def _is_on_scale(cells: AnnData, statistics: CellStatistics, metadata: DatasetMetadata) -> bool:
    """Exactly the model's genes, and values that are no raw counts (or a model of values left as they came)."""
    same_genes = set(cells.var_names) == set(metadata.genes)
    return same_genes and (metadata.normalization.method == "none" or not statistics.are_counts)


def _named(normalization: Normalization) -> str:
    method, target_sum = normalization.method, normalization.target_sum
    return f"{method!r}" if target_sum is None else f"{method!r} to {target_sum:g}"


def _rows(x: Matrix) -> sparse.csr_matrix | BackedMatrix:
    """As it is on the disk; in memory CSR with sorted indices, which columns that do not ascend leave unsorted."""
    if isinstance(x, BackedMatrix):
        return x
    rows = sparse.csr_matrix(x, dtype=np.float32)
    rows.sort_indices()
    return rows


def _holds_prepared(path: Path) -> bool:
    if path.is_dir():
        return (path / "uns" / METADATA_KEY).exists()
    if not h5py.is_hdf5(path):
        return False
    with h5py.File(path) as file:
        return f"uns/{METADATA_KEY}" in file
