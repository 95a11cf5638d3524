"""An objective is one file, one that learns from a frozen teacher too."""

import json

import jax
import numpy as np
import pytest

import scrdit_jax.training.objectives as package
from scrdit_jax.checkpoint import load_model
from scrdit_jax.config import RunConfig
from scrdit_jax.diffusion.predictions import PREDICTIONS
from scrdit_jax.errors import BadConfig
from scrdit_jax.training.objectives import OBJECTIVES

TOY = '''
"""The teacher's clean cells, half a step of noise away, from the teacher's own params on."""
import jax.numpy as jnp

from scrdit_jax.training.objectives import Objective


def distance(prediction, batch):
    teacher, earlier = batch.teacher, jnp.maximum(batch.timesteps // 2, 1)
    alpha_bar = teacher.alpha_bars[earlier][:, None]
    nearer = alpha_bar**0.5 * batch.clean + (1 - alpha_bar) ** 0.5 * batch.noise
    target = teacher.prediction.clean(nearer, teacher.predict(nearer, earlier), alpha_bar)
    return jnp.mean((prediction.clean(batch.noisy, batch.predicted, batch.alpha_bar) - target) ** 2, axis=1)


OBJECTIVE = Objective(
    loss=distance,
    fits=lambda prediction: prediction.is_distribution,
    initial_params=lambda params, start: start.teacher_params,
    needs_teacher=True,
)
'''


def test_which_predictions_an_objective_fits():
    fits = {name: [p for p in PREDICTIONS if objective.fits(PREDICTIONS[p])] for name, objective in OBJECTIVES.items()}
    distributions = ["mixture", "negative-binomial", "quantised", "zero-inflated"]
    assert fits == {"likelihood": distributions, "squared-error": sorted(["epsilon", "v", *distributions])}
    assert not any(objective.needs_teacher for objective in OBJECTIVES.values())
    with pytest.raises(BadConfig, match="loss 'squared-error' learns from no teacher; leave --teacher out"):
        RunConfig.from_dict({"training": {"teacher": "run"}})


@pytest.fixture
def train_student(tiny_cells, tiny_config, scrdit, tmp_path, add_part):
    """Trains a student on `tiny_cells` with the objective of TOY; what follows are further options."""
    add_part(package, "half_way", TOY)
    tiny_cells.write_h5ad("cells.h5ad")

    (tmp_path / "tiny.json").write_text(json.dumps(tiny_config.to_dict()))

    def train(*words):
        return scrdit("train", "cells.h5ad", "--preset", "tiny.json", "--steps", 2, "--loss", "half-way", *words)

    return train


@pytest.mark.slow
def test_a_file_in_the_folder_is_an_objective_that_learns_from_a_teacher(train_student, tiny_run, tmp_path):
    status, printed = train_student("--teacher", tiny_run.path, "--evaluate-every", 0.25, "--out", "student")
    assert status == 0, printed
    teacher, student = load_model(tiny_run.path), load_model(tmp_path / "student")
    assert student.config.training.teacher == str(tiny_run.path)
    # Two steps from the teacher's params, no further: but for those it would have begun at random ones.
    moved = [np.abs(a - b).max() for a, b in zip(*map(jax.tree.leaves, (teacher.params, student.params)), strict=True)]
    assert 0 < max(moved) < 0.005
    line = json.loads((tmp_path / "student/metrics.jsonl").read_text().splitlines()[0])
    assert 0 < line["loss"] < 1
    evaluated = json.loads((tmp_path / "student/evaluations.jsonl").read_text().splitlines()[0])
    assert 0 < evaluated["held_out_loss"] < 1


def test_what_cannot_be_a_teacher_is_refused(train_student, tiny_run, labelled_run, tmp_path):
    for name, words, sentence in (
        ("none", (), "loss 'half-way' learns from a teacher, and there is none; give a run as --teacher"),
        ("missing", ("--teacher", "nowhere"), "nowhere is not there; give a folder made by 'scrdit train'"),
        ("other", ("--teacher", labelled_run.path), "has conditions other than this run's"),
    ):
        status, printed = train_student(*words, "--out", name)
        assert status == 2
        assert sentence in printed
        assert not (tmp_path / name / "checkpoints").exists()
