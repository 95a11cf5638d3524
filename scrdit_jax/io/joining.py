"""Several data sets as one: cells below each other, genes that all have, in memory or on the disk."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import anndata
import numpy as np
import pandas as pd
from anndata import AnnData

from ..errors import BadInput
from .backed import BackedCells, BackedMatrix, Cells, ColumnChoice, JoinedStore
from .checking import listed, notes_of, with_notes

# The column of obs that says which file a cell came from, and what joins that name to those of repeated cells.
FILE_COLUMN = "file"
FILE_MARK = "@@"
# Fewer common genes than this share of a file's own are worth a note.
MANY_COMMON = 0.5
FIRST_NAMES = 3


class Part(NamedTuple):
    """The `cells` of a data set, checked, and the `name` that messages and FILE_COLUMN give it."""

    name: str
    cells: Cells


def join(parts: Sequence[Part]) -> Cells:
    """All cells, in order, with the genes that all parts have in the first one's order, and the columns of obs that all
    have, their categories united; FILE_COLUMN says which part a cell is of.

    A cell name that several parts have gets FILE_MARK and the part's name appended in each. What lies on the disk stays
    there. BadInput where no gene is in all parts.
    """
    tables = [AnnData(obs=part.cells.obs, var=part.cells.var) for part in parts]
    names = [part.name for part in parts]
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # repeated names are dealt with below
        together = anndata.concat(tables, join="inner", merge="first", label=FILE_COLUMN, keys=names)
    if not together.n_vars:
        raise _no_common_genes(parts)
    together.obs_names = _made_unique(together.obs_names, together.obs[FILE_COLUMN])
    uns = {key: value for part in parts for key, value in part.cells.uns.items() if key.startswith("scrdit")}
    columns = tuple(
        ColumnChoice(part.cells.var_names.get_indexer(together.var_names), part.cells.n_vars) for part in parts
    )
    if all(isinstance(part.cells, BackedCells) for part in parts):
        store = JoinedStore(tuple(part.cells.X.store for part in parts), columns)
        joined: Cells = BackedCells(BackedMatrix(store, np.arange(together.n_obs)), together.obs, together.var, uns)
    else:
        blocks = [AnnData(part.cells[:, genes.numbers].X) for part, genes in zip(parts, columns, strict=True)]
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # blocks without names of their own
            x = anndata.concat(blocks).X
        joined = AnnData(x, obs=together.obs, var=together.var, uns=uns)
    return with_notes(joined, _notes(parts, together))


def _made_unique(names: pd.Index, files: pd.Series) -> pd.Index:
    repeated = names.duplicated(keep=False)
    if not repeated.any():
        return names
    unique = names.to_numpy(dtype=object, copy=True)
    unique[repeated] = unique[repeated] + FILE_MARK + files.astype(str).to_numpy(dtype=object)[repeated]
    return pd.Index(unique)


def _no_common_genes(parts: Sequence[Part]) -> BadInput:
    """What to say of parts of which no gene is in all: names the first genes of the first two that differ."""
    first = parts[0]
    other = next((part for part in parts[1:] if set(first.cells.var_names).isdisjoint(part.cells.var_names)), parts[-1])
    shown = "; ".join(f"{part.name}: {', '.join(part.cells.var_names[:FIRST_NAMES])}" for part in (first, other))
    return BadInput(
        f"no gene is in all of {listed(part.name for part in parts)} ({shown}); give files with the same kind of gene "
        "names, symbols or Ensembl ids: adata.var_names = adata.var[...]"
    )


def _notes(parts: Sequence[Part], together: AnnData) -> list[str]:
    cells = " + ".join(str(part.cells.n_obs) for part in parts)
    notes = [f"{len(parts)} files joined ({cells} cells), with the {together.n_vars} genes that all have"]
    for part in parts:
        if together.n_vars < MANY_COMMON * part.cells.n_vars:
            notes.append(f"only {together.n_vars} of the {part.cells.n_vars} genes of {part.name} are in all files")
    seen = dict.fromkeys(column for part in parts for column in part.cells.obs)
    if left_out := [column for column in seen if column not in together.obs]:
        notes.append(f"columns that some of the files lack were left out: {listed(left_out)}")
    if any(FILE_COLUMN in part.cells.obs for part in parts):
        notes.append(f"the column {FILE_COLUMN!r} of obs was replaced by the names of the files")
    for part in parts:
        notes += [f"{part.name}: {note}" for note in notes_of(part.cells)]
    return notes
