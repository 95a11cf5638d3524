"""A text table: gene names in the first row, cell names in the first column, values between."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

from ...errors import BadInput
from ..limits import STREAM, lines_of, opened, require_memory, size_unpacked
from ._reader import Reader, has_suffix

# As a column of a table float64, and in the matrix float32.
BYTES_A_VALUE, BYTES_A_NAME = 12, 100
# pandas takes more than a minute for a row of a million.
MOST_COLUMNS = 100_000
SUFFIXES = tuple(suffix + gz for suffix in (".csv", ".tsv", ".txt") for gz in ("", ".gz"))


def _read(path: Path) -> AnnData:
    """Column names in the first row (with or without a corner), row names in the first column."""
    first = _checked_first_line(path)
    if not first.strip():
        raise BadInput(f"{path} is empty; its first row must hold the gene names, its first column the cell names")
    separator = max("\t,;", key=first.count)
    layout = {
        "sep": separator if separator in first else r"\s+",
        "header": None,
        "encoding": "utf-8-sig",
    }
    if first.count(separator) > MOST_COLUMNS:
        raise BadInput(
            f"{path} has {first.count(separator):,} columns, and a text table may have {MOST_COLUMNS:,}; give its "
            "rows as columns with --transpose, or write it as .h5ad"
        )
    with opened(path) as file:
        header = pd.read_csv(file, nrows=1, dtype=str, keep_default_na=False, **layout).iloc[0].tolist()
    try:
        with opened(path) as file:
            body = pd.read_csv(file, skiprows=1, converters={0: str}, low_memory=False, **layout)
    except pd.errors.EmptyDataError:
        raise BadInput(f"{path} is empty: no rows follow the first; give at least two cells") from None
    rows, values = body.pop(0), body
    if len(header) not in (values.shape[1], values.shape[1] + 1):
        raise BadInput(
            f"{path} names {len(header)} columns in its first row but holds {values.shape[1]} values a row; "
            "the first row must be gene names, the first column cell names, separated the same way throughout"
        )
    columns = header[len(header) - values.shape[1] :]
    _refuse_words(values, rows, columns, path)
    with np.errstate(over="ignore"):  # infinite then, which is refused with the cell's name
        matrix = values.to_numpy(np.float32)
    return AnnData(matrix, obs=pd.DataFrame(index=list(rows)), var=pd.DataFrame(index=columns))


def _checked_first_line(path: Path) -> str:
    """The first line; BadInput where a line has no end, or the values would not fit into memory."""
    with opened(path) as file:
        lines = list(itertools.islice(lines_of(file, path), 2))
    if len(lines) == 2:
        fields = max(lines[1].count(separator) for separator in (b"\t", b",", b";", b" ")) + 1
        rows = size_unpacked(path) / len(lines[1])
        values = rows * min(fields, len(lines[1]) / 2)
        needed = int(values * BYTES_A_VALUE + rows * BYTES_A_NAME)
        require_memory(needed, f"the table {path}, about {values:.2g} values,", STREAM)
    return lines[0].decode("utf-8-sig") if lines else ""


def _refuse_words(values: pd.DataFrame, rows: pd.Series, columns: list[str], path: Path) -> None:
    for j, dtype in enumerate(values.dtypes):
        if dtype.kind in "iuf":
            continue
        column = values.iloc[:, j]
        wrong = (pd.to_numeric(column.astype(str), errors="coerce").isna() & column.notna()).to_numpy()
        if wrong.any():
            i = int(np.argmax(wrong))
            raise BadInput(
                f"{path}: the value {str(column.iloc[i])!r} in row {rows.iloc[i]!r}, column {columns[j]!r} is not a "
                "number; only the first row and the first column may hold words: leave that row or column out"
            )


# Any text may be a table, so that this reader is asked last.
READER = Reader(
    formats=".csv, .tsv or .txt (also .gz)", sniff=lambda path: has_suffix(path, *SUFFIXES), read=_read, priority=-1
)
