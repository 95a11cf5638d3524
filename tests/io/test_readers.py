"""The registry of readers: a new format is one new file, and only what a file can cause is said of the file."""

import gc
import json
import shutil

import anndata
import h5py
import numpy as np
import pytest
from scipy import sparse

import scrdit_jax.io.readers as readers
from scrdit_jax.errors import BadInput
from scrdit_jax.io.backed import BackedCells
from scrdit_jax.io.reading import bytes_in_memory, formats, open_cells, read_cells
from scrdit_jax.registry import READERS

TOY = '''
"""Cells as lines of words: a cell's name, then gene=count for each gene."""

import anndata, numpy as np, pandas as pd

from scrdit_jax.io.readers._reader import Reader, has_suffix


def _read(path):
    cells = {}
    for line in path.read_text().splitlines():
        name, *counts = line.split()
        cells[name] = {gene: int(count) for gene, _, count in (word.partition("=") for word in counts)}
    table = pd.DataFrame(cells).T
    return anndata.AnnData(table.to_numpy(np.float32), table.index.to_frame()[[]], table.columns.to_frame()[[]])


READER = Reader(formats=".toy", sniff=lambda path: has_suffix(path, ".toy"), read=_read)
'''

BROKEN = """
from scrdit_jax.io.readers._reader import Reader, has_suffix

READER = Reader(formats=".toy", sniff=lambda path: has_suffix(path, ".toy"), read=lambda path: BUG)
"""


def test_a_new_format_is_one_new_file(add_part, scrdit, tiny_cells, tiny_config, tmp_path):
    add_part(readers, "toy", TOY)
    (tmp_path / "tiny.json").write_text(json.dumps(tiny_config.to_dict()))
    rows = zip(tiny_cells.obs_names, tiny_cells.X.toarray(), strict=True)
    lines = (
        " ".join([name, *(f"{g}={int(n)}" for g, n in zip(tiny_cells.var_names, row, strict=True))])
        for name, row in rows
    )
    (tmp_path / "x.toy").write_text("\n".join(lines))
    status, text = scrdit("train", "x.toy", "--preset", "tiny.json", "--out", "run", "--steps", 1)
    assert status == 0, text
    assert "raw counts recognised" in text
    (tmp_path / "x.rds").write_text("words")
    status, text = scrdit("train", "x.rds", "--preset", "tiny.json", "--out", "other")
    assert status == 2
    assert ".toy" in text
    assert "Traceback" not in text
    (tmp_path / "x.toy").write_text("cell0 GENE1=many")
    with pytest.raises(BadInput, match=r"x\.toy is no \.toy file that can be read, or is cut short .*'many'"):
        read_cells(tmp_path / "x.toy")


def test_readers_are_listed_in_the_order_in_which_they_are_asked():
    assert formats().startswith(".h5ad, .zarr")
    assert READERS["tumour-table"].priority > READERS["table"].priority
    assert all(reader.formats in formats() for reader in READERS.values())


@pytest.mark.parametrize("bug", ["None.cells", "undefined", "1 / 0"])
def test_mistakes_of_a_reader_are_not_blamed_on_the_file(add_part, tmp_path, bug):
    add_part(readers, "toy", BROKEN.replace("BUG", bug))
    path = tmp_path / "x.toy"
    path.write_text("words")
    with pytest.raises((AttributeError, NameError, ZeroDivisionError)):
        read_cells(path)


def nodes_of(path) -> list[str]:
    found = []
    with h5py.File(path) as file:
        file.visit(found.append)
    return [name for name in found if not name.startswith("uns")]


def open_files() -> int:
    return h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE)


def write_10x(path) -> None:
    with h5py.File(path, "w") as file:
        by_cell = sparse.csr_matrix(np.eye(3, dtype=np.float32))
        for part in ("data", "indices", "indptr"):
            file[f"matrix/{part}"] = getattr(by_cell, part)
        file["matrix/shape"], file["matrix/barcodes"] = (3, 3), np.array(["a", "b", "c"], "S")
        for part in ("id", "name", "feature_type"):
            file[f"matrix/features/{part}"] = np.array(
                ["G0", "G1", "G2"] if part != "feature_type" else ["Gene Expression"] * 3, "S"
            )


@pytest.mark.parametrize("name", ["cells.h5ad", "dense.h5ad", "cells.h5"])
def test_whatever_is_wrong_in_an_hdf5_file_is_said_of_the_file(name, tmp_path, tiny_cells):
    """Every part of it missing, of another kind or of another length: never a traceback."""
    whole = tmp_path / name
    match name:
        case "cells.h5ad":
            tiny_cells.write_h5ad(whole)
        case "dense.h5ad":
            anndata.AnnData(tiny_cells.X.toarray(), obs=tiny_cells.obs, var=tiny_cells.var).write_h5ad(whole)
        case "cells.h5":
            write_10x(whole)
    read_cells(whole)
    gc.collect()
    others = open_files()
    broken = tmp_path / f"broken_{name}"
    for node in nodes_of(whole):
        for new in (None, "group", np.zeros(2), np.array([b"word"]), 7):
            shutil.copy(whole, broken)
            with h5py.File(broken, "a") as file:
                attributes = dict(file[node].attrs)
                del file[node]
                if new is not None:
                    made = file.create_group(node) if isinstance(new, str) else file.create_dataset(node, data=new)
                    made.attrs.update(attributes)
            for read in (read_cells, open_cells, bytes_in_memory):
                refused = cells = None
                try:
                    cells = read(broken)
                except BadInput as error:
                    refused = str(error)
                # Of a file that was refused, or read whole, nothing stays open: it can be mended and written again.
                assert isinstance(cells, BackedCells) or open_files() <= others
                del cells
                # What a reader does not need may be missing; anything but BadInput fails the test by itself.
                assert refused is None or ("\n" not in refused and str(broken) in refused)


def test_an_encoding_that_anndata_does_not_know_is_said_of_the_file(tmp_path):
    path = tmp_path / "cells.h5ad"
    anndata.AnnData(np.eye(2, dtype=np.float32)).write_h5ad(path)
    with h5py.File(path, "a") as file:
        file["X"].attrs["encoding-type"] = "knotted-string"
    with pytest.raises(BadInput, match=r"is no \.h5ad file that can be read"):
        read_cells(path)
