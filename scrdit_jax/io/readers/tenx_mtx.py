"""The folder that Cell Ranger writes: matrix.mtx, barcodes.tsv, features.tsv or genes.tsv, each plain or .gz."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pandas as pd
from anndata import AnnData
from scipy import io, sparse

from ...errors import BadInput
from ...paths import readable_path
from ..damage import foreign, reading
from ..limits import STREAM, lines_of, opened, require_memory, size_unpacked
from ._reader import Reader, has_suffix
from ._tenx import assemble

MATRIX = (".mtx", ".mtx.gz")
# "1 1\n" is the shortest entry; it takes two indices and a number in COO, and again in CSR.
BYTES_AN_ENTRY, BYTES_IN_MEMORY = 4, 32
MOST_NAMES = 2**31 - 1


def _sniff(path: Path) -> bool:
    """Whether it is such a folder, or a matrix that is to be given with its folder."""
    return has_suffix(path, *MATRIX) or any((path / f"matrix{suffix}").exists() for suffix in MATRIX)


def _read(path: Path) -> AnnData:
    if path.is_file():
        raise BadInput(f"{path} holds no names of cells and genes; give its folder, with barcodes.tsv and features.tsv")
    features = _names(path, "features.tsv", "genes.tsv")
    barcodes = _names(path, "barcodes.tsv")[0]
    matrix = _matrix(_present(path, "matrix.mtx"))
    if matrix.shape != (len(features), len(barcodes)):
        raise BadInput(
            f"{path}: matrix.mtx is {matrix.shape[0]} x {matrix.shape[1]}, but there are {len(features)} genes and "
            f"{len(barcodes)} barcodes; it must be genes x barcodes, all three from the same run"
        )
    ids, names = features[0], features[min(1, features.shape[1] - 1)]
    kinds = features[2] if features.shape[1] > 2 else None
    return assemble(sparse.csr_matrix(matrix.T), barcodes, names, {"gene_ids": ids, "feature_types": kinds}, path)


def _matrix(path: Path) -> sparse.coo_matrix:
    """What the file holds, genes x cells; BadInput where its header claims more than it can hold."""
    # SciPy's reader ends the process where what it reads from raises: it is given the path, of a file that was whole.
    with reading(path):
        size = size_unpacked(path)
        try:
            rows, columns, entries, layout, field, _ = io.mminfo(path)
        except (ValueError, OverflowError) as error:
            raise BadInput(f"{path} is no Matrix Market file ({error}); fetch or write it again") from None
    if field not in ("real", "integer", "pattern", "unsigned-integer") or rows < 0 or columns < 0:
        raise BadInput(f"{path} holds a matrix of {field} {rows} x {columns}; it must hold real numbers")
    if layout == "array" or entries * BYTES_AN_ENTRY > size:
        claims = f"{rows * columns:,} values" if layout == "array" else f"{entries:,} entries"
        raise BadInput(
            f"{path} claims {claims} in {rows:,} x {columns:,}, but has {size:,} bytes; "
            "it must be in coordinate form and whole: fetch or write it again"
        )
    if max(rows, columns) > MOST_NAMES:
        raise BadInput(f"{path} claims {rows:,} genes x {columns:,} cells, more than any file has; fetch it again")
    require_memory(entries * BYTES_IN_MEMORY, str(path), STREAM)
    with reading(path), foreign():
        return io.mmread(path)


def _present(folder: Path, *names: str) -> Path:
    for candidate in (folder / (name + suffix) for name in names for suffix in ("", ".gz")):
        if readable_path(candidate).is_file():
            return candidate
    raise BadInput(f"{folder} has matrix.mtx but not {' or '.join(names)} (plain or .gz); put it beside the matrix")


def _names(folder: Path, *names: str) -> pd.DataFrame:
    path = _present(folder, *names)
    try:
        with reading(path), opened(path) as stream:
            # pandas would gather a line without an end in memory.
            text = "".join(line.decode("utf-8-sig") for line in lines_of(stream, path))
            return pd.read_csv(StringIO(text), sep="\t", header=None, dtype=str, keep_default_na=False, quoting=3)
    except pd.errors.EmptyDataError:
        raise BadInput(f"{path} is empty; it must hold one name a line") from None


READER = Reader(formats="a 10x .mtx folder", sniff=_sniff, read=_read)
