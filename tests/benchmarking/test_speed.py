"""Benchmarks of speed that reach into the sampler: what they put in its place, and what they hold it against."""

import numpy as np
import pytest

import scrdit_jax as scrdit
from benchmarks.speed import accuracy, store
from scrdit_jax.checkpoint import load_model
from scrdit_jax.generation.conditions import states_of


@pytest.fixture(scope="module")
def model(tiny_cells, tiny_config, tmp_path_factory):
    """Conditioned on states, library sizes among them."""
    derive = {"pc-scores": 2, "detected-genes": 1, "library-size": 1}
    # Fast enough that states matter after 12 steps.
    changes = {"derive": derive, "clip": True, "learning_rate": 0.02, "warmup_steps": 0}
    out = tmp_path_factory.mktemp("speed") / "run"
    return load_model(scrdit.train(tiny_cells, out=out, preset=tiny_config, **changes))


def test_cells_conditioned_one_by_one_are_those_of_the_engine(model, monkeypatch):
    plain = accuracy.unrounded(model)
    made = accuracy.cells_of(plain)
    np.testing.assert_allclose(accuracy.conditioned_one_by_one(plain), made, atol=2e-4)
    # Not so with states of other noise, nor as whole counts.
    assert accuracy.share_far(accuracy.cells_of(model), made) > 0.01
    monkeypatch.setattr(accuracy, "states_of", lambda model: states_of(model)._replace(noise=2.0))
    assert not np.allclose(accuracy.conditioned_one_by_one(plain), made, atol=2e-3)


def test_the_store_is_fed_from_memory(model, tmp_path):
    row = store.store_alone(tmp_path, model, zeros=0.9, cells=3000, rounds=1)
    assert row["cells"] == 3000
    assert row["cells_per_second"] > 0
    assert row["bytes_per_cell"] > 100
    assert not list(tmp_path.iterdir())
