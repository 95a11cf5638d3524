"""Labels, quotas, counts and families by hand on the command line, and what is mistyped there."""

import json

import anndata
import pandas as pd
import pytest


def test_quotas_from_a_file_to_the_report(scrdit, labelled_run, tmp_path):
    (tmp_path / "counts.csv").write_text("cell_type,cells\nT cell,24\nB cell,16\n")
    words = ("--per-type", "counts.csv", "--output", "counts", "--guidance", 2, "--steps", 3, "--out", "cells.h5ad")
    status, text = scrdit("sample", labelled_run.path, *words)
    assert status == 0, text
    cells = anndata.read_h5ad(tmp_path / "cells.h5ad")
    assert cells.obs["cell_type"].value_counts().to_dict() == {"T cell": 24, "B cell": 16}
    status, text = scrdit("evaluate", labelled_run.path, "cells.h5ad", "--out", "report", "--repeats", 1)
    assert status == 0, text
    assert "classified as requested" in text, text
    types = {t["name"]: t for t in json.loads((tmp_path / "report/report.json").read_text())["cell_types"]}
    assert types["T cell"]["requested"] == types["T cell"]["generated"] == 24
    assert 0 <= types["T cell"]["classified"] <= 1
    assert "By cell type" in (tmp_path / "report/report.html").read_text()
    assert "conditioned on donor: d2, d1" in scrdit("info", labelled_run.path)[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--cells", 5, "--cell-type", "T cells"], "the model knows no 'T cells' in 'cell_type'; did you mean T cell"),
        (["--cell-type", "T cell"], "how many cells are wanted is not said; add --cells"),
        (["--cells", 5, "--cell-type", "T cell", "--match", "x.h5ad"], "give one of them"),
        (["--per-type", "nothing.csv"], "nothing.csv is not there"),
        (["--cells", 5, "--depth", 100], "add --output counts"),
        (["--cells", 5, "--guidance", -1], "guidance is -1.0; it must be a number 0 or more"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(words, message, scrdit, labelled_run, tmp_path):
    status, text = scrdit("sample", labelled_run.path, *words, "--out", "cells.h5ad")
    assert status == 2, text
    assert message in text, text
    assert len(text.strip().splitlines()) == 1, text
    assert not list(tmp_path.iterdir())


def test_a_model_without_labels_is_asked_for_none(scrdit, tiny_run, tmp_path):
    for words in (["--cell-type", "T cell"], ["--match", "x.h5ad"], ["--guidance", 2]):
        status, text = scrdit("sample", tiny_run.path, "--cells", 5, *words, "--out", "cells.h5ad")
        assert status == 2, text
        assert "trained without labels" in text, text
        assert len(text.strip().splitlines()) == 1, text
    assert not list(tmp_path.iterdir())


def test_columns_that_cannot_be_conditioned_on(scrdit, tiny_cells, tiny_config, tmp_path):
    cells = tiny_cells.copy()
    cells.obs["tissue"] = pd.Categorical([None] + ["lung"] * 89)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    (tmp_path / "tiny.json").write_text(json.dumps(tiny_config.to_dict()))
    for column, message in (("tissue", "lacks the label of 1 of 90 cells"), ("organ", "has no column 'organ'")):
        status, text = scrdit("train", "cells.h5ad", "--preset", "tiny.json", "--condition-on", column, "--out", "run")
        assert status == 2, text
        assert message in text, text
        assert not (tmp_path / "run").exists(), text
