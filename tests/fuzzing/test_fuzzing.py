"""300 damaged files against what reads them; `scripts/test --fuzz` tries 20,000."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from .mutate import bytes_of, json_of, table_of

ROOT = Path(__file__).parents[2]


def fuzz(*words):
    command = [sys.executable, "-m", "tests.fuzzing", *map(str, words)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="each case is tried in a forked process")
def test_no_damaged_file_ends_otherwise_than_in_success_or_one_line(tmp_path):
    done = fuzz("--cases", 300, "--json", tmp_path / "outcomes.json")
    assert done.returncode == 0, done.stdout + done.stderr
    outcomes = json.loads((tmp_path / "outcomes.json").read_text())
    assert [outcome["number"] for outcome in outcomes] == list(range(300))
    kinds = {outcome["outcome"] for outcome in outcomes}
    assert kinds <= {"success", "one-line error", "usage error"}
    # Damage that is never noticed, or always, would be none.
    assert {"success", "one-line error"} <= kinds


@pytest.mark.parametrize("damage", [bytes_of, lambda data, random: json_of(data.decode(), random)])
def test_a_case_is_the_same_again(damage):
    data = json.dumps({"a": [1, 2, {"b": "text"}], "c": None}).encode()
    first, again = (damage(data, np.random.default_rng([0, 5])) for _ in range(2))
    assert first == again
    assert len({str(damage(data, np.random.default_rng([0, i]))[0]) for i in range(40)}) > 20


def test_damaged_tables_are_other_tables():
    text = "a,b\n1,2\n3,4\n"
    found = {table_of(text, ",", np.random.default_rng(i))[0] for i in range(60)}
    assert len(found - {text}) > 30
