"""Cells from files: .h5ad, .zarr, 10x .h5 and .mtx folders, tables, .npy. Nothing in a file is ever unpickled."""

from __future__ import annotations

import contextlib
import difflib
import gzip
import json
import re
import warnings
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from ..errors import BadInput, ScrditError
from . import geo_table, tenx
from .backed import BackedCells, BackedMatrix, Cells, make_cells
from .checking import check_cells, notes_of, with_notes

EMBEDDED = "pbmc3k"
Data = AnnData | Path | str

FORMATS = ".h5ad, .zarr, 10x .h5, a 10x .mtx folder, .csv, .tsv or .txt (also .gz), .npy"
ZARR_METADATA = ("zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata")
PICKLE_CODEC = re.compile(r'"(?:id|name)": "(?:numcodecs\.)?pickle"')


def read_cells(path: str | Path, *, transpose: bool = False) -> AnnData:
    """Cells x genes from any of FORMATS, checked: X float32, CSR where the file is sparse, else a dense array.

    `transpose` says that the file's rows are genes. obs and var columns are kept, and of .uns what this package wrote;
    layers, .raw and the like are not read. Whatever cannot be used raises BadInput.
    """
    path = Path(path)
    if not path.exists():
        raise BadInput(f"{path} does not exist; {_suggestion(path)}")
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # repeated names are dealt with below
        adata = _read_folder(path) if path.is_dir() else _read_file(path)
        if transpose and not geo_table.is_tumour_table(path):  # which is known to have genes in rows
            adata = adata.T
    if path.suffix.lower() == ".npy":
        adata.var_names = [f"gene_{j}" for j in range(adata.n_vars)]
    return check_cells(adata, str(path))


def embedded_pbmc3k() -> AnnData:
    """2,638 blood cells x 13,714 genes, raw UMI counts, `obs.cell_type` of 8 types (10x Genomics, CC BY 4.0)."""
    with resources.as_file(resources.files("scrdit_jax.data") / "pbmc3k.h5ad") as path:
        return read_cells(path)


def load_cells(data: Data, *, transpose: bool = False) -> tuple[AnnData, str]:
    """Cells and the name messages give them; `pbmc3k` is the embedded data set unless a file is called so."""
    if isinstance(data, AnnData):
        return data, "AnnData in memory"
    if str(data) == EMBEDDED and not Path(data).exists():
        return embedded_pbmc3k(), "embedded PBMC 3k"
    return read_cells(data, transpose=transpose), Path(data).name


def _read_file(path: Path) -> AnnData:
    name = path.name.lower()
    with _understood(path):
        if name.endswith(".h5ad"):
            with h5py.File(path) as file:
                # Files from before anndata 0.7 keep obs as one structured array, which only read_h5ad knows.
                legacy = isinstance(file.get("obs"), h5py.Dataset)
                return anndata.read_h5ad(path) if legacy else _from_group(file, path)
        if name.endswith((".h5", ".hdf5")):
            return tenx.read_h5(path)
        if name.endswith(".npy"):
            return _read_npy(path)
        if geo_table.is_tumour_table(path):
            return geo_table.read_tumour_table(path)
        if name.removesuffix(".gz").endswith((".csv", ".tsv", ".txt")):
            return _read_table(path)
    if name.removesuffix(".gz").endswith(".mtx"):
        raise BadInput(f"{path} holds no names of cells and genes; give its folder, with barcodes.tsv and features.tsv")
    if name.removesuffix(".gz").endswith(".tar"):
        raise BadInput(
            f"{path} is an archive; unpack it and give a folder in it, or, where it is GEO's of GSE181297, convert it: "
            f"scripts/fetch_datasets.py gse181297 --from {path} --out DIR"
        )
    raise BadInput(f"{path} has a format that is not known ({path.suffix or 'no suffix'}); it must be {FORMATS}")


def _read_folder(path: Path) -> AnnData:
    if any((path / name).is_file() for name in ZARR_METADATA):
        with _understood(path):
            _refuse_pickles(path)
            import zarr

            return _from_group(zarr.open_group(path, mode="r"), path)
    if tenx.is_mtx_folder(path):
        with _understood(path):
            return tenx.read_mtx(path)
    inside = [child for child in sorted(path.iterdir()) if child.suffix in {".h5ad", ".h5", ".zarr", ".npy"}]
    inside += [child for child in sorted(path.iterdir()) if child.is_dir() and tenx.is_mtx_folder(child)]
    remedy = f"perhaps {inside[0]}" if inside else "give the folder that holds them, or a file"
    raise BadInput(f"{path} is a folder, but neither .zarr nor 10x (matrix.mtx, barcodes.tsv, features.tsv); {remedy}")


@contextlib.contextmanager
def _understood(path: Path) -> Iterator[None]:
    """Whatever a reader stumbles over becomes one line about the file."""
    try:
        yield
    except (ScrditError, MemoryError):
        raise
    except PermissionError as error:
        raise BadInput(f"{path} cannot be read: permission denied; ask its owner, or copy it") from error
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        kind = "".join(path.suffixes[-2:] if path.suffix == ".gz" else path.suffixes[-1:]) or "10x"
        raise BadInput(
            f"{path} is no {kind} file that can be read, or is cut short ({reason}); fetch or write it again, "
            "or give it the suffix of what it is"
        ) from error


def _suggestion(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"neither does its folder {folder}; check the path"
    close = difflib.get_close_matches(path.name, [child.name for child in folder.iterdir()], n=1)
    return f"did you mean {folder / close[0]}?" if close else f"check the path (formats: {FORMATS})"


def open_cells(path: Path) -> BackedCells | None:
    """The cells of an .h5ad or .zarr with X left on the disk, checked; None where X cannot be read by rows."""
    with warnings.catch_warnings(action="ignore", category=UserWarning), _understood(path):
        group = _open_group(path)
        if group is None or "X" not in group or isinstance(group.get("obs"), h5py.Dataset):
            return None
        if group["X"].attrs.get("encoding-type") not in ("csr_matrix", "array"):
            return None
        cells = _from_group(group, path, stored=True)
    return check_cells(cells, str(path))


def bytes_in_memory(path: Path) -> int | None:
    """What X of an .h5ad or .zarr would take, float32, in CSR where it is sparse; None where that is not known."""
    with contextlib.suppress(Exception):
        matrix = _open_group(path)["X"]
        if hasattr(matrix, "shape"):
            return 4 * int(np.prod(matrix.shape))
        return 8 * matrix["data"].shape[0]
    return None


def _open_group(path: Path) -> Any:
    if path.is_dir():
        if not any((path / name).is_file() for name in ZARR_METADATA):
            return None
        import zarr

        _refuse_pickles(path)
        return zarr.open_group(path, mode="r")
    # Without a cache of its own HDF5 reads what is asked for, and not whole chunks.
    return h5py.File(path, rdcc_nbytes=0) if path.suffix.lower() == ".h5ad" else None


def _from_group(group, path: Path, *, stored: bool = False) -> Cells:
    """X, obs, var and this package's own .uns of an AnnData store; the rest can be large and is not needed."""
    missing = [name for name in ("obs", "var") if name not in group]
    if missing:
        raise BadInput(f"{path} is no AnnData: it lacks {' and '.join(missing)}; write it with adata.write_h5ad(...)")
    if "X" not in group:
        raise BadInput(f"{path} has no matrix X; put the values of the cells in adata.X")
    if stored:
        dense = group["X"].attrs["encoding-type"] == "array"
        matrix = group["X"] if dense else anndata.io.sparse_dataset(group["X"])
        matrix = BackedMatrix(matrix, np.arange(matrix.shape[0]))
    else:
        matrix = anndata.io.read_elem(group["X"])
    if sparse.issparse(matrix):
        matrix.check_format(full_check=True)
    uns = {k: anndata.io.read_elem(group[f"uns/{k}"]) for k in group.get("uns", {}) if k.startswith("scrdit")}
    cells = make_cells(matrix, anndata.io.read_elem(group["obs"]), anndata.io.read_elem(group["var"]), uns)
    notes = list(notes_of(cells))
    if others := [f"layers[{name!r}]" for name in group.get("layers", {})] + [".raw"] * ("raw/X" in group):
        notes.append(f"the file also holds {', '.join(others)}, not used: X was read")
    return with_notes(cells, notes)


def _refuse_pickles(path: Path) -> None:
    """A zarr array may name a codec that unpickles; such a store is not opened."""
    for metadata in (file for name in ZARR_METADATA for file in path.rglob(name)):
        if PICKLE_CODEC.search(json.dumps(json.loads(metadata.read_text()))):
            raise BadInput(f"{metadata} asks for pickled objects, which are never opened; write it again with anndata")


def _read_npy(path: Path) -> AnnData:
    matrix = np.load(path, allow_pickle=False)
    if not isinstance(matrix, np.ndarray) or matrix.ndim != 2:
        shape = f"shape {matrix.shape}" if isinstance(matrix, np.ndarray) else "several arrays"
        raise BadInput(f"{path} holds {shape}; it must be one matrix of cells x genes")
    if matrix.dtype.kind not in "biuf":
        raise BadInput(f"{path} holds values of type {matrix.dtype}; they must be numbers: matrix.astype('float32')")
    return AnnData(matrix)


def _read_table(path: Path) -> AnnData:
    """Column names in the first row (with or without a corner), row names in the first column."""
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    with opened(path, "rt", encoding="utf-8-sig") as file:
        first = file.readline()
    if not first.strip():
        raise BadInput(f"{path} is empty; its first row must hold the gene names, its first column the cell names")
    separator = max("\t,;", key=first.count)
    layout = {
        "sep": separator if separator in first else r"\s+",
        "header": None,
        "encoding": "utf-8-sig",
        "compression": "gzip" if opened is gzip.open else None,
    }
    header = pd.read_csv(path, nrows=1, dtype=str, keep_default_na=False, **layout).iloc[0].tolist()
    try:
        body = pd.read_csv(path, skiprows=1, converters={0: str}, low_memory=False, **layout)
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
    return AnnData(values.to_numpy(np.float32), obs=pd.DataFrame(index=list(rows)), var=pd.DataFrame(index=columns))


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
