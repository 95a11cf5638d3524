"""The table of GSE103322 (Puram et al. 2017): cells in columns, five rows of annotation, then genes.

    <corner>                          HN28_P15_D06_S330_comb   HN26_P14_D11_S239_comb   ...
    processed by Maxima enzyme        1                        0
    Lymph node                        1                        0
    classified  as cancer cell        0                        1
    classified as non-cancer cells    1                        0
    non-cancer cell type              Fibroblast               0
    'C9orf152'                        0                        2.31

Tab-separated, plain or .gz; values are log2(TPM/10 + 1); gene names stand in single quotes.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import itertools
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from tqdm import tqdm

from ...errors import BadInput
from ..checking import listed, with_notes
from ..limits import Unpacked, lines_of
from ._reader import Reader

MALIGNANT, UNCLASSIFIED = "malignant", "unclassified"
# The paper trains on 1,422 fibroblasts, 2,215 malignant and 407 immune cells. Of the annotated types only these four
# can make so few: the table's T cells alone are more than a thousand.
IMMUNE = ("B cell", "Dendritic", "Macrophage", "Mast")
# Labels in lower case with single spaces: the file has two of them in one.
FLAGS = {
    "processed by maxima enzyme": "maxima",
    "lymph node": "lymph_node",
    "classified as cancer cell": "cancer",
    "classified as non-cancer cells": "non_cancer",
}
TYPE = "non-cancer cell type"
LABELS = (*FLAGS, TYPE)
UNREADABLE = (EOFError, gzip.BadGzipFile, zlib.error, UnicodeDecodeError)


def is_tumour_table(path: Path) -> bool:
    """Whether one of the first lines of a text file begins with one of the table's five labels."""
    if not path.is_file() or not path.name.lower().removesuffix(".gz").endswith((".csv", ".tsv", ".txt")):
        return False
    with contextlib.suppress(OSError, BadInput), _opened(path) as (lines, _):
        for line in itertools.islice(lines, 1 + len(LABELS)):
            if "\t" in line and _label(line.partition("\t")[0]) in LABELS:
                return True
    return False


def read_tumour_table(path: Path) -> AnnData:
    """Cells x genes, X CSR float32 of log2(TPM/10 + 1); one line of the file in memory at a time.

    obs.cell_type is 'malignant' where the table says so, else its non-cancer cell type as it stands (it has both
    'Fibroblast' and '-Fibroblast'), else 'unclassified'. obs.paper_split is 'fibroblast', 'malignant', 'immune' or
    'other': the sets the scRDiT paper trains on. obs.lymph_node and obs.maxima are True or False. Any damage raises
    BadInput, which names the line.
    """
    with _opened(path) as (lines, advance):
        header, number = [field.strip() for field in _fields(next(lines, ""))], 1
        annotation = {}
        while len(annotation) < len(LABELS):
            number += 1
            name, *values = (field.strip() for field in _fields(next(lines, "")))
            missing = [label for label in LABELS if label not in annotation]
            if _label(name) not in missing:
                found = f"begins with {name[:40]!r}" if name else "is missing"
                raise _damaged(path, number, f"{found}, where the annotation {listed(missing)} was to come")
            if not annotation:
                cells = _cell_names(header, values, path)
            annotation[_label(name)] = (number, _one_each(values, cells, name, path, number))
        genes, matrix = _expression(enumerate(lines, start=number + 1), cells, path, advance)
    obs, notes = _annotated(annotation, cells, path)
    return with_notes(AnnData(matrix, obs=obs, var=pd.DataFrame(index=genes)), notes)


def _expression(numbered: Iterator[tuple[int, str]], cells: list[str], path: Path, advance) -> tuple:
    """The gene names, and CSR (cell, gene) gathered gene by gene as the columns of a CSC."""
    first_line: dict[str, int] = {}
    indices, data, lengths, blank = [], [], [0], 0
    for number, line in numbered:
        if not line.strip():
            blank = blank or number
            continue
        if blank:
            raise _damaged(path, blank, "is empty, and others follow")
        name, *fields = _fields(line)
        gene = _gene_name(name, path, number)
        if gene in first_line:
            raise _damaged(path, number, f"names the gene {gene!r}, as line {first_line[gene]} does")
        first_line[gene] = number
        values = _numbers(_one_each(fields, cells, name, path, number), cells, gene, path, number)
        (nonzero,) = np.nonzero(values)
        indices.append(nonzero.astype(np.int32))
        data.append(values[nonzero])
        lengths.append(len(nonzero))
        advance()
    if not first_line:
        raise _damaged(path, 2 + len(LABELS), "is missing: no gene follows the annotation")
    shape = (len(cells), len(first_line))
    columns = sparse.csc_matrix((_joined(data), _joined(indices), np.cumsum(lengths)), shape=shape)
    return list(first_line), columns.tocsr()


def _annotated(annotation: dict, cells: list[str], path: Path) -> tuple[pd.DataFrame, list[str]]:
    flags = {column: _flags(*annotation[label], label, cells, path) for label, column in FLAGS.items()}
    named = np.array(annotation[TYPE][1], dtype=object)
    typed = ~np.isin(named, ["0", ""])
    cell_type = np.where(flags["cancer"], MALIGNANT, np.where(typed, named, UNCLASSIFIED))
    split = np.select(
        [cell_type == MALIGNANT, cell_type == "Fibroblast", np.isin(cell_type, IMMUNE)],
        [MALIGNANT, "fibroblast", "immune"],
        "other",
    )
    columns = {
        "cell_type": pd.Categorical(cell_type),
        "paper_split": pd.Categorical(split),
        "lymph_node": flags["lymph_node"],
        "maxima": flags["maxima"],
    }
    counts = Counter(cell_type.tolist())
    notes = [
        "values are log2(TPM/10 + 1), as the table gives them; cell types are its own: "
        + ", ".join(f"{name} {n}" for name, n in sorted(counts.items()))
    ]
    if both := int(np.sum(flags["cancer"] & (typed | flags["non_cancer"]))):
        notes.append(f"{both} cells are annotated both as cancer and as something else; they were taken as malignant")
    return pd.DataFrame(columns, index=cells), notes


def _flags(number: int, values: list[str], label: str, cells: list[str], path: Path) -> np.ndarray:
    wrong = [i for i, value in enumerate(values) if value not in ("0", "1")]
    if wrong:
        i = wrong[0]
        raise _damaged(path, number, f"({label}) has {values[i]!r} for cell {cells[i]!r}; it must be 0 or 1")
    return np.array(values) == "1"


def _cell_names(header: list[str], values: list[str], path: Path) -> list[str]:
    """The first line without its corner, where it has one."""
    width = len(values) - (not values[-1]) if values else 0
    cells = header[:-1] if not header[-1] else header
    cells = cells[1:] if len(cells) == width + 1 else cells
    if len(cells) != width or not all(cells):
        raise _damaged(path, 1, f"names {sum(map(bool, cells))} cells, but the next line has {width} values")
    if repeated := [name for name, n in Counter(cells).items() if n > 1]:
        raise _damaged(path, 1, f"names the cell {repeated[0]!r} twice")
    return cells


def _gene_name(name: str, path: Path, number: int) -> str:
    """The name without the quotes around it."""
    name = name.strip()
    quote = name[:1] if name[:1] in ("'", '"') else ""
    gene = name[1:-1].strip() if quote and len(name) > 1 and name[-1] == quote else name
    if not gene:
        raise _damaged(path, number, "begins with no gene name")
    if "'" in gene or '"' in gene:
        raise _damaged(path, number, f"begins with {name[:40]!r}, a gene whose quotes do not match")
    return gene


def _numbers(fields: list[str], cells: list[str], gene: str, path: Path, number: int) -> np.ndarray:
    try:
        with np.errstate(over="ignore"):
            values = np.array(fields, dtype=np.float32)
        wrong = ~(np.isfinite(values) & (values >= 0))
    except ValueError:
        wrong = np.array([not _is_number(field) for field in fields])
    if wrong.any():
        i = int(np.argmax(wrong))
        rule = "log2(TPM/10 + 1) is a finite number that is not negative"
        raise _damaged(path, number, f"(gene {gene!r}) has {fields[i][:40]!r} for cell {cells[i]!r}; {rule}")
    return values


def _is_number(field: str) -> bool:
    try:
        np.float32(field)
    except ValueError:
        return False
    return True


def _one_each(values: list[str], cells: list[str], name: str, path: Path, number: int) -> list[str]:
    """The values, one a cell; a tab too many at the end of a line means nothing."""
    if len(values) == len(cells) + 1 and not values[-1]:
        return values[:-1]
    if len(values) != len(cells):
        raise _damaged(path, number, f"({name[:40]}) has {len(values)} values, but there are {len(cells)} cells")
    return values


def _fields(line: str) -> list[str]:
    """The first field and the last have no blanks or line ends about them; the others are as they are."""
    return line.strip(" \r\n").split("\t")


def _label(name: str) -> str:
    return " ".join(name.strip("'\" ").lower().split())


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    joined = np.concatenate(parts)
    parts.clear()  # the pieces are as large as the whole
    return joined


def _damaged(path: Path, number: int, what: str) -> BadInput:
    return BadInput(f"{path}: line {number} {what}; the file is damaged or was changed: {_remedy(path)}")


def _remedy(path: Path) -> str:
    # The script fetches only what is not there.
    return f"delete {path} and run scripts/fetch_datasets.py gse103322 again"


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple]:
    """The file's lines, and a function that moves the progress bar to where they have come."""
    count = 0

    def counted(stream) -> Iterator[str]:
        nonlocal count
        for line in lines_of(stream, path):
            # Not by a TextIOWrapper: while that is read by lines, nobody can tell how far it has come.
            yield line.decode("utf-8" if count else "utf-8-sig")
            count += 1

    size = path.stat().st_size
    bar = tqdm(total=size, desc=f"reading {path.name}", unit="B", unit_scale=True, disable=None, delay=1, leave=False)
    with contextlib.ExitStack() as stack:
        stack.enter_context(bar)
        stream = raw = stack.enter_context(path.open("rb"))
        if path.suffix.lower() == ".gz":
            stream = stack.enter_context(io.BufferedReader(Unpacked(path, raw)))
        try:
            yield counted(stream), lambda: bar.update(raw.tell() - bar.n)
        except UNREADABLE as error:
            reason = "holds bytes that are no text" if isinstance(error, UnicodeDecodeError) else "is cut short"
            raise BadInput(f"{path} {reason} after line {count} ({error}); {_remedy(path)}") from error


READER = Reader(
    formats="the table of GSE103322",
    sniff=is_tumour_table,
    read=read_tumour_table,
    priority=1,
    genes_in_rows=True,
)
