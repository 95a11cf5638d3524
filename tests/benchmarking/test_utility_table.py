"""The utility table with a model of a few hundred weights: its rows, what is kept, and what is refused."""

import json

import numpy as np
from click.testing import CliRunner

from benchmarks import utility


def call(*words):
    return CliRunner().invoke(utility.main, list(words))


def test_every_generator_stands_beside_real_cells(folder_of_run, monkeypatch):
    command = ("run", "--data", "counts.h5ad", "--cells", "100", "--genes", "20", "--seeds", "1", "--out", "out")
    result = call(*command)
    assert result.exit_code == 0, result.output
    found = json.loads((folder_of_run / "out/results.json").read_text())
    skipped = {one["generator"] for one in found["skipped"]}
    assert skipped <= {"scvi", "scvi-prior"}  # where scvi-tools is not installed
    names = ["scrdit_jax", *(p for p in utility.PEERS if p not in skipped), utility.REAL, utility.SHUFFLED]
    assert list(dict.fromkeys(row["generator"] for row in found["rows"])) == names
    assert len(found["rows"]) == len(names)
    accuracy = {
        name: np.mean([r["classifiers"]["logistic"]["accuracy"] for r in found["rows"] if r["generator"] == name])
        for name in names
    }
    assert accuracy[utility.REAL] >= accuracy[utility.SHUFFLED]
    lines = (folder_of_run / "out/table.md").read_text()
    assert f"| *{utility.REAL}* |" in lines
    assert "counts, hvg:20: " in lines
    assert str(folder_of_run) not in lines
    # What is measured is not measured again.
    monkeypatch.setattr(utility, "scores_of", None)
    assert call(*command).exit_code == 0


def test_cells_without_types_are_refused_in_a_line(folder_of_run, labelled_cells):
    labelled_cells.obs = labelled_cells.obs.drop(columns="cell_type")
    labelled_cells.write_h5ad(folder_of_run / "counts.h5ad")
    result = call("run", "--data", "counts.h5ad", "--cells", "100", "--out", "out")
    assert result.exit_code == 2
    assert not (folder_of_run / "out").exists()
