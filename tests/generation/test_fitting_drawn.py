"""Timesteps fitted by the cells that a sampler ends at."""

import numpy as np
import pytest

import scrdit_jax as scrdit_jax
from scrdit_jax.checkpoint import load_model
from scrdit_jax.diffusion.schedule import linear_schedule
from scrdit_jax.errors import BadTimesteps
from scrdit_jax.generation import fitting
from scrdit_jax.io.reading import read_cells
from scrdit_jax.provenance import Provenance
from scrdit_jax.training.metric_logger import DivergenceMonitor


@pytest.fixture
def few(monkeypatch):
    """As few candidates and cells as will do."""
    monkeypatch.setattr(fitting, "FEWEST_REAL_CELLS", 8)
    monkeypatch.setattr(fitting, "FIRST", (-2.0,))
    monkeypatch.setattr(fitting, "LAST", (1.0,))
    monkeypatch.setattr(fitting, "CARRIED_STEPS", (2,))
    monkeypatch.setattr(fitting, "SAMPLES", 1)


def test_a_finished_run_carries_them_and_sampling_takes_them(few, tiny_cells, tiny_config, tmp_path, scrdit):
    run = scrdit_jax.train(tiny_cells, out=tmp_path / "run", preset=tiny_config, steps=3, loss="likelihood")
    model = load_model(run)
    assert list(model.fitted) == list(range(1, 9))
    for steps, taus in model.fitted.items():
        assert len(taus) == steps
        assert np.all(np.diff(taus) < 0)
        assert taus[-1] >= 1
    provenance = Provenance.from_uns(scrdit_jax.sample(run, 2, steps=3, batch_size=4).uns)
    assert provenance.timesteps == model.fitted[3]
    assert provenance.sampling["schedule"] == "fitted"
    assert "carries timesteps fitted for 1, 2, 3" in "\n".join(scrdit_jax.api.describe(run.path))
    # One that was stopped before its end carries none.
    stopped = scrdit_jax.train(tiny_cells, out=tmp_path / "stopped", preset=tiny_config, max_minutes=1e-6)
    assert stopped.stopped
    assert not load_model(stopped).fitted
    status, text = scrdit("schedule", run.path, "--steps", 5, "--out", "five.json")
    assert status == 0
    assert text.endswith("written to five.json\n")
    words = ("--cells", 2, "--schedule", "five.json", "--batch-size", 4)
    status, text = scrdit("sample", run.path, *words, "--out", "x.h5ad")
    assert status == 0, text
    status, text = scrdit("sample", stopped.path, *words, "--out", "y.h5ad")
    assert status == 2
    assert "five.json was fitted to another model" in text


def test_the_better_ends_are_taken_and_the_usual_ones_where_nothing_is_better(few, tiny_run, monkeypatch):
    model = load_model(tiny_run)
    real = fitting.validation_cells(read_cells(tiny_run.held_out_path), model)
    assert 8 <= len(real) < read_cells(tiny_run.held_out_path).n_obs
    made, scores = [], []
    monkeypatch.setattr(fitting, "_distance", lambda real, cells: made.append(cells) or scores[len(made) - 1])
    usual = fitting.interior(linear_schedule(model.config.diffusion), 2)
    other = fitting.interior(linear_schedule(model.config.diffusion), 2, first=-2.0, last=1.0)
    assert not np.array_equal(usual, other)
    # Tried in order: (-6, 1), which is the usual, then (-2, 1).
    for found, best in (((2.0, 1.0), other), ((1.0, 2.0), usual), ((1.0, 1.0), usual)):
        made.clear()
        scores[:] = found
        assert fitting.fit_drawn(model, 2, real).tolist() == best.tolist()
    assert not np.array_equal(*made)


def test_the_distance_of_cells_is_pca_50_mmd():
    from scrdit_jax.evaluation.metrics import mmd_pca

    rng = np.random.default_rng(0)
    real, near, far = rng.normal(0, 1, (60, 80)), rng.normal(0, 1, (60, 80)), rng.normal(0.5, 1, (60, 80))
    found = [fitting._distance(real, cells) for cells in (near, far)]
    # scikit-learn's components are by a random projection; these are exact.
    assert found == pytest.approx([mmd_pca(real, cells) for cells in (near, far)], rel=0.05)
    assert found[0] < found[1]


@pytest.mark.parametrize(("steps", "cells", "said"), [(0, 50, "0 steps"), (9, 50, "9 steps"), (4, 39, "there are 39")])
def test_what_cannot_be_fitted_is_refused(tiny_run, steps, cells, said):
    with pytest.raises(BadTimesteps, match=said):
        fitting.fit_drawn(load_model(tiny_run), steps, np.zeros((cells, 24), np.float32))


def test_divergence_is_told_from_a_likelihood_near_zero():
    monitor = DivergenceMonitor([0.01, -0.02, 0.0, 0.03, -0.01, 0.02], least=0.1)
    assert not any(monitor.check(loss) for loss in (0.3, 0.5, 0.8))
    assert [monitor.check(loss) for loss in (5.0, 6.0, 7.0)] == [False, False, True]
    falling = DivergenceMonitor([1.0, 0.5, 0.1, -0.4, -0.8, -1.0, -1.1], least=0.1)
    assert not any(falling.check(loss) for loss in (-1.2, -0.9, 0.4))
