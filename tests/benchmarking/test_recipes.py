"""The recipe search with a network of a few hundred weights: what is trained, scored, kept and refused."""

import json

import pytest
from click.testing import CliRunner

from benchmarks.fidelity import recipes
from scrdit_jax.checkpoint import Run
from scrdit_jax.config import load_preset
from scrdit_jax.errors import BadConfig


def row(seed, auc, mmd):
    return {"seed": seed, "whole": {"random_forest_auc": auc, "mmd_pca": mmd}}


BASE = [row(0, 0.70, 0.030), row(1, 0.72, 0.032), row(2, 0.71, 0.034)]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([row(0, 0.60, 0.030), row(1, 0.61, 0.032), row(2, 0.62, 0.034)], "kept"),  # AUC better, MMD the same
        ([row(0, 0.60, 0.050), row(1, 0.61, 0.052), row(2, 0.62, 0.055)], "dropped"),  # MMD worse for it
        ([row(0, 0.60, 0.030), row(1, 0.80, 0.032), row(2, 0.70, 0.034)], "dropped"),  # within the scatter
        ([row(0, 0.29, 0.030), row(1, 0.27, 0.032), row(2, 0.28, 0.035)], "dropped"),  # an AUC below a half is no gain
        ([row(0, 0.70, 0.020)], "undecided"),
        ([row(7, 0.5, 0.0), row(8, 0.5, 0.0)], "undecided"),  # seeds the baseline has not got
    ],
)
def test_the_rule(rows, expected):
    assert recipes.verdict(rows, BASE)[0] == expected


def test_differences_are_paired_by_seed():
    shifted = [row(2, 0.61, 0.033), row(0, 0.60, 0.029), row(1, 0.62, 0.031)]
    _, found = recipes.verdict(shifted, BASE)
    for score, mean in (("random_forest_auc", -0.1), ("mmd_pca", -0.001)):
        assert (found[score].mean, found[score].sd) == (pytest.approx(mean), pytest.approx(0, abs=1e-9))


def test_every_idea_is_a_change_of_the_demo_preset():
    base = load_preset("demo")
    ideas = recipes.read_ideas(recipes.IDEAS)
    assert ideas[0].name == recipes.BASELINE
    assert ideas[0].config(base) == base
    changed = [(idea.config(base), tuple(idea.sampling.items())) for idea in ideas]
    assert len(set(changed)) == len(ideas)


@pytest.fixture
def folder(tiny_cells, tiny_config, tmp_path, monkeypatch, small):
    config = tiny_config.with_settings({"held_out": 0.6})
    tiny_cells.write_h5ad(tmp_path / "tiny.h5ad")
    (tmp_path / "tiny.json").write_text(json.dumps(config.to_dict()))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*arguments):
    return CliRunner().invoke(
        recipes.main, ["--preset", "tiny.json", "--data", "tiny.h5ad", "--out", "out", *arguments]
    )


def test_ideas_are_trained_scored_and_added_to(folder, trained):
    ideas = [
        {"name": "wide", "why": "more room", "settings": {"width": 24}},
        {"name": "few", "sampling": {"steps": 5}},
    ]
    (folder / "mine.json").write_text(json.dumps(ideas))
    common = ("--ideas", "mine.json", "--steps", "6", "--seeds", "2")
    result = call(*common, "--idea", "few")
    assert result.exit_code == 0, result.output
    # What is sampled otherwise is not trained anew: one run a seed serves both.
    assert len(trained) == 4
    assert len(set(trained)) == 2
    result = call(*common)
    assert result.exit_code == 0, result.output
    assert len(trained) == 6
    assert len(set(trained)) == 4
    found = json.loads((folder / "out" / "results.json").read_text())
    named = [(r["generator"], r["seed"]) for r in found["rows"]]
    assert named == [(name, seed) for name in ("real vs real", "baseline", "wide", "few") for seed in (0, 1)]
    assert {r["on"] for r in found["rows"]} == {"validation"}
    steps = {r["made_by"]["settings"]["training"]["steps"] for r in found["rows"] if "settings" in r["made_by"]}
    assert steps == {6}
    table = (folder / "out" / "table.md").read_text()
    assert "| wide | width 24 | 6 | 2 |" in table
    assert "- wide: more room" in table
    line = next(line for line in table.splitlines() if line.startswith("| wide"))
    assert line.endswith(("kept |", "dropped |"))


def test_equal_time_finds_the_steps_once(folder, trained, monkeypatch):
    tried = []
    monkeypatch.setattr(recipes, "steps_in", lambda *given: tried.append(given) or 4)
    for _ in range(2):
        result = call("--minutes", "1", "--idea", "unipc-10", "--seeds", "1")
        assert result.exit_code == 0, result.output
    assert len(tried) == 1
    rows = json.loads((folder / "out" / "results.json").read_text())["rows"]
    assert [r["made_by"]["settings"]["training"]["steps"] for r in rows[1:]] == [4, 4]


def test_the_trial_tells_compiling_from_steps(folder, tiny_config, monkeypatch):
    def train(prepared, *, out, preset):
        run = Run(out)
        run.path.mkdir(exist_ok=True)
        run.write_config(preset)
        # 30 steps of 8 cells in 33 s, 30 of them for compiling; the next 30 in 3 s.
        lines = [{"step": 30, "cells_per_second": 30 * 8 / 33}, {"step": 60, "cells_per_second": 30 * 8 / 3}]
        run.metrics_path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return run

    monkeypatch.setattr(recipes, "train", train)
    config = tiny_config.with_settings({"held_out": 0.6})
    cells = recipes.CellSet.read(recipes.Source("tiny.h5ad"), config.data, "validation", multiple_of=4)
    assert recipes.steps_in(10, config, cells, folder / "trial") == (600 - 30) * 10
    with pytest.raises(BadConfig, match=r"0\.5 minutes are too few for one step; compiling takes 30 s"):
        recipes.steps_in(0.5, config, cells, folder / "trial")


@pytest.mark.parametrize(
    ("ideas", "message"),
    [
        ({}, "is no list of ideas"),
        ([{"settings": {}}], "every idea is an object with a name"),
        ([{"name": "a", "seting": {}}], "a: seting is wrong; there are name, why, settings, sampling"),
        ([{"name": "a"}, {"name": "a"}], "two ideas called 'a'"),
        ([{"name": "a", "settings": {"wdth": 3}}], "idea 'a': no setting is called 'wdth'"),
        ([{"name": "a", "settings": {"genes": 30}}], "idea 'a': genes changes the cells that are compared"),
        ([{"name": "a", "sampling": {"stepz": 3}}], "idea 'a': "),
        ([{"name": "a", "sampling": {"steps": 21}}], "idea 'a': "),  # of 20 timesteps
    ],
)
def test_wrong_ideas_are_refused_before_anything_is_trained(folder, ideas, message):
    (folder / "mine.json").write_text(json.dumps(ideas))
    result = call("--ideas", "mine.json")
    assert result.exit_code == 2
    assert message in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert not (folder / "out").exists()


def test_other_wrong_requests(folder):
    assert "no idea 'x'; there are baseline" in call("--idea", "x").output
    assert "give one of them" in call("--steps", "3", "--minutes", "1").output
