"""From checked cells to what a model is trained on, and other cells to a model's genes and scale."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
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
from ..errors import BadConfig, BadInput, GeneMismatch, OutputExists, UnknownCellType
from ..io.backed import BackedMatrix, Cells, make_cells
from ..io.checking import Matrix, check_cells, listed, notes_of, row_blocks, with_notes
from ..io.writing import check_suffix, write_cells
from ..registry import DERIVED
from .chosen_genes import fit_chosen_genes
from .gene_order import in_order
from .genes import choose_genes
from .marginals import gene_marginals
from .metadata import AXES_KEY, METADATA_KEY, DatasetMetadata
from .normalizing import Normalization, normalize, normalize_like
from .splitting import held_out_mask
from .statistics import CellStatistics, SelectionStatistics, survey

DEFAULT_CELL_TYPE_KEY = "cell_type"


@dataclass(frozen=True)
class Prepared:
    """Cells on the log scale with the chosen genes (X CSR float32, `obs.split`, `obs.library_size`), their metadata
    and, where they were just prepared, the training cells' `marginals`.

    Their states are columns of obs, measured along `axes` (set, gene + 1, n); see conditioning.state.
    """

    cells: Cells
    metadata: DatasetMetadata
    axes: np.ndarray
    marginals: np.ndarray | None = None

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
        x = train.X.take(np.arange(train.n_obs)) if self.on_disk else train.X
        return self.space.states_apart(x, train.obs["library_size"].to_numpy())

    def in_space(self, space: StateSpace) -> Prepared:
        """The same cells with their states in another `space`, such as that of a checkpoint: all cells are read."""
        library = self.cells.obs["library_size"].to_numpy()
        blocks = zip(row_blocks(self.cells.X), row_blocks(library), strict=True)
        states = np.concatenate([space.states(*block) for block in blocks])
        metadata = replace(self.metadata, state=space.columns)
        return Prepared(_with_states(self.cells, space, states), metadata, space.axes, self.marginals)

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
        """The cells never trained on, a view."""
        return self.cells[(self.cells.obs["split"] == "held_out").to_numpy()]


def prepare(
    adata: Cells, config: DataConfig, *, multiple_of: int, source: str, groups: GeneGroups | None = None
) -> Prepared:
    """Check, select cell types, normalise, split, choose genes and fit the scaling; the input is not changed.

    Genes and scaling are decided on the training cells alone. Cells on a disk are gone through four times. `source`
    names the input; `groups` are the network's, for the order of the genes. Raises BadInput or UnknownCellType.
    """
    cells = check_cells(adata, source, values=False)
    digest, statistics = survey(cells, source)
    cells, statistics, key, notes = _cells_of_types(cells, statistics, config, source)
    cells = categorical(cells, config.condition_on, source)
    replaced = [name for name in cells.obs if name in ("library_size", "split") or is_derived(name)]
    cells, normalization = normalize(cells, config, statistics=statistics, source=source)
    notes = [*notes_of(cells), *notes, normalization.sentence]
    notes += [f"the column {name!r} of obs was replaced" for name in replaced]

    held_out = _held_out(cells, config, source)
    n_train, n_held_out = int(np.sum(~held_out)), int(np.sum(held_out))
    notes.append(f"{n_train} cells for training, {n_held_out} held out")
    selection = SelectionStatistics.of_all(cells.X[~held_out])
    columns, sentences = choose_genes(selection, config, multiple_of=multiple_of, source=source)
    variables = find_variables(cells.obs[~held_out], config.condition_on, source)
    columns, gene_order = in_order(cells.X, held_out, columns, config, groups or GeneGroups())

    x = _rows(cells.X[:, columns])
    library = cells.obs["library_size"].to_numpy()
    fitted = fit_chosen_genes(x, library, held_out, config, counts=normalization.were_counts)
    split = pd.Categorical(np.where(held_out, "held_out", "train"), categories=["train", "held_out"])
    obs = _plain(_without_derived(cells.obs).assign(split=split))
    chosen = _with_states(make_cells(x, obs, _plain(cells.var.iloc[columns])), fitted.space, fitted.states)
    metadata = DatasetMetadata(
        genes=tuple(chosen.var_names),
        normalization=normalization,
        scaling=fitted.scaling,
        cell_type_key=key,
        cell_types=_counts(obs[key][~held_out]) if key else {},
        n_train=n_train,
        n_held_out=n_held_out,
        settings=config,
        source=source,
        digest=digest,
        notes=(*notes, *sentences, *_conditioned_on(variables, fitted.space)),
        variables=variables,
        state=fitted.space.columns,
        gene_order=gene_order,
    )
    return Prepared(chosen, metadata, fitted.space.axes, fitted.marginals)


def _held_out(cells: Cells, config: DataConfig, source: str) -> np.ndarray:
    """(cell,) bool: the cells that are held out; BadInput where under 2 are left to train on."""
    held_out = held_out_mask(cells.obs_names, config.held_out, config.seed)
    if (n_train := int(np.sum(~held_out))) < 2:
        raise BadInput(
            f"{source}: {n_train} of its {cells.n_obs} cells fall to training ({config.held_out:g} held out); "
            "there must be at least 2: give more cells, name more cell types, or hold out less"
        )
    return held_out


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


def _is_on_scale(cells: AnnData, statistics: CellStatistics, metadata: DatasetMetadata) -> bool:
    """Exactly the model's genes, and values that are no raw counts (or a model of values left as they came)."""
    same_genes = set(cells.var_names) == set(metadata.genes)
    return same_genes and (metadata.normalization.method == "none" or not statistics.are_counts)


def _named(normalization: Normalization) -> str:
    method, target_sum = normalization.method, normalization.target_sum
    return f"{method!r}" if target_sum is None else f"{method!r} to {target_sum:g}"


def _rows(x: Matrix) -> sparse.csr_matrix | BackedMatrix:
    return x if isinstance(x, BackedMatrix) else sparse.csr_matrix(x, dtype=np.float32)


def _holds_prepared(path: Path) -> bool:
    if path.is_dir():
        return (path / "uns" / METADATA_KEY).exists()
    if not h5py.is_hdf5(path):
        return False
    with h5py.File(path) as file:
        return f"uns/{METADATA_KEY}" in file
