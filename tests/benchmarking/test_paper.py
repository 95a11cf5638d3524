"""The paper's tables and figures with networks of a few hundred weights: what is measured, and that it goes on."""

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.commands import slug
from benchmarks.paper import __main__ as paper
from benchmarks.paper import measuring, plan, tables

TINY = replace(
    plan.QUICK,
    epochs=(1, 2),
    unet_epochs=(1, 2),
    cells=12,
    settings={"genes": 40, "min_cells": 3, "held_out": 0.3, "timesteps": 200, "beta_end": 0.1},
    dit={"genes_per_token": 10, "width": 8, "depth": 1, "heads": 1},
    unet={"channels": 2, "heads": 1},
)


@pytest.fixture(scope="module")
def cells_path(tiny_cells, tmp_path_factory):
    path = tmp_path_factory.mktemp("cells") / "tiny.h5ad"
    tiny_cells.write_h5ad(path)
    return path


def draw_nothing_new(run, sampler, cells, seed, training, out):
    drawn = np.random.default_rng(seed).permutation(training)[:cells]
    measuring.write_cells(out, drawn)
    return drawn, 0.1


@pytest.mark.parametrize("trained", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_it_measures_every_row_once_and_writes_tables_and_figures(trained, cells_path, tmp_path, monkeypatch, small):
    monkeypatch.setattr(paper, "QUICK", TINY)
    if not trained:
        monkeypatch.setattr(measuring, "train_to", lambda model, out: 0.1)
        monkeypatch.setattr(measuring, "draw", draw_nothing_new)
    out = tmp_path / "out"
    arguments = ["--quick", "--set", f"{cells_path}:T cell", "--out", str(out)]
    drawn, stop_at = [], 7
    draw = measuring.draw

    def draw_until_stopped(run, sampler, *rest):
        drawn.append(sampler)
        if len(drawn) == stop_at:
            raise KeyboardInterrupt
        return draw(run, sampler, *rest)

    monkeypatch.setattr(measuring, "draw", draw_until_stopped)
    runner = CliRunner()
    assert runner.invoke(paper.main, arguments).exit_code != 0
    before = json.loads((out / "rows.json").read_text())["rows"]
    stop_at = None
    result = runner.invoke(paper.main, arguments)
    assert result.exit_code == 0, result.output
    assert json.loads((out / "rows.json").read_text())["rows"][: len(before)] == before

    rows = json.loads((out / "results.json").read_text())["rows"]
    names = ("system", "epochs", "acceleration", "eta", "schedule", "from_real")
    measured = [tuple(row[name] for name in names) for row in rows if "system" in row]
    assert len(measured) == len(set(measured)) == len(rows) - 1
    assert len(drawn) == 7 + 2 * (len(measured) - 3)  # two seeds a row; three rows were finished before
    table_3 = {(r, eta) for system, epochs, r, eta, s, _ in measured if (system, epochs, s) == ("dit-zn", 2, "paper")}
    assert all(row["training_seconds"] > 0.05 for row in rows if "system" in row)
    assert table_3 == {(r, eta) for r in (1, 10, 20, 50, 100) for eta in (0.0, 1.0)}
    assert {system for system, *_ in measured} == set(plan.SYSTEMS)
    assert {r for system, _, r, *_ in measured if system == plan.DRAWN} == {10, 20, 50, 100}
    for row in rows:
        for scores in row["scores"]:
            assert scores["mmd"] >= 0
            assert scores["kl"] >= 0
            assert 0 <= scores["zero_fraction"] <= 1
    text = (out / "tables.md").read_text()
    assert all(title in text for title in ("Table 1", "Table 2", "Table 3", "Why 100x collapses", "*real*"))
    for name in (*(f"figure_{name}" for name in ("3a", "3b", "3c", "4a", "4b", "4c")), "evaluations"):
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")

    refused = runner.invoke(paper.main, ["--quick", "--set", f"{cells_path}:B cell", "--out", str(out)])
    assert refused.exit_code == 2
    assert "was measured under other conditions" in refused.output
    unknown = runner.invoke(paper.main, ["--quick", "--set", f"{cells_path}:X", "--out", str(tmp_path / "x")])
    assert unknown.exit_code == 2
    assert "no cell type 'X'" in unknown.output


def test_table_3_alone(cells_path, tmp_path, monkeypatch, small):
    monkeypatch.setattr(paper, "QUICK", TINY)
    monkeypatch.setattr(measuring, "train_to", lambda model, out: 0.1)
    monkeypatch.setattr(measuring, "draw", draw_nothing_new)
    out = tmp_path / "out"
    arguments = ["--quick", "--acceleration", "--set", f"{cells_path}:T cell", "--out", str(out)]
    result = CliRunner().invoke(paper.main, arguments)
    assert result.exit_code == 0, result.output
    rows = json.loads((out / "results.json").read_text())["rows"]
    assert {(row["system"], row["epochs"]) for row in rows if "system" in row} == {("dit-zn", 2), (plan.DRAWN, 2)}
    assert {path.name for path in out.glob("*.png")} == {"evaluations.png", "figure_4c.png"}
    text = (out / "tables.md").read_text()
    assert "Table 3" in text
    assert "Table 1" not in text


def test_ddpm_is_what_eta_1_with_every_timestep_asks_for():
    assert plan.Sampler(1, 1.0, "paper").options == {"solver": "ddpm", "schedule": "uniform"}
    assert plan.Sampler(10, 1.0, "paper").options["acceleration"] == 10


def test_it_goes_on_to_two_evaluations():
    asked = {(s.acceleration, s.schedule) for s in plan.samplers("dit-zn", plan.QUICK)}
    assert {(250, "paper"), (500, "paper")} <= asked
    assert [s.options for s in plan.samplers(plan.DRAWN, plan.FULL)][-1] == {"acceleration": 500}


def test_the_published_figures_are_complete():
    for figures in tables.PUBLISHED.values():
        assert set(figures["acceleration"]) == {"1", "10", "20", "50", "100"}
        assert set(figures["networks"]) == {"unet", "dit", "dit-zn"}
        assert all(len(scores) == 3 for scores in (*figures["epochs"].values(), *figures["acceleration"].values()))
    # What table 3 has at 10x is what table 2 calls best.
    for name in ("Fibroblast", "keloid", "immune"):
        assert tables.published(name, "acceleration")["10"][2] == tables.published(name, "networks")["dit-zn"]
    assert tables.published("Epithelial cell", "epochs") == {}
    assert slug("CD4 T cells") == "cd4-t-cells"
