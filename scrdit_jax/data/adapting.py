"""Other cells brought to a model's genes and scale: to compare with its own, or to train it further on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from ..conditioning.state import StateSpace
from ..conditioning.variables import Variable, extended
from ..config import DataConfig
from ..errors import BadInput, GeneMismatch
from ..io.backed import Cells
from ..io.checking import check_cells, listed, notes_of, with_notes
from .metadata import AXES_KEY, METADATA_KEY, DatasetMetadata
from .normalizing import Normalization, normalize_like
from .preparing import Prepared, is_prepared, prepared_from
from .split_cells import SplitCells
from .splitting import same_split
from .statistics import CellStatistics


def align(adata: AnnData, metadata: DatasetMetadata, *, source: str) -> AnnData:
    """Other cells on the model's log scale with the model's genes in its order; X is CSR float32.

    Normalised as the model's cells were, over all genes the file has. A prepared or synthetic file, which is on that
    scale and has exactly these genes, is left alone. `notes_of` the result says what was done. Raises GeneMismatch
    where genes are missing, BadInput where the scale cannot be matched.
    """
    cells = check_cells(adata, source)
    columns = _columns_of(cells, metadata.genes, source)
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


def adapt(adata: Cells, known: DatasetMetadata, axes: np.ndarray, settings: DataConfig, *, source: str) -> Prepared:
    """Cells to train a model further on, whose own cells left the metadata `known` and the `axes` of their states.

    Genes, normalisation, scaling and what states are made of are the model's; `settings` say which of the cells are
    used and held out. Where the model keeps each gene within what its cells had, these cells widen the range. A
    variable has the model's categories first, then those that are new. The input is not changed; cells on a disk are
    gone through twice. Raises GeneMismatch where genes are missing, BadInput or UnknownCellType.
    """
    cells = check_cells(adata, source, values=False)
    columns = _columns_of(cells, known.genes, source)
    split = SplitCells.of(
        cells,
        settings,
        lambda cells, statistics: _like_counts(cells, known.normalization, statistics, source),
        lambda statistics: known.normalization.target_sum,
        source=source,
        known=known.variables,
        border=known.donor_border if same_split(known.settings, settings) else None,
    )
    chosen = split.of_genes(columns)
    variables = extended(known.variables, split.training_obs, source)
    others = cells.n_vars - len(columns)
    notes = (
        f"continues the model that was trained on {known.source} ({known.n_train} cells)",
        *split.notes,
        f"{len(columns)} genes are the model's" + f", {others} others were left out" * bool(others),
        *_categories_said(known.variables, variables),
    )
    metadata = replace(
        known,
        **split.record(),
        normalization=replace(known.normalization, sentence=split.normalization.sentence),
        scaling=known.scaling.widened(split.genes[columns]),
        settings=settings,
        source=source,
        notes=notes,
        variables=variables,
    )
    return Prepared(chosen, metadata, axes, share=split.share_of(columns)).in_space(StateSpace(known.state, axes))


def _like_counts(
    cells: Cells, recorded: Normalization, statistics: CellStatistics, source: str
) -> tuple[Cells, Normalization]:
    """`normalize_like`; BadInput, too, where the model's cells were counts, whose library sizes it knows, and these are
    not."""
    cells, normalization = normalize_like(cells, recorded, statistics=statistics, source=source)
    if recorded.were_counts and not normalization.were_counts:
        raise BadInput(
            f"{source} holds values that are not all whole numbers, but the model was trained on raw counts; give raw "
            "counts (a layer, or adata.raw.to_adata(), may hold them)"
        )
    return cells, normalization


def _columns_of(cells: Cells, genes: Sequence[str], source: str) -> np.ndarray:
    """Which columns of `cells` the model's genes are; GeneMismatch where one is missing."""
    columns = cells.var_names.get_indexer(pd.Index(genes))
    if missing := [gene for gene, column in zip(genes, columns, strict=True) if column < 0]:
        raise GeneMismatch(
            f"{source} lacks {len(missing)} of the model's {len(genes)} genes (first: {missing[0]!r}); "
            "give cells of the reference the model was trained on, all genes, with the same kind of names"
        )
    return columns


def _categories_said(known: Sequence[Variable], variables: Sequence[Variable]) -> list[str]:
    """What the cells add to a model's categories, and which of them they have no cell of."""
    said = []
    for before, after in zip(known, variables, strict=True):
        new = after.categories[len(before.categories) :]
        kept = [name for name, count in zip(after.categories, after.counts, strict=True) if not count]
        said.append(f"conditioned on {after.name}: {f'new is {listed(new)}' if new else 'nothing new'}")
        if kept:
            said.append(f"{listed(kept)} in {after.name!r}: none of these cells; what the model knew of it is kept")
    return said


def _is_on_scale(cells: AnnData, statistics: CellStatistics, metadata: DatasetMetadata) -> bool:
    """Exactly the model's genes, and values that are no raw counts (or a model of values left as they came)."""
    same_genes = set(cells.var_names) == set(metadata.genes)
    return same_genes and (metadata.normalization.method == "none" or not statistics.are_counts)


def _named(normalization: Normalization) -> str:
    method, target_sum = normalization.method, normalization.target_sum
    return f"{method!r}" if target_sum is None else f"{method!r} to {target_sum:g}"
