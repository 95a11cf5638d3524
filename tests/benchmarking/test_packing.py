"""Packing a run with what it scored."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.fidelity import pretrained
from scrdit_jax.errors import BadInput


def row(generator, auc):
    whole = dict.fromkeys(pretrained.SHOWN, 1.0) | {"random_forest_auc": auc}
    return {"generator": generator, "whole": whole, "memorisation": {"copied": None, "held_out_copied": 0.05}}


@pytest.fixture
def results(tmp_path):
    rows = [row("run", 0.5), row("run", 0.6), row("copula", 0.7)]
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"on": "test", "command": "python -m benchmarks.fidelity", "rows": rows}))
    return path


def test_scores_are_means_and_deviations_over_the_seeds(results):
    found = pretrained.scores_of(results)["mean and deviation"]
    assert found["run"]["random_forest_auc"] == [pytest.approx(0.55), pytest.approx(0.05 * 2**0.5)]
    assert found["copula"]["random_forest_auc"] == [0.7, 0.0]
    assert "near_training" not in found["run"]


def test_a_file_without_scores_is_refused(tmp_path):
    (tmp_path / "results.json").write_text('{"rows": [{}]}')
    with pytest.raises(BadInput, match=r"holds no scores .* give results.json of benchmarks.fidelity"):
        pretrained.scores_of(tmp_path / "results.json")


def test_the_command_packs_both(results, tiny_run, tmp_path):
    out = tmp_path / "tiny.npz"
    words = [tiny_run.path, "--scores", results, "--command", "scrdit train tiny", "--out", out]
    assert CliRunner().invoke(pretrained.main, [str(word) for word in words]).exit_code == 0
    with np.load(out, allow_pickle=False) as file:
        known = json.loads(bytes(file["about"]))
    assert known["about"]["command"] == "scrdit train tiny"
    assert known["about"]["scores"]["cells"] == "test"
    words[0] = tmp_path / "nowhere"
    refused = CliRunner().invoke(pretrained.main, [str(word) for word in words])
    assert refused.exit_code == 2
    assert "is not there" in refused.output
