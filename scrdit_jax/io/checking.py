"""What every matrix of cells must satisfy, wherever it came from, and the digest that recognises it again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from anndata.utils import make_index_unique
from scipy import sparse

from ..errors import BadInput
from .backed import BackedMatrix, Cells, make_cells

Matrix = np.ndarray | sparse.csr_matrix | BackedMatrix

NOTES_KEY = "scrdit_notes"
# What the digest of a data set is made of at once: another number would change the digests that runs remember.
ROWS_A_DIGEST = 4096
ROWS_PER_BLOCK = 1024
SHOWN_NAMES = 30


def check_cells(adata: Cells, source: str, *, values: bool = True) -> Cells:
    """A checked AnnData of the same cells and genes; the one given is not changed.

    Cells on a disk stay there. Else X becomes float32, a dense (cell, gene) array or CSR with sorted indices and no
    stored zeros; obs, var and uns are kept. Repeated cell names are made unique and noted. BadInput where the matrix
    is empty, holds something that is not a finite number, or repeats a gene name; `source` opens the message. Without
    `values`, whether they are finite is left to whoever goes through them next (`require_finite`).
    """
    if adata.isbacked:
        adata = adata.to_memory()
    if adata.X is None:
        raise BadInput(f"{source} has no matrix X; put the values of the cells in adata.X")
    if 0 in adata.shape:
        raise BadInput(f"{source} is empty ({adata.n_obs} cells x {adata.n_vars} genes); give a matrix with both")
    notes = list(notes_of(adata))
    genes, cells = adata.var_names.astype(str), adata.obs_names.astype(str)
    if any(map(has_nul, (genes, cells))):
        raise BadInput(f"{source} has names with a NUL in them, which no file can hold; take it out")
    if not genes.is_unique:
        repeated = genes[genes.duplicated()]
        raise BadInput(
            f"{source} repeats the gene name {repeated[0]!r} ({len(repeated)} names too many); names must be unique: "
            "call adata.var_names_make_unique() and save it again"
        )
    if not cells.is_unique:
        repeated = cells[cells.duplicated()]
        notes.append(
            f"{len(repeated)} repeated cell names (first: {repeated[0]!r}) were made unique by adding -1, -2, ..."
        )
        cells = make_index_unique(cells)
    matrix = adata.X if isinstance(adata.X, BackedMatrix) else _float32(adata.X, cells, genes, source)
    if values:
        require_finite(matrix, cells, genes, source)
    obs, var = (_usable_columns(table, notes) for table in (adata.obs, adata.var))
    checked = make_cells(matrix, obs.set_axis(cells), var.set_axis(genes), dict(adata.uns))
    return with_notes(checked, notes)


def has_nul(values: Iterable[object]) -> bool:
    """Whether a NUL is in any of these texts, which no file can hold."""
    return "\0" in "".join(map(str, values))


def _usable_columns(table: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """The table with numbers in this machine's order of bytes, and without columns of bare bytes, which pandas can hold
    but not take rows of, or of dates, which AnnData cannot write."""
    foreign = {name: dtype for name, dtype in table.dtypes.items() if getattr(dtype, "isnative", True) is False}
    table = table.astype({name: dtype.newbyteorder("=") for name, dtype in foreign.items()}) if foreign else table
    strange = [name for name, dtype in table.dtypes.items() if dtype.kind in "VMm"]
    notes.extend(f"the column {name!r} was left out: it holds {table[name].dtype}" for name in strange)
    return table.drop(columns=strange) if strange else table


def require_alike(shape: tuple[int, ...], cells: int, genes: int, source: str) -> None:
    """BadInput unless X of this `shape` has a row for each of so many `cells` and a column for each of the `genes`."""
    for count, names, what, table in ((shape[0], cells, "cells", "obs"), (shape[1], genes, "genes", "var")):
        if count != names:
            raise BadInput(
                f"{source}: X has {count:,} {what}, but {table} has {names:,}; they must be the same, in the same order"
            )


def notes_of(adata: Cells) -> tuple[str, ...]:
    """The sentences that reading and checking left about these cells."""
    return tuple(str(note) for note in adata.uns.get(NOTES_KEY, ()))


def with_notes(adata: Cells, notes: Iterable[str]) -> Cells:
    """The same cells, their notes replaced."""
    adata.uns.pop(NOTES_KEY, None)
    if notes := list(notes):
        adata.uns[NOTES_KEY] = notes
    return adata


class SourceDigest:
    """SHA-256 over gene names, cell names and values, the same for dense and sparse, whatever the stored dtype."""

    def __init__(self, adata: Cells) -> None:
        """Of the names of `adata`; its values are to follow."""
        self._digest = hashlib.sha256()
        self._waiting: list[sparse.csr_matrix] = []
        for names in (adata.var_names, adata.obs_names):
            self._digest.update(f"{len(names)}\n".encode())
            for name in names:
                encoded = str(name).encode()
                self._digest.update(len(encoded).to_bytes(8, "little") + encoded)

    def update(self, block: Matrix) -> None:
        """Take in neighbouring rows, in order."""
        self._waiting.append(canonical(sparse.csr_matrix(block, dtype=np.float32)))
        while sum(rows.shape[0] for rows in self._waiting) >= ROWS_A_DIGEST:
            rows = sparse.vstack(self._waiting, format="csr")
            self._take(rows[:ROWS_A_DIGEST])
            self._waiting = [rows[ROWS_A_DIGEST:]]

    def hexdigest(self) -> str:
        """Of all that was taken in; nothing may follow."""
        if any(rows.shape[0] for rows in self._waiting):
            self._take(sparse.vstack(self._waiting, format="csr"))
            self._waiting = []
        return self._digest.hexdigest()

    def _take(self, rows: sparse.csr_matrix) -> None:
        self._digest.update(np.diff(rows.indptr).astype("<i8").tobytes())
        self._digest.update(rows.indices.astype("<i8").tobytes())
        self._digest.update(rows.data.astype("<f4").tobytes())


def source_digest(adata: Cells) -> str:
    """The SourceDigest of all cells."""
    digest = SourceDigest(adata)
    for block in row_blocks(adata.X):
        digest.update(block)
    return digest.hexdigest()


def row_blocks(x: Matrix) -> Iterable[Matrix]:
    """Neighbouring rows, block by block, so that a pass over the matrix needs the memory of one block."""
    return (x[start : start + ROWS_PER_BLOCK] for start in range(0, x.shape[0], ROWS_PER_BLOCK))


def stored(block: Matrix) -> tuple[np.ndarray, np.ndarray]:
    """The values that are not zero, row by row, and the column of each."""
    rows = canonical(sparse.csr_matrix(block))
    return rows.data, rows.indices


def locate(x: Matrix, wrong) -> tuple[int, int] | None:
    """Row and column of the first entry for which `wrong(values)` is true; None where there is none.

    Of a sparse matrix only the stored values count.
    """
    first = 0
    for block in row_blocks(x):
        values = block.data if sparse.issparse(block) else block
        mask = wrong(values)
        if mask.any():
            if not sparse.issparse(block):
                row, column = np.unravel_index(np.argmax(mask), mask.shape)
                return first + int(row), int(column)
            position = int(np.argmax(mask))
            return first + int(np.searchsorted(block.indptr, position, side="right")) - 1, int(block.indices[position])
        first += block.shape[0]
    return None


def value_at(x: Matrix, row: int, column: int) -> float:
    """One entry."""
    return float(x[row : row + 1][0, column])


def listed(names: Iterable[object]) -> str:
    """Names for an error message, cut where they would fill the screen."""
    names = [str(name) for name in names]
    rest = len(names) - SHOWN_NAMES
    return ", ".join(names[:SHOWN_NAMES]) + (f" and {rest} more" if rest > 0 else "")


def _float32(x, cells, genes, source: str) -> Matrix:
    if sparse.issparse(x):
        matrix = sparse.csr_matrix(x)
    else:
        matrix = np.asarray(x)
        if matrix.dtype.kind not in "biuf":
            _refuse_words(matrix, cells, genes, source)
    with np.errstate(over="ignore"):
        matrix = matrix.astype(np.float32, copy=False)
    return canonical(matrix) if sparse.issparse(matrix) else matrix


def canonical(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """Indices sorted, nothing stored twice, no stored zeros; a copy only where something must change."""
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    if not matrix.data.all():
        matrix = matrix.copy()
        matrix.eliminate_zeros()
    return matrix


def _refuse_words(matrix: np.ndarray, cells, genes, source: str) -> None:
    for i, j in np.ndindex(matrix.shape):
        try:
            float(matrix[i, j])
        except (TypeError, ValueError):
            raise BadInput(
                f"{source}: the value {matrix[i, j]!r} of cell {cells[i]!r}, gene {genes[j]!r} is not a number; "
                "keep words in obs or var"
            ) from None
    raise BadInput(f"{source}: X has the type {matrix.dtype}; it must be numeric: adata.X = adata.X.astype('float32')")


def require_finite(matrix: Matrix, cells: Sequence[str], genes: Sequence[str], source: str) -> None:
    """BadInput, with the names of its cell and gene, for the first value that is not a finite number."""
    place = locate(matrix, lambda values: ~np.isfinite(values))
    if place is not None:
        i, j = place
        what = "missing (NaN)" if np.isnan(value_at(matrix, i, j)) else "infinite"
        raise BadInput(
            f"{source}: the value of cell {cells[i]!r}, gene {genes[j]!r} is {what}; every value must be a finite "
            "number: set it to 0 or leave that cell or gene out"
        )
