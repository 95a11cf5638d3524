import gzip
import re

import numpy as np
import pytest
from scipy import sparse

from scrdit_jax.errors import BadInput
from scrdit_jax.io.checking import notes_of
from scrdit_jax.io.readers.tumour_table import is_tumour_table
from scrdit_jax.io.reading import read_cells

CELLS = ["HN28_P15_D06_S330_comb", "HN28_P6_G05_S173_comb", "HNSCC26_P14_D11", "HNSCC5_p3_A01", "HN25_x", "HN7_y"]
ANNOTATION = {
    "processed by Maxima enzyme": ["1", "0", "1", "0", "0", "0"],
    "Lymph node": ["1", "0", "0", "0", "1", "0"],
    "classified  as cancer cell": ["0", "0", "1", "0", "0", "0"],
    "classified as non-cancer cells": ["1", "1", "0", "1", "0", "1"],
    "non-cancer cell type": ["Fibroblast", "-Fibroblast", "0", "B cell", "0", "T cell"],
}
GENES = ["C9orf152", "RPS11", "HLA-A", "7SK"]
VALUES = np.array([[0, 8.61, 2, 0], [0, 0, 0.1375, 0], [3.5, 0, 0, 0], [0, 0, 0, 1e-3], [14.893, 1, 0, 0], [0] * 4])


def table(quote="'", corner="") -> list[list[str]]:
    genes = [[f"{quote}{gene}{quote}", *(f"{v:g}" for v in VALUES[:, j])] for j, gene in enumerate(GENES)]
    return [[corner, *CELLS], *([label, *values] for label, values in ANNOTATION.items()), *genes]


def written(path, rows, *, end="\n", tail=""):
    text = end.join("\t".join(row) + tail for row in rows) + end
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def refused(path) -> str:
    with pytest.raises(BadInput) as caught:
        read_cells(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    assert f"delete {path} and run scripts/fetch_datasets.py gse103322 again" in message
    return message


def require(cells) -> None:
    assert isinstance(cells.X, sparse.csr_matrix)
    assert cells.X.dtype == np.float32
    np.testing.assert_array_equal(cells.X.toarray(), VALUES.astype(np.float32))
    assert list(cells.obs_names) == CELLS
    assert list(cells.var_names) == GENES


def test_the_table_becomes_cells_with_its_own_annotation(tmp_path):
    cells = read_cells(written(tmp_path / "GSE103322_HNSCC_all_data.txt.gz", table()))
    require(cells)
    types = ["Fibroblast", "-Fibroblast", "malignant", "B cell", "unclassified", "T cell"]
    assert list(cells.obs["cell_type"]) == types
    # The paper's immune cells are fewer than the table's T cells, which it must have left out.
    assert list(cells.obs["paper_split"]) == ["fibroblast", "other", "malignant", "immune", "other", "other"]
    assert list(cells.obs["lymph_node"]) == [True, False, False, False, True, False]
    assert list(cells.obs["maxima"]) == [True, False, True, False, False, False]
    assert "-Fibroblast 1, B cell 1, Fibroblast 1, T cell 1, malignant 1, unclassified 1" in notes_of(cells)[0]


@pytest.mark.parametrize(
    ("name", "rows", "how"),
    [
        ("plain.txt", table(), {}),
        ("named_corner.tsv.gz", table(corner="cell"), {}),
        ("no_corner.txt", [CELLS, *table()[1:]], {}),
        ("windows.txt", table(), {"end": "\r\n"}),
        ("a_tab_too_many.txt", table(), {"tail": "\t"}),
        ("bare_names.txt", table(quote=""), {}),
        ("double_quotes.txt", table(quote='"'), {}),
        ("quoted_labels.txt", [[f"'{row[0]}'", *row[1:]] if 0 < i < 6 else row for i, row in enumerate(table())], {}),
        ("blank_end.txt", [*table(), [""], [""]], {}),
        ("one_space.txt", [[" ".join(row[0].split()), *row[1:]] for row in table()], {}),
    ],
)
def test_what_may_differ(tmp_path, name, rows, how):
    require(read_cells(written(tmp_path / name, rows, **how)))


def test_transposing_is_not_needed_and_does_no_harm(tmp_path):
    require(read_cells(written(tmp_path / "table.txt", table()), transpose=True))


def test_other_tables_are_not_taken_for_it(tmp_path):
    path = tmp_path / "cells.tsv"
    path.write_text("\tG0\tG1\nlymph\t1\t0\ncell1\t2\t3\n")
    assert not is_tumour_table(path)
    assert read_cells(path).shape == (2, 2)
    assert not is_tumour_table(tmp_path)
    assert not is_tumour_table(tmp_path / "missing.txt")


def test_contradicting_annotation_is_said(tmp_path):
    rows = table()
    rows[3][1] = "1"  # a fibroblast that is classified as cancer, too
    cells = read_cells(written(tmp_path / "table.txt", rows))
    assert cells.obs["cell_type"].iloc[0] == "malignant"
    assert "1 cells are annotated both as cancer and as something else" in notes_of(cells)[1]


def without(line):
    return lambda rows: [*rows[: line - 1], *rows[line:]]


def with_value(line, field, value):
    return lambda rows: [
        [*row[:field], value, *row[field + 1 :]] if i == line else row for i, row in enumerate(rows, start=1)
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without(2), r"line 2 begins with 'Lymph node'.* annotation processed by maxima enzyme|line 6 begins"),
        (without(4), r"line 6 begins with \"'C9orf152'\", where the annotation classified as cancer cell was to come"),
        (without(6), r"line 6 begins with \"'C9orf152'\", where the annotation non-cancer cell type was to come"),
        (lambda rows: rows[:4], r"line 5 is missing, where the annotation classified as non-cancer cells, non-cancer"),
        (lambda rows: rows[:6], r"line 7 is missing: no gene follows"),
        (lambda rows: [*rows, rows[6]], r"line 11 names the gene 'C9orf152', as line 7 does"),
        (lambda rows: [*rows[:8], rows[8][:-1], *rows[9:]], r"line 9 \('HLA-A'\) has 5 values, but there are 6 cells"),
        (lambda rows: [*rows[:8], [*rows[8], "1"], *rows[9:]], r"line 9 .*has 7 values, but there are 6 cells"),
        (lambda rows: [*rows[:7], [*rows[7], *rows[8]], *rows[9:]], r"line 8 .*has 13 values"),
        (lambda rows: [*rows[:4], rows[4][:-2], *rows[5:]], r"line 5 \(classified as .*\) has 4 values"),
        (lambda rows: [rows[0][:-1], *rows[1:]], r"line 1 names 5 cells, but the next line has 6 values"),
        (lambda rows: [*rows[:7], [""], *rows[7:]], r"line 8 is empty, and others follow"),
        (with_value(8, 0, "'RPS11"), r"line 8 begins with \"'RPS11\", a gene whose quotes do not match"),
        (with_value(8, 0, "RPS11'"), r"line 8 .*quotes do not match"),
        (with_value(8, 0, "'RPS11\""), r"line 8 .*quotes do not match"),
        (with_value(8, 0, "''RPS11''"), r"line 8 .*quotes do not match"),
        (with_value(8, 0, "'"), r"line 8 .*quotes do not match"),
        (with_value(8, 0, "''"), r"line 8 begins with no gene name"),
        (with_value(8, 0, ""), r"line 8 begins with no gene name"),
        (with_value(9, 3, "n/a"), r"line 9 \(gene 'HLA-A'\) has 'n/a' for cell 'HNSCC26_P14_D11'; .*finite number"),
        (with_value(9, 3, ""), r"line 9 .*has '' for cell 'HNSCC26_P14_D11'"),
        (with_value(9, 3, "1,5"), r"line 9 .*has '1,5'"),
        (with_value(9, 3, "nan"), r"line 9 .*has 'nan'"),
        (with_value(9, 3, "1e99"), r"line 9 .*has '1e99'"),
        (with_value(9, 3, "-0.5"), r"line 9 .*has '-0.5' .*not negative"),
        (with_value(3, 2, "yes"), r"line 3 \(lymph node\) has 'yes' for cell 'HN28_P6.*'; it must be 0 or 1"),
        (with_value(1, 2, CELLS[0]), r"line 1 names the cell 'HN28_P15_D06_S330_comb' twice"),
    ],
)  # fmt: skip
def test_damage_is_named_with_its_line(tmp_path, change, message):
    assert re.search(message, refused(written(tmp_path / "table.txt", change(table()))))


def test_a_gz_that_is_cut_short_or_altered(tmp_path):
    rows = [*table(), *([f"'G{j}'", *map(str, np.random.default_rng(j).random(6))] for j in range(3000))]
    whole = written(tmp_path / "whole.txt.gz", rows).read_bytes()
    cut = tmp_path / "cut.txt.gz"
    cut.write_bytes(whole[: len(whole) // 2])
    line = int(re.search(r"is cut short after line (\d+)", refused(cut))[1])
    assert 1000 < line < 2000
    cut.write_bytes(whole[:-8] + b"\0" * 8)
    assert "CRC check failed" in refused(cut)
    cut.write_bytes(whole[:15])  # not even the first lines
    with pytest.raises(BadInput, match="cut short"):
        read_cells(cut)


def test_a_text_that_ends_within_a_line(tmp_path):
    path = written(tmp_path / "table.txt", table())
    path.write_bytes(path.read_bytes()[:-5])
    assert re.search(r"line 10 \('7SK'\) has [45] values", refused(path))


def test_bytes_that_are_no_text(tmp_path):
    path = written(tmp_path / "table.txt", table())
    path.write_bytes(path.read_bytes().replace(b"HLA-A", b"HLA\xff-A"))
    assert "holds bytes that are no text after line 8" in refused(path)


def test_it_can_be_prepared_for_a_model(tmp_path):
    from scrdit_jax.config import DataConfig
    from scrdit_jax.data.sources import load_prepared

    random = np.random.default_rng(0)
    values = np.where(random.random((4, 60)) < 0.5, 0, random.gamma(3, 1, (4, 60)))
    values[0] += 0.5  # no cell without any expression
    cells = [f"HN_{i}" for i in range(60)]
    rows = [["", *cells], *([label, *(values * 10)] for label, values in ANNOTATION.items())]
    rows += [[f"'{gene}'", *map(str, row)] for gene, row in zip(GENES, values, strict=True)]
    config = DataConfig(genes=4, min_cells=1, held_out=0.2, cell_types=("Fibroblast", "T cell"))
    prepared = load_prepared(written(tmp_path / "table.txt.gz", rows), config, multiple_of=2)
    assert prepared.cells.n_obs == 20
    assert prepared.metadata.normalization.method == "none"
    assert set(prepared.metadata.cell_types) == {"Fibroblast", "T cell"}
