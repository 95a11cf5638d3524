import gzip
import io
import re
import tarfile

import numpy as np
import pytest
from geo_archive import annotate, read_archive
from scipy import io as scipy_io
from scipy import sparse

from scrdit_jax.errors import BadInput
from scrdit_jax.io.checking import check_cells, notes_of
from scrdit_jax.io.reading import read_cells

CONDITIONS = {"Ke01": "keloid", "NS02": "normal scar"}
GENES = ["ENSG1\tCOL1A1\tGene Expression", "ENSG2\tPOSTN\tGene Expression", "ENSG3\tKRT5\tGene Expression"]
KELOID = np.array([[5, 0, 1], [0, 2, 0], [0, 0, 0]])
SCAR = np.array([[1, 1, 0], [0, 0, 7]])
BARCODES = ["AAAC-1", "AAAG-1", "AAAT-1"]


def sample(name, counts, *, barcodes=BARCODES, genes=GENES, features="features.tsv", gz=True) -> dict[str, bytes]:
    matrix = io.BytesIO()
    scipy_io.mmwrite(matrix, sparse.csc_matrix(counts.T))
    parts = {
        "matrix.mtx": matrix.getvalue(),
        "barcodes.tsv": "".join(f"{code}\n" for code in barcodes[: len(counts)]).encode(),
        features: "".join(f"{gene}\n" for gene in genes).encode(),
    }
    return {f"{name}_{part}{'.gz' * gz}": gzip.compress(data) if gz else data for part, data in parts.items()}


def written(path, files):
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture
def files():
    visium = {"GSM5494440_Pt1_tissue_lowres_image.png.gz": b"png", **sample("GSM5494440_Pt1", SCAR)}
    return {**sample("GSM5494438_Ke01", KELOID), **sample("GSM5610149_NS02", SCAR), **visium}


def refused(path, **options) -> str:
    with pytest.raises(BadInput) as caught:
        read_archive(path, CONDITIONS, **options)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))
    return str(caught.value)


def test_samples_become_cells_that_say_where_they_are_from(tmp_path, files):
    cells = read_archive(written(tmp_path / "GSE181297_RAW.tar", files), CONDITIONS)
    np.testing.assert_array_equal(cells.X.toarray(), np.concatenate([KELOID, SCAR]))
    assert list(cells.obs_names) == [f"Ke01_{code}" for code in BARCODES] + [f"NS02_{code}" for code in BARCODES[:2]]
    assert list(cells.var_names) == ["COL1A1", "POSTN", "KRT5"]
    assert list(cells.var["gene_ids"]) == ["ENSG1", "ENSG2", "ENSG3"]
    assert list(cells.obs["sample"]) == ["Ke01"] * 3 + ["NS02"] * 2
    assert list(cells.obs["condition"]) == ["keloid"] * 3 + ["normal scar"] * 2
    assert "cell_type" not in cells.obs
    assert notes_of(cells)[-1] == "other samples of the archive were left out: Pt1"
    assert sparse.isspmatrix_csr(check_cells(cells, "x").X)


def test_plain_files_of_cell_ranger_2_and_folders_in_the_archive(tmp_path, files):
    old = [gene.rpartition("\t")[0] for gene in GENES]
    other = {f"suppl/{k}": v for k, v in sample("NS02", SCAR, genes=old, features="genes.tsv", gz=False).items()}
    files = {name: data for name, data in files.items() if "Ke01" in name} | other
    cells = read_archive(written(tmp_path / "a.tar", files), CONDITIONS)
    np.testing.assert_array_equal(cells.X.toarray(), np.concatenate([KELOID, SCAR]))


def test_barcodes_with_few_genes_are_left_out(tmp_path, files):
    path = written(tmp_path / "a.tar", files)
    cells = read_archive(path, CONDITIONS, min_genes=1)
    assert "Ke01_AAAT-1" not in cells.obs_names
    assert notes_of(cells)[0] == "Ke01: 2 of 3 barcodes have at least 1 genes above zero"
    assert "no barcode of Ke01 has 3 genes above zero; lower --min-genes" in refused(path, min_genes=3)


def test_genes_that_one_sample_lacks(tmp_path, files):
    files |= sample("GSM5610149_NS02", SCAR[:, :2], genes=GENES[:2])
    cells = read_archive(written(tmp_path / "a.tar", files), CONDITIONS)
    assert list(cells.var_names) == ["COL1A1", "POSTN"]
    assert "1 of 3 genes are not in every sample and were left out" in notes_of(cells)


def test_damage(tmp_path, files):
    whole = written(tmp_path / "a.tar", files)
    short = tmp_path / "short.tar"
    short.write_bytes(whole.read_bytes()[:3000])
    assert "is no whole archive of 10x samples" in refused(short)
    short.write_text("<html>not found</html>")
    assert "is no whole archive of 10x samples" in refused(short)
    matrix = "GSM5494438_Ke01_matrix.mtx.gz"
    lacking = {name: data for name, data in files.items() if name != matrix}
    assert "no matrix.mtx of sample Ke01; its samples: Ke01, NS02, Pt1" in refused(written(short, lacking))
    assert "sample Ke01 cannot be read" in refused(written(short, files | {matrix: files[matrix][:-12]}))
    fewer = sample("GSM5494438_Ke01", KELOID, barcodes=BARCODES[:2])
    message = refused(written(short, files | fewer))
    assert re.search(r"sample Ke01 cannot be read \(Ke01: matrix.mtx is 3 x 3, but .* 2 barcodes\)", message)


def test_only_what_is_asked_for_is_unpacked(tmp_path, files):
    outside = {f"../../evil/../{name}": data for name, data in files.items()}
    read_archive(written(tmp_path / "a.tar", outside), CONDITIONS)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


def test_an_archive_as_data_is_refused_with_what_to_do(tmp_path, files):
    with pytest.raises(BadInput, match=r"is an archive; .*fetch_datasets.py gse181297 --from"):
        read_cells(written(tmp_path / "GSE181297_RAW.tar", files))


@pytest.fixture
def cells(tmp_path, files):
    return read_archive(written(tmp_path / "a.tar", files), CONDITIONS)


def test_cell_types_of_the_users_own(tmp_path, cells):
    path = tmp_path / "types.csv"
    path.write_text("barcode,cell_type,score\nKe01_AAAC-1,Fibroblast,1\nAAAT-1,T cell,2\nNS02_AAAG-1,Fibroblast,3\n\n")
    annotated = annotate(cells, path)
    expected = ["Fibroblast", "unannotated", "T cell", "unannotated", "Fibroblast"]
    assert list(annotated.obs["cell_type"]) == expected
    assert notes_of(annotated)[-1] == "3 of 5 cells have a cell type from types.csv"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cell,type\nKe01_AAAC-1,T\n", "has no column barcode nor cell_type, only cell, type"),
        ("barcode,cell_type\nAAAC-1,T\n", "line 2: the barcode 'AAAC-1' is in several samples; write it as 'Ke01_AAAC"),
        ("barcode,cell_type\n\nGGGG-1,T\n", "line 3: the barcode 'GGGG-1' fits no cell"),
        ("barcode,cell_type\nAAAT-1,T\nKe01_AAAT-1,B\n", "line 3: the barcode 'Ke01_AAAT-1' was named before"),
        ("barcode,cell_type\nAAAT-1,\n", "line 2: the barcode 'AAAT-1' has no cell type"),
        ("", "is no table that can be read"),
    ],
)
def test_an_annotation_that_cannot_be_used(tmp_path, cells, text, message):
    path = tmp_path / "types.csv"
    path.write_text(text)
    with pytest.raises(BadInput) as caught:
        annotate(cells, path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
