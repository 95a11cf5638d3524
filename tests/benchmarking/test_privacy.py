"""The privacy table with a model of a few hundred weights: its rows, what is kept, and what is refused."""

import json

from click.testing import CliRunner

from benchmarks import privacy


def call(*words):
    return CliRunner().invoke(privacy.main, list(words))


def test_every_generator_stands_between_floor_and_control(folder_of_run, monkeypatch):
    command = ("run", "--data", "counts.h5ad", "--cells", "100", "--genes", "20", "--out", "out")
    result = call(*command)
    # The digest is of cells and genes; another column of obs makes no other cells.
    assert result.exit_code == 0, result.output
    rows = {row["generator"]: row for row in json.loads((folder_of_run / "out/results.json").read_text())["rows"]}
    assert list(rows) == ["scrdit_jax", *privacy.PEERS, privacy.FLOOR, privacy.CONTROL]
    assert rows["scrdit_jax"]["released"] == rows["copula"]["released"] == 100
    assert rows[privacy.CONTROL]["auc"]["plain"]["mean"] > 0.99
    assert rows[privacy.CONTROL]["copied"] == 1
    assert rows[privacy.FLOOR]["auc"]["plain"]["mean"] < 0.75
    lines = (folder_of_run / "out/table.md").read_text()
    assert f"| *{privacy.FLOOR}* |" in lines
    assert str(folder_of_run) not in lines
    # What is measured is not measured again.
    monkeypatch.setattr(privacy, "score_membership", None)
    assert call(*command).exit_code == 0


def test_donors_on_both_sides_are_refused_before_anything_is_made(folder_of_run):
    result = call("run", "--data", "counts.h5ad", "--cells", "100", "--donor-key", "donor", "--out", "out")
    assert result.exit_code == 2
    assert "training and held-out cells are of the same donors in 'donor' (d1)" in result.output
    assert not (folder_of_run / "out").exists()
