import gzip
import hashlib
import json

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import io, sparse

from scrdit_jax.errors import BadInput
from scrdit_jax.io.checking import SourceDigest, check_cells, notes_of, source_digest
from scrdit_jax.io.reading import embedded_pbmc3k, read_cells

MATRIX = np.array([[1, 0, 2.5], [0, 3, 0]], dtype=np.float32)
CELLS, GENES = ["c0", "c1"], ["G0", "G1", "G2"]


def cells(matrix=MATRIX, *, obs=None) -> anndata.AnnData:
    return anndata.AnnData(matrix, obs=pd.DataFrame(obs or {}, index=CELLS), var=pd.DataFrame(index=GENES))


def dense(adata) -> np.ndarray:
    return adata.X.toarray() if sparse.issparse(adata.X) else adata.X


def require(adata, matrix=MATRIX, *, names=CELLS, genes=GENES) -> None:
    assert adata.X.dtype == np.float32
    np.testing.assert_array_equal(dense(adata), matrix)
    assert list(adata.obs_names) == names
    assert list(adata.var_names) == genes


def refused(path, **options) -> str:
    with pytest.raises(BadInput) as caught:
        read_cells(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path.name) in message
    return message


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array])
def test_anndata_stores(tmp_path, suffix, form):
    path = tmp_path / f"cells{suffix}"
    original = cells(form(MATRIX.astype(np.float64)), obs={"patient": ["p", "q"]})
    original.layers["counts"] = original.X.copy()
    with anndata.settings.override(zarr_write_format=3, auto_shard_zarr_v3=False):
        original.write_h5ad(path) if suffix == ".h5ad" else anndata.io.write_zarr(path, original)
    read = read_cells(path)
    require(read)
    assert isinstance(read.X, np.ndarray if form is np.asarray else sparse.csr_matrix)
    assert list(read.obs["patient"]) == ["p", "q"]
    assert notes_of(read) == ("the file also holds layers['counts'], not used: X was read",)


def tables():
    rows = "\n".join(f"{cell},{','.join(map(str, row))}" for cell, row in zip(CELLS, MATRIX, strict=True))
    return ",G0,G1,G2\n" + rows + "\n"


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("cells.csv", lambda text: text),
        ("cells.csv.gz", lambda text: text),
        ("semicolons.csv", lambda text: text.replace(",", ";")),
        ("cells.tsv", lambda text: text.replace(",", "\t")),
        ("cells.tsv.gz", lambda text: text.replace(",", "\t")),
        ("no_corner.txt", lambda text: text[1:].replace(",", " ")),
        ("windows.csv", lambda text: "\ufeff" + text.replace("\n", "\r\n")),
    ],
)
def test_tables(tmp_path, name, change):
    path, content = tmp_path / name, change(tables()).encode()
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    require(read_cells(path))


def test_table_with_genes_as_rows_and_a_gene_called_nan(tmp_path):
    path = tmp_path / "genes.csv"
    path.write_text("gene,c0,c1\nG0,1,0\nNAN,0,3\n")
    require(read_cells(path, transpose=True), np.array([[1, 0], [0, 3]]), genes=["G0", "NAN"])


def test_npy(tmp_path):
    path = tmp_path / "cells.npy"
    np.save(path, MATRIX.astype(np.float64))
    require(read_cells(path), names=["0", "1"], genes=["gene_0", "gene_1", "gene_2"])
    require(read_cells(path, transpose=True), MATRIX.T, names=["0", "1", "2"], genes=["gene_0", "gene_1"])


def write_10x(path, names, *, kinds=None, group="matrix", matrix=MATRIX) -> None:
    by_cell = sparse.csr_matrix(matrix)
    text = lambda words: np.array(words, dtype="S")  # noqa: E731
    with h5py.File(path, "a") as file:
        node = file.create_group(group)
        for part in ("data", "indices", "indptr"):
            node[part] = getattr(by_cell, part)
        node["shape"], node["barcodes"] = matrix.shape[::-1], text(CELLS)
        ids = text([f"ENSG{j}" for j in range(len(names))])
        if group == "matrix":
            features = node.create_group("features")
            features["id"], features["name"] = ids, text(names)
            features["feature_type"] = text(kinds or ["Gene Expression"] * len(names))
        else:
            node["genes"], node["gene_names"] = ids, text(names)


def test_10x_h5_of_version_3_keeps_gene_expression_only(tmp_path):
    path = tmp_path / "cells.h5"
    write_10x(path, GENES, kinds=["Gene Expression", "Antibody Capture", "Gene Expression"])
    read = read_cells(path)
    require(read, MATRIX[:, [0, 2]], genes=["G0", "G2"])
    assert sparse.issparse(read.X)
    assert list(read.var["gene_ids"]) == ["ENSG0", "ENSG2"]
    assert "2 of 3 features" in notes_of(read)[0]


def test_10x_h5_repeated_symbols_are_made_unique_as_scanpy_does(tmp_path):
    path = tmp_path / "cells.h5"
    write_10x(path, ["G0", "G0", "G2"])
    read = read_cells(path)
    require(read, genes=["G0", "G0-1", "G2"])
    assert "1 repeated gene symbols (first: 'G0')" in notes_of(read)[0]


def test_10x_h5_of_version_2_joins_genomes(tmp_path):
    path = tmp_path / "cells.h5"
    write_10x(path, ["h0", "h1", "h2"], group="hg19")
    write_10x(path, ["m0", "m1", "m2"], group="mm10", matrix=2 * MATRIX)
    read = read_cells(path)
    require(read, np.hstack([MATRIX, 2 * MATRIX]), genes=["h0", "h1", "h2", "m0", "m1", "m2"])
    assert list(read.var["genome"]) == ["hg19"] * 3 + ["mm10"] * 3


@pytest.mark.parametrize(("genes_file", "gz"), [("features.tsv", True), ("features.tsv", False), ("genes.tsv", False)])
def test_10x_folder(tmp_path, genes_file, gz):
    kinds = ["Gene Expression", "Gene Expression", "CRISPR Guide Capture"]
    lines = [f"ENSG{j}\t{g}" + (f"\t{kinds[j]}" if genes_file == "features.tsv" else "") for j, g in enumerate(GENES)]
    io.mmwrite(tmp_path / "matrix.mtx", sparse.coo_matrix(MATRIX.T))
    (tmp_path / genes_file).write_text("\n".join(lines) + "\n")
    (tmp_path / "barcodes.tsv").write_text("\n".join(CELLS) + "\n")
    if gz:
        for path in list(tmp_path.iterdir()):
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    kept = 2 if genes_file == "features.tsv" else 3
    read = read_cells(tmp_path)
    require(read, MATRIX[:, :kept], genes=GENES[:kept])
    assert sparse.issparse(read.X)


def test_missing_file_suggests_a_near_name(tmp_path):
    cells().write_h5ad(tmp_path / "lung.h5ad")
    assert f"did you mean {tmp_path / 'lung.h5ad'}?" in refused(tmp_path / "lungs.h5ad")
    assert ".h5ad, .zarr" in refused(tmp_path / "quite_other")
    assert "neither does its folder" in refused(tmp_path / "no" / "cells.h5ad")


def test_folder_that_is_no_format(tmp_path):
    assert "is a folder, but none that can be read (formats: .h5ad, .zarr" in refused(tmp_path)
    cells().write_h5ad(tmp_path / "lung.h5ad")
    assert f"perhaps {tmp_path / 'lung.h5ad'}" in refused(tmp_path)


def test_unknown_and_wrong_formats(tmp_path):
    for name, expected in {
        "cells.rds": "'.rds'|.rds",
        "matrix.mtx": "give its folder",
        "words.h5ad": "is no .h5ad file",
        "words.h5": "is no .h5 file",
        "words.npy": "is no .npy file",
        "words.csv.gz": "is no .csv.gz file",
    }.items():
        (tmp_path / name).write_text("hello,a,b\n1,2,3\n")
        assert any(part in refused(tmp_path / name) for part in expected.split("|"))


def test_truncated_files(tmp_path):
    whole, cut = tmp_path / "whole.h5ad", tmp_path / "cut.h5ad"
    cells().write_h5ad(whole)
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert "cut short" in refused(cut)
    packed = tmp_path / "cut.csv.gz"
    packed.write_bytes(gzip.compress(tables().encode())[:-12])
    assert "cut short" in refused(packed)


def test_h5ad_with_indices_out_of_range_is_refused(tmp_path):
    path = tmp_path / "cells.h5ad"
    cells(sparse.csr_matrix(MATRIX)).write_h5ad(path)
    with h5py.File(path, "a") as file:
        file["X/indices"][0] = 999
    assert "X has the column number 999, which is none of 0 to 2" in refused(path)


def test_h5_files_that_are_something_else(tmp_path):
    with h5py.File(tmp_path / "other.h5ad", "w") as file:
        file["something"] = [1]
    assert "is no AnnData: it lacks obs and var" in refused(tmp_path / "other.h5ad")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["something"] = [1]
    assert "neither a group 'matrix'" in refused(tmp_path / "other.h5")
    cells().write_h5ad(tmp_path / "renamed.h5")
    assert "rename it to .h5ad" in refused(tmp_path / "renamed.h5")
    anndata.AnnData(obs=pd.DataFrame(index=CELLS)).write_h5ad(tmp_path / "bare.h5ad")
    assert "has no matrix X" in refused(tmp_path / "bare.h5ad")


def test_10x_without_gene_expression_or_with_other_sizes(tmp_path):
    write_10x(tmp_path / "guides.h5", GENES, kinds=["Antibody Capture"] * 3)
    assert "only Antibody Capture" in refused(tmp_path / "guides.h5")
    folder = tmp_path / "folder"
    folder.mkdir()
    io.mmwrite(folder / "matrix.mtx", sparse.coo_matrix(MATRIX))
    assert "not features.tsv or genes.tsv" in refused(folder)
    (folder / "genes.tsv").write_text("\n".join(GENES))
    (folder / "barcodes.tsv").write_text("\n".join(CELLS))
    assert "matrix.mtx is 2 x 3, but there are 3 genes and 2 barcodes" in refused(folder)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is empty; its first row must hold the gene names"),
        (",G0,G1\n", "is empty: no rows follow"),
        (",G0,G1\nc0,1,0\nc1,high,0\n", "the value 'high' in row 'c1', column 'G0' is not a number"),
        (",G0,G1\nc0,True,0\nc1,False,0\n", "the value 'True' in row 'c0', column 'G0' is not a number"),
        (",G0,G1\nc0,1,0\nc1,,0\n", "the value of cell 'c1', gene 'G0' is missing (NaN)"),
        (",G0,G1\nc0,1,0\nc1,2,inf\n", "the value of cell 'c1', gene 'G1' is infinite"),
        (",G0,G0\nc0,1,0\nc1,2,1\n", "repeats the gene name 'G0'"),
        (",G0,G1,G2,G3\nc0,1,0\nc1,2,1\n", "names 5 columns in its first row but holds 2 values a row"),
        (",G0,G1\nc0,1,0\nc1,2,1,5,6\n", "is no .csv file that can be read"),
        ("justonecolumn\n1\n2\n", "is empty (2 cells x 0 genes)"),
    ],
)
def test_bad_tables(tmp_path, text, expected):
    path = tmp_path / "cells.csv"
    path.write_text(text)
    assert expected in refused(path)


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        (np.zeros(5), "holds shape (5,)"),
        (np.zeros((0, 5)), "is empty (0 cells x 5 genes)"),
        (np.array([["a", "b"]]), "values of type <U1"),
        (np.array([[1 + 2j]]), "values of type complex128"),
        (np.array([[1.0, np.nan]]), "cell '0', gene 'gene_1' is missing (NaN)"),
        (np.array([[1e300, 1.0]]), "cell '0', gene 'gene_0' is infinite"),
    ],
)
def test_bad_npy(tmp_path, matrix, expected):
    path = tmp_path / "cells.npy"
    np.save(path, matrix)
    assert expected in refused(path)


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was opened",))


def test_pickles_are_never_opened(tmp_path):
    path = tmp_path / "cells.npy"
    np.save(path, np.array([[Trap()]], dtype=object), allow_pickle=True)
    assert "allow_pickle=False" in refused(path)
    store = tmp_path / "cells.zarr"
    (store / "X").mkdir(parents=True)
    (store / ".zgroup").write_text(json.dumps({"zarr_format": 2}))
    (store / "X" / ".zarray").write_text('{"zarr_format": 2, "filters": [{"id":"\\u0070ickle"}]}')
    with pytest.raises(BadInput, match="never opened"):
        read_cells(store)


def test_check_names_the_first_bad_value_of_a_sparse_matrix():
    matrix = sparse.csr_matrix(MATRIX)
    matrix.data[2] = np.inf
    with pytest.raises(BadInput, match=r"memory: the value of cell 'c1', gene 'G1' is infinite; .* set it to 0"):
        check_cells(cells(matrix), "memory")


def test_check_refuses_words_and_repeated_genes():
    adata = cells(np.array([[1, 2, 3], [4, "x", 6]], dtype=object))
    with pytest.raises(BadInput, match="value 'x' of cell 'c1', gene 'G1' is not a number"):
        check_cells(adata, "memory")
    adata = cells()
    adata.var_names = ["G0", "G1", "G1"]
    with pytest.raises(BadInput, match=r"repeats the gene name 'G1' .*var_names_make_unique"):
        check_cells(adata, "memory")


def test_check_makes_cell_names_unique_and_leaves_the_input_alone():
    matrix = sparse.csr_matrix((np.array([1.0, 2.0, 0.0]), np.array([2, 0, 1]), np.array([0, 2, 3])), shape=(2, 3))
    adata = cells(matrix)
    adata.obs_names = ["c", "c"]
    checked = check_cells(adata, "memory")
    assert list(checked.obs_names) == ["c", "c-1"]
    assert list(adata.obs_names) == ["c", "c"]
    assert notes_of(checked) == ("1 repeated cell names (first: 'c') were made unique by adding -1, -2, ...",)
    assert notes_of(adata) == ()
    np.testing.assert_array_equal(checked.X.indices, [0, 2])
    np.testing.assert_array_equal(matrix.indices, [2, 0, 1])
    assert matrix.data.dtype == np.float64


def test_columns_come_in_this_machines_order_of_bytes_and_dates_are_left_out(tmp_path):
    adata = cells()
    adata.obs["age"] = np.arange(adata.n_obs).astype(">i8")
    adata.obs["taken"] = pd.to_datetime(["2020-01-01"] * adata.n_obs)
    checked = check_cells(adata, "memory")
    assert checked.obs["age"].dtype == np.dtype("int64")
    assert checked.obs["age"].tolist() == list(range(adata.n_obs))
    assert "taken" not in checked.obs
    assert [note for note in notes_of(checked) if "'taken' was left out: it holds datetime64" in note]
    checked[::-1].copy().write_h5ad(tmp_path / "cells.h5ad")


def test_names_with_a_nul_are_refused():
    for names in ("obs_names", "var_names"):
        adata = cells()
        setattr(adata, names, [f"a\0{i}" for i in range(len(getattr(adata, names)))])
        with pytest.raises(BadInput, match="memory has names with a NUL in them"):
            check_cells(adata, "memory")


def test_digest_sees_values_and_names_but_not_the_form():
    digest = source_digest(check_cells(cells(), "memory"))
    assert digest == source_digest(check_cells(cells(sparse.csc_matrix(MATRIX.astype(np.float64))), "memory"))
    changed = MATRIX.copy()
    changed[1, 1] = 4
    renamed = cells()
    renamed.obs_names = ["c0", "c2"]
    swapped = cells(MATRIX[:, [1, 0, 2]])
    others = {source_digest(check_cells(adata, "memory")) for adata in (cells(changed), renamed, swapped)}
    assert digest not in others
    assert len(others) == 3
    # The recipe, once by hand: names with their lengths, then counts a row, columns and values.
    by_hand = hashlib.sha256()
    for names in (GENES, CELLS):
        by_hand.update(f"{len(names)}\n".encode())
        by_hand.update(b"".join(len(name).to_bytes(8, "little") + name.encode() for name in names))
    for values, kind in (([2, 1], "<i8"), ([0, 2, 1], "<i8"), ([1, 2.5, 3], "<f4")):
        by_hand.update(np.array(values, dtype=kind).tobytes())
    assert digest == by_hand.hexdigest()


def test_embedded_cells():
    adata = embedded_pbmc3k()
    assert adata.shape == (2638, 13714)
    assert isinstance(adata.X, sparse.csr_matrix)
    assert adata.obs["cell_type"].nunique() == 8
    assert adata["AAACATACAACCAC-1"].X.sum() == adata.X[0].sum() > 0


@pytest.mark.parametrize("rows", [1000, 4096, 5000, 9000])
def test_the_digest_is_the_same_whatever_blocks_the_cells_come_in(rows):
    """Runs remember it, so it is that of blocks of 4,096, in which cells were once read."""
    x = sparse.random(9000, 12, 0.2, "csr", random_state=0, dtype=np.float32)
    cells = anndata.AnnData(x)
    found, expected = SourceDigest(cells), SourceDigest(cells)._digest
    for first in range(0, 9000, rows):
        found.update(x[first : first + rows])
    for first in range(0, 9000, 4096):
        block = x[first : first + 4096]
        for array, kind in ((np.diff(block.indptr), "<i8"), (block.indices, "<i8"), (block.data, "<f4")):
            expected.update(array.astype(kind).tobytes())
    assert found.hexdigest() == expected.hexdigest()
