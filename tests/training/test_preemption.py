"""What ends training early, and that nothing is lost by it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import jax
import numpy as np
import pytest

from scrdit_jax.api import prepare
from scrdit_jax.checkpoint import Checkpoints, load_model
from scrdit_jax.data.splitting import validation_mask
from scrdit_jax.errors import BadConfig, OutputExists, RunMismatch
from scrdit_jax.training import loop
from scrdit_jax.training.loop import TrainingOptions, train
from scrdit_jax.training.metric_logger import REPEATS, SPIKE, DivergenceMonitor, read_lines


@pytest.fixture(scope="module")
def prepared(tiny_cells, tiny_config):
    return prepare(tiny_cells, preset=tiny_config)


@pytest.fixture(scope="module")
def data(tiny_cells, tiny_config, tmp_path_factory):
    """The cells and the preset as files, for processes of their own."""
    import json

    folder = tmp_path_factory.mktemp("data")
    tiny_cells.write_h5ad(folder / "cells.h5ad")
    (folder / "tiny.json").write_text(json.dumps(tiny_config.to_dict()))
    return folder


def digest(run):
    with Checkpoints(run) as checkpoints:
        return checkpoints.digest()


class SignallingScorer:
    """A scorer that sends this process a signal at its nth evaluation."""

    missing = None

    def __init__(self, at=10**9, scores=()):
        self.asked, self.at, self.scores = 0, at, list(scores)

    def __call__(self, model):
        self.asked += 1
        if self.asked == self.at:
            os.kill(os.getpid(), signal.SIGTERM)
        return {"mmd_pca": self.scores[self.asked - 1]} if self.scores else {}


def test_sigterm_saves_where_it_comes_and_the_run_ends_with_the_same_bits(prepared, tiny_config, tiny_run, tmp_path):
    config = tiny_config.with_settings({"evaluate_every": 0.3})
    scorer = SignallingScorer(at=2)
    before = signal.getsignal(signal.SIGTERM)
    run = train(prepared, config, tmp_path / "run", TrainingOptions(scorer=lambda held_out: scorer))
    assert run.stopped.startswith("SIGTERM received at step ")
    stopped_at = load_model(run).step
    assert 0 < stopped_at < 12
    assert f"step {stopped_at} of 12" in run.stopped
    assert signal.getsignal(signal.SIGTERM) == before
    again = train(prepared, config, tmp_path / "run")
    assert again.stopped is None
    assert digest(again) == digest(tiny_run)


def test_time_that_is_over_stops_at_the_next_step(prepared, tiny_config, tmp_path):
    run = train(prepared, tiny_config, tmp_path / "run", TrainingOptions(max_minutes=1e-6))
    assert run.stopped.startswith("the 1e-06 minutes are over at step 1 of 12")
    assert load_model(run).step == 1


@pytest.mark.slow
def test_more_steps_continue_a_run_of_constant_rate_to_the_bit(prepared, tiny_config, tmp_path):
    constant = tiny_config.with_settings({"learning_rate_schedule": "constant"})
    long = constant.with_settings({"steps": 17, "checkpoint_every": 4, "keep": 1})
    train(prepared, constant, tmp_path / "lengthened")
    lengthened = train(prepared, long, tmp_path / "lengthened")
    straight = train(prepared, long, tmp_path / "straight")
    assert digest(lengthened) == digest(straight)
    assert lengthened.config() == long
    with pytest.raises(RunMismatch, match=r"training\.steps: 12 here, 17 there"):
        train(prepared, constant, tmp_path / "straight")


def test_a_cosine_run_is_not_lengthened_and_the_error_says_why(prepared, tiny_config, tiny_run):
    with pytest.raises(RunMismatch, match="a cosine rate depends on how many steps"):
        train(prepared, tiny_config.with_settings({"steps": 20}), tiny_run.path)


@pytest.mark.slow
def test_evaluations_go_on_after_a_stop_as_if_there_had_been_none(prepared, tiny_config, tmp_path):
    config = tiny_config.with_settings({"evaluate_every": 0.4})
    straight = train(prepared, config, tmp_path / "straight")
    train(prepared, config, tmp_path / "resumed", TrainingOptions(stop_after=7))
    resumed = train(prepared, config, tmp_path / "resumed")
    rows = read_lines(straight.evaluations_path)
    assert len(rows) >= 3
    assert all(np.isfinite(row["held_out_loss"]) for row in rows)
    assert all(row["on"] == "validation" for row in rows)
    assert rows == read_lines(resumed.evaluations_path)
    assert straight.curve_path.read_bytes().startswith(b"\x89PNG")


def test_the_best_checkpoint_is_kept_and_training_ends_when_it_gets_no_better(prepared, tiny_config, tmp_path):
    config = tiny_config.with_settings({"evaluate_every": 0.15, "patience": 3, "keep": 1, "checkpoint_every": 1})
    scores = [5.0, 1.0, 4.0, 3.0, 2.0, 0.5]
    run = train(prepared, config, tmp_path / "run", TrainingOptions(scorer=lambda _: SignallingScorer(scores=scores)))
    rows = read_lines(run.evaluations_path)
    assert len(rows) == 5
    best = rows[1]["step"]
    assert run.stopped == f"no better held-out score in 3 evaluations; the best is of step {best}"
    kept = sorted(int(path.name) for path in run.checkpoints_path.iterdir())
    assert kept == [best, rows[-1]["step"]]
    with Checkpoints(run) as checkpoints:
        assert checkpoints.best() == best
    assert train(prepared, config, tmp_path / "run").stopped == run.stopped


def test_test_cells_have_no_part_in_evaluations(prepared, tiny_config, tmp_path, monkeypatch):
    """Neither in the held-out loss nor in the scores that end a training."""
    held_out, seen = prepared.held_out, {}
    aside = validation_mask(held_out.obs, prepared.metadata.settings)
    monkeypatch.setattr(loop, "HeldOutLoss", lambda losses, batch, *_, **__: seen.update(loss=batch.cells.toarray()))

    def scorer(cells):
        seen["scores"] = list(cells.obs_names)
        raise InterruptedError  # before anything is compiled

    with pytest.raises(InterruptedError):
        train(prepared, tiny_config.with_settings({"evaluate_every": 0.5}), tmp_path, TrainingOptions(scorer=scorer))
    assert 0 < aside.sum() < held_out.n_obs
    np.testing.assert_array_equal(seen["loss"], held_out.X.toarray()[aside])
    assert seen["scores"] == list(held_out.obs_names[aside])


def test_without_a_validation_cell_there_is_nothing_to_evaluate_on(prepared, tiny_config, tmp_path):
    held_out = prepared.held_out
    test = held_out.obs_names[~validation_mask(held_out.obs, prepared.metadata.settings)]
    kept = prepared.cells[prepared.cells.obs_names.isin([*prepared.train.obs_names, *test])].copy()
    with pytest.raises(BadConfig, match=r"no cells are held out to evaluate on .* raise --held-out"):
        train(replace(prepared, cells=kept), tiny_config.with_settings({"evaluate_every": 0.5}), tmp_path / "run")


def test_a_spike_is_no_divergence_and_a_loss_that_stays_up_is():
    monitor = DivergenceMonitor([1.0] * 10)
    assert not monitor.check(3 * SPIKE)
    assert monitor.suspicious == 1
    assert not monitor.check(1.1)
    assert monitor.suspicious == 0
    assert [monitor.check(3 * SPIKE) for _ in range(REPEATS)] == [False] * (REPEATS - 1) + [True]
    assert DivergenceMonitor([]).check(float("nan"))
    assert not any(DivergenceMonitor([]).check(loss) for loss in (5.0, 100.0, 3.0))  # too few to know what is usual


def test_a_checkpoint_of_another_network_is_named(prepared, tiny_config, tiny_run, tmp_path):
    shutil.copytree(tiny_run.path, tmp_path / "run")
    other = tiny_config.with_settings({"width": 32})
    (tmp_path / "run/config.json").unlink()
    from scrdit_jax.checkpoint import Run

    Run(tmp_path / "run").write_config(other)
    with pytest.raises(RunMismatch, match=r"checkpoint 12 .* another model \(network\.width: 32 here, 16 there\)"):
        train(prepared, other, tmp_path / "run")


HOLD = """
import sys, time
from pathlib import Path
from scrdit_jax.io.locks import FileLocks
locks = FileLocks(Path(sys.argv[1]))
assert locks.acquire(0)
print("held", flush=True)
time.sleep(60)
"""


def test_two_at_once_in_one_folder_and_a_lock_that_dies_with_its_process(prepared, tiny_config, tmp_path):
    (tmp_path / "run").mkdir()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "run/training.lock"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(OutputExists, match="another 'scrdit train' is at work"):
            train(prepared, tiny_config, tmp_path / "run", TrainingOptions(stop_after=1))
        assert [path.name for path in (tmp_path / "run").iterdir()] == ["training.lock"]
    finally:
        holder.kill()
        holder.wait()
    assert load_model(train(prepared, tiny_config, tmp_path / "run", TrainingOptions(stop_after=1))).step == 1


def killed_runs(data, out, steps, kills, seed):
    """Train in processes that are killed with -9 at random moments, then to the end; the final digest."""
    random = np.random.default_rng(seed)
    words = [sys.executable, "-c", "from scrdit_jax.cli import main; main()", "train", data / "cells.h5ad"]
    words += ["--preset", data / "tiny.json", "--steps", str(steps), "--checkpoint-every", "3", "--out", out]
    for _ in range(kills):
        process = subprocess.Popen([str(word) for word in words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        begun = len(read_lines(out / "metrics.jsonl"))
        while process.poll() is None and len(read_lines(out / "metrics.jsonl")) <= begun:
            time.sleep(0.01)
        time.sleep(float(random.uniform(0, 0.3)))
        process.kill()
        process.wait()
    subprocess.run([str(word) for word in words], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "kills"), [(12, 1), pytest.param(400, 5, marks=pytest.mark.slow)])
def test_kill_9_at_random_steps_changes_nothing(data, steps, kills, tmp_path):
    from scrdit_jax.checkpoint import Run

    killed_runs(data, tmp_path / "straight", steps, 0, 0)
    killed_runs(data, tmp_path / "killed", steps, kills, seed=4)
    assert digest(Run(tmp_path / "killed")) == digest(Run(tmp_path / "straight"))
    assert jax.process_count() == 1
