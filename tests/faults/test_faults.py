"""Faults at operations on files: few here, more with `-m slow`, all by `python -m tests.faults`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from . import shim

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(shim.unavailable() is not None, reason=str(shim.unavailable()))


def outcomes(tmp_path, *words):
    command = [sys.executable, "-m", "tests.faults", "--json", tmp_path / "outcomes.json", *words]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(list(map(str, command)), cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((tmp_path / "outcomes.json").read_text())


def test_prepare_survives_every_fault(tmp_path):
    found = outcomes(tmp_path, "--points", 3, "--command", "prepare .h5ad", "--command", "prepare --stream .h5ad")
    assert {outcome["fault"] for outcome in found} >= {"ENOSPC", "EIO", "SIGTERM", "SIGINT", "kill -9"}
    for outcome in found:
        assert outcome["points"] >= 3
        assert outcome["wrong"] == []


@pytest.mark.slow
@pytest.mark.parametrize("command", ["prepare*", "assemble*", "sample*", "schedule", "evaluate*", "train*"])
def test_every_command_survives_every_fault(tmp_path, command):
    for outcome in outcomes(tmp_path, "--points", 12, "--command", command):
        assert outcome["points"] >= min(12, outcome["all"])
        assert outcome["wrong"] == []
