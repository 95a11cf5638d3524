"""The comparison of priors: every one is fitted, drawn from and scored on a toy."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.fidelity import prior_nets, priors


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(prior_nets, "STEPS", 20)
    monkeypatch.setattr(prior_nets, "CHECKED_EVERY", 10)
    monkeypatch.setattr(prior_nets, "LEVELS", 3)
    monkeypatch.setattr(prior_nets, "DEPTH", 1)
    monkeypatch.setattr(priors, "TREES", 5)
    monkeypatch.setattr(priors, "TIMED", 8)


def toy():
    rng = np.random.default_rng(0)
    codes = np.arange(160, dtype=np.int32) % 2
    states = rng.normal(size=(160, 5)) + codes[:, None]
    return priors.States(states[:100], codes[:100], states[100:], codes[100:], 2)


@pytest.mark.slow
def test_a_command_writes_a_row_for_each_prior(quick, monkeypatch, tmp_path):
    monkeypatch.setattr(priors, "read", lambda source, most: toy())
    monkeypatch.setattr(priors, "OF_ALL", 3)
    words = ["--scores", "3", "--seeds", "1", "--out", str(tmp_path)]
    done = CliRunner().invoke(priors.main, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    rows = {row["prior"]: row for row in json.loads((tmp_path / "results.json").read_text())["rows"]}
    assert list(rows) == list(priors.PRIORS)
    assert all(0 <= row["auc"] <= 1 and np.isfinite(row["energy_distance"]) for row in rows.values())
    assert rows["training cells"]["nearest_ratio"] == 0
    assert set(rows["mixture"]["auc_with_noise"]) == {"0.1", "0.2", "0.3"}
    assert (tmp_path / "table.md").read_text().count("\n") == 2 + len(rows)


def test_densities_integrate_to_one(quick):
    states = toy()
    grid = np.linspace(-6, 8, 2000)
    for kind in (priors.Mixed, priors.Smoothed, prior_nets.Autoregressive):
        prior = kind(states.training[:, :1], states.codes, 2, seed=0)
        inside = grid[(grid > states.training[:, 0].min()) & (grid < states.training[:, 0].max())]
        points = inside if kind is prior_nets.Autoregressive else grid
        density = np.exp(prior.log_prob(points[:, None], np.zeros(len(points), np.int32)))
        assert abs(density.sum() * (grid[1] - grid[0]) - 1) < 0.02
