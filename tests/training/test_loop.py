import json
import os
import shutil
import sys
import time
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import scrdit_jax as scrdit
from scrdit_jax.api import prepare
from scrdit_jax.checkpoint import Checkpoints, load_model
from scrdit_jax.errors import DiskFull, Diverged, OutputExists, RunMismatch
from scrdit_jax.networks.dit import DiT
from scrdit_jax.training.loop import TrainingOptions, train
from scrdit_jax.training.metric_logger import read_lines
from scrdit_jax.training.state import initial_state


@pytest.fixture(scope="module")
def prepared(tiny_cells, tiny_config):
    return prepare(tiny_cells, preset=tiny_config)


def final_state(run, config):
    like = initial_state(DiT(config.network, 24, 3), 24, config.training)
    with Checkpoints(run) as checkpoints:
        return checkpoints.restore(like)


def test_stopping_and_continuing_gives_the_same_bits(prepared, tiny_config, tiny_run, tmp_path):
    run = train(prepared, tiny_config, tmp_path / "run", TrainingOptions(stop_after=7))
    assert load_model(run).step == 7
    train(prepared, tiny_config, tmp_path / "run")
    straight, resumed = final_state(tiny_run, tiny_config), final_state(run, tiny_config)
    assert int(resumed.step) == 12
    for a, b in zip(jax.tree.leaves(straight), jax.tree.leaves(resumed), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_finished_run_is_left_alone(prepared, tiny_config, tiny_run):
    before = sorted(p.stat().st_mtime_ns for p in tiny_run.path.rglob("*") if p.is_file())
    train(prepared, tiny_config, tiny_run.path)
    after = sorted(p.stat().st_mtime_ns for p in tiny_run.path.rglob("*") if p.is_file())
    assert before == after


def test_metrics_have_one_line_an_interval_even_after_a_crash(prepared, tiny_config, tmp_path):
    run = train(prepared, tiny_config, tmp_path / "run", TrainingOptions(stop_after=5))
    with run.metrics_path.open("a") as file:
        file.write('{"step": 9, "loss": 1}\n{"step": 10, "lo')
    train(prepared, tiny_config, tmp_path / "run")
    lines = [json.loads(line) for line in run.metrics_path.read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 5, 8, 12]
    assert all(np.isfinite(line["loss"]) and line["cells_per_second"] > 0 for line in lines)


def test_a_checkpoint_knows_everything_a_model_needs(tiny_run, tiny_config, prepared):
    model = load_model(tiny_run.path)
    assert model.config == tiny_config
    assert model.metadata == prepared.metadata
    assert model.step == 12
    assert model.metadata.cell_types.keys() == {"B cell", "T cell"}
    assert sum(model.metadata.cell_types.values()) == model.metadata.n_train


def test_held_out_cells_lie_in_the_run_and_are_no_training_cells(tiny_run, prepared):
    import anndata

    held_out = anndata.read_h5ad(tiny_run.held_out_path)
    assert held_out.n_obs == prepared.metadata.n_held_out > 0
    assert not set(held_out.obs_names) & set(prepared.train.obs_names)


def test_nothing_in_a_run_is_pickled(tiny_run):
    for path in tiny_run.path.rglob("*"):
        assert path.suffix not in {".pkl", ".pickle", ".npy", ".pt"}


def test_other_settings_other_data_and_other_folders_are_refused(prepared, tiny_config, tiny_run, tiny_cells, tmp_path):
    with pytest.raises(RunMismatch, match=r"training\.batch_size: 4 here, 8 there"):
        train(prepared, tiny_config.with_settings({"batch_size": 4}), tiny_run.path)
    with pytest.raises(RunMismatch, match="trained on other cells"):
        train(prepare(tiny_cells[:80].copy(), preset=tiny_config), tiny_config, tiny_run.path)
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputExists, match="holds something that is no run"):
        train(prepared, tiny_config, tmp_path)
    with pytest.raises(OutputExists, match="is a file"):
        train(prepared, tiny_config, tmp_path / "thesis.txt")
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_folders_that_are_no_run_or_hold_no_checkpoint_say_so(tmp_path, tiny_run):
    with pytest.raises(RunMismatch, match="is not there"):
        load_model(tmp_path / "nothing")
    with pytest.raises(RunMismatch, match=r"no config\.json"):
        load_model(tmp_path)
    shutil.copy(tiny_run.config_path, tmp_path)
    with pytest.raises(RunMismatch, match="no checkpoint yet"):
        load_model(tmp_path)


def test_a_damaged_checkpoint_is_named(tiny_run, tmp_path):
    shutil.copytree(tiny_run.path, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/checkpoints/12/ema")
    with pytest.raises(RunMismatch, match=r"checkpoint 12 .* cannot be read .* to use the one before"):
        load_model(tmp_path / "run")


def test_a_pipe_in_a_checkpoint_is_not_waited_for(tiny_run, tmp_path):
    shutil.copytree(tiny_run.path, tmp_path / "run")
    described = tmp_path / "run/checkpoints/12/ema/_METADATA"
    described.unlink()
    os.mkfifo(described)
    with pytest.raises(RunMismatch, match=r"cannot be read \(.*_METADATA is a named pipe"):
        load_model(tmp_path / "run")


def test_a_damaged_score_is_named_with_its_checkpoint(tiny_run, tmp_path):
    shutil.copytree(tiny_run.path, tmp_path / "run")
    score = tmp_path / "run/checkpoints/12/metrics/metrics"
    score.parent.mkdir(exist_ok=True)
    for damage in (b"{", b"\xad\xbd", b""):
        score.write_bytes(damage)
        with pytest.raises(
            RunMismatch, match=r"a score of the checkpoints .* cannot be read .*; delete .*checkpoints/12$"
        ):
            load_model(tmp_path / "run")


def test_lines_that_are_no_text_are_passed_over(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n{"step\xbd": 2}\n{"step": 3}\n')
    assert [line["step"] for line in read_lines(tmp_path / "metrics.jsonl")] == [1, 3]
    assert read_lines(tmp_path) == []


class Fails:
    def close(self):
        """For the name alone: what is called is the destructor."""

    def __del__(self):
        raise ValueError("in a destructor")


def test_reads_that_end_after_the_first_that_failed_say_nothing(tiny_run, tmp_path, monkeypatch):
    shutil.copytree(tiny_run.path, tmp_path / "run")
    for part in (tmp_path / "run/checkpoints/12/ema").rglob("d/*"):
        part.unlink()
    said = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: said.append(str(unraisable.exc_value)))
    for _ in range(10):
        with pytest.raises(RunMismatch, match=r"checkpoint 12 .* cannot be read"):
            load_model(tmp_path / "run")
    time.sleep(0.2)
    assert said == []
    # What else nobody can catch is reported as before.
    Fails().close()
    assert said == ["in a destructor"]


def test_a_full_disk_is_found_before_a_checkpoint_is_begun(prepared, tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(DiskFull, match=r"no space left to write .*checkpoints: 0\.\d MB are needed, 0\.0 MB are free"):
        train(prepared, tiny_config, tmp_path / "run", TrainingOptions(stop_after=5))
    assert not list((tmp_path / "run/checkpoints").iterdir())
    monkeypatch.undo()
    assert load_model(train(prepared, tiny_config, tmp_path / "run", TrainingOptions(stop_after=5))).step == 5


def test_divergence_stops_and_keeps_the_checkpoints_before(prepared, tiny_config, tmp_path):
    config = tiny_config.with_settings(
        {"learning_rate": 1e30, "gradient_clip": None, "learning_rate_schedule": "constant", "warmup_steps": 0}
    )
    with pytest.raises(Diverged, match=r"the loss is (nan|inf) at step \d+ .*lower --learning-rate"):
        train(prepared, config, tmp_path / "run")
    with pytest.raises(RunMismatch, match="no checkpoint yet"):
        load_model(tmp_path / "run")


def test_the_three_lines_of_python(tiny_cells, tiny_config, tmp_path):
    run = scrdit.train(tiny_cells, out=tmp_path / "run", preset=tiny_config, steps=2)
    cells = scrdit.sample(run, 10)
    assert cells.shape == (10, 24)
    assert set(cells.var_names) <= set(tiny_cells.var_names)
