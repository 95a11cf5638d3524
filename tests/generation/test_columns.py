"""Files that grow by compressed chunks: what was appended is what is read, by h5py and by anndata."""

import random
import time
from concurrent.futures import ThreadPoolExecutor

import anndata
import h5py
import numpy as np
import pytest
from scipy import sparse

from scrdit_jax.io import append, columns
from scrdit_jax.io.append import CellBlock, CellLayout, CellWriter, new_cell_file, to_csr
from scrdit_jax.io.columns import CompressedColumn, column

GENES = tuple(f"g{i}" for i in range(30))


@pytest.fixture(scope="module")
def executor():
    with ThreadPoolExecutor(3) as executor:
        yield executor


@pytest.mark.parametrize("dtype", ["int32", "int64", "float32"])
@pytest.mark.parametrize("pieces", [[], [3], [64], [63, 1, 1], [200, 0, 7, 129], [1] * 70])
def test_odd_pieces_come_back_as_they_were(tmp_path, executor, dtype, pieces):
    rng = np.random.default_rng(0)
    values = [(1000 * rng.standard_normal(n)).astype(dtype) for n in pieces]
    with h5py.File(tmp_path / "f.h5", "w") as file:
        dataset = file.create_dataset(
            "x", (0,), dtype, maxshape=(None,), chunks=(64,), compression="gzip", shuffle=True
        )
        grown = column(dataset, executor)
        assert isinstance(grown, CompressedColumn)
        for piece in values:
            grown.append(piece)
        grown.close()
    with h5py.File(tmp_path / "f.h5") as file:
        np.testing.assert_array_equal(file["x"][:], np.concatenate([np.zeros(0, dtype), *values]))


def blocks(*, counts: bool):
    rng = np.random.default_rng(1)
    for cells in (40, 1, 300, 59):
        dense = rng.gamma(2, 1, (cells, 30)).astype(np.float32) * (rng.random((cells, 30)) < 0.2)
        matrix, labels = to_csr(dense), rng.integers(0, 2, (cells, 1)).astype(np.int32)
        whole = sparse.csr_matrix((rng.integers(1, 9, matrix.nnz, dtype=np.int32), matrix.indices, matrix.indptr))
        whole.resize(matrix.shape)
        yield CellBlock(matrix, labels, *((whole, rng.random(cells).astype(np.float32)) if counts else ()))


@pytest.mark.parametrize("counts", [False, True])
@pytest.mark.parametrize("name", ["cells.h5ad", "cells.zarr", "plain"])
def test_anndata_reads_what_was_appended(tmp_path, executor, monkeypatch, name, counts):
    layout = CellLayout(GENES, (("kind", ("T", "B")),), counts)
    parts, first = list(blocks(counts=counts)), 0
    path = tmp_path / (name if "." in name else "plain.h5ad")

    def fill(growing):
        nonlocal first
        for part in parts:
            growing.append(part, first)
            first += part.cells.shape[0]

    if name == "plain":
        with h5py.File(path, "w") as file:
            growing = CellWriter(file, layout, {"a": 1}, most_nonzeros=9999, executor=executor, compress=False)
            fill(growing)
            growing.close()
            assert file["X/data"].compression is None
    else:
        with new_cell_file(path, layout, {"a": 1}, most_nonzeros=9999) as growing:
            fill(growing)
    read = anndata.read_zarr(path) if path.suffix == ".zarr" else anndata.read_h5ad(path)
    whole = CellBlock.join(parts)
    assert (whole.cells != read.X).nnz == 0
    assert read.X.shape == (400, 30)
    assert read.X.has_canonical_format
    assert read.obs_names[0] == "synthetic_0"
    assert read.obs_names[-1] == "synthetic_399"
    assert read.obs["kind"].cat.codes.to_numpy().tolist() == whole.labels[:, 0].tolist()
    assert tuple(read.var_names) == GENES
    assert read.uns["scrdit"]["a"] == 1
    if counts:
        assert (read.layers["counts"] != whole.counts).nnz == 0
        np.testing.assert_array_equal(read.obs["library_size"], whole.library_size)
        np.testing.assert_array_equal(read.obs["total_counts"], np.asarray(whole.counts.sum(axis=1)).ravel())


def test_a_file_is_the_same_however_fast_its_chunks_are_compressed(tmp_path, monkeypatch):
    monkeypatch.setattr(append, "H5_STORAGE", append.H5_STORAGE | {"chunks": (50,)})
    layout = CellLayout(GENES, (("kind", ("T", "B")),))
    plain, chance, files = columns._compress, random.Random(0), []
    for threads in (1, 3):
        path = tmp_path / f"{threads}.h5"
        with ThreadPoolExecutor(threads) as executor, h5py.File(path, "w") as file:
            growing = CellWriter(file, layout, {}, most_nonzeros=9, executor=executor)
            for part in blocks(counts=False):
                growing.append(part, 0)
            growing.close()
        files.append(path.read_bytes())

        def slowly(chunk):
            time.sleep(chance.uniform(0, 0.003))
            return plain(chunk)

        monkeypatch.setattr(columns, "_compress", slowly)
    assert files[0] == files[1]


def test_every_value_that_is_not_zero_becomes_a_stored_one():
    dense = np.array([[0, 1e-4, -1e-30, 3], [0, 0, 0, 0], [np.nan, 0, 2e-45, 0]], np.float32)
    found = to_csr(dense)
    np.testing.assert_array_equal(found.toarray(), dense)
    assert found.nnz == 5
    assert found.has_canonical_format
