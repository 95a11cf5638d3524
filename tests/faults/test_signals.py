"""SIGTERM and SIGINT to processes of their own, at moments from their start to their end."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from .commands import SETTINGS

SCRDIT = [sys.executable, "-c", "from scrdit_jax.cli import main; main()"]
# What is hidden and goes on being used.
USED_AGAIN = {".locks", ".cells.h5ad.shards"}


@pytest.fixture
def inputs(tiny_cells, tiny_run, tmp_path):
    tiny_cells.write_h5ad(tmp_path / "real.h5ad")
    (tmp_path / "preset.json").write_text(json.dumps(SETTINGS))
    (tmp_path / "trained").symlink_to(tiny_run.path)
    (tmp_path / "made").mkdir()
    return tmp_path


def hidden(folder):
    names = {path.name for path in folder.rglob(".*")}
    return {name for name in names if name not in USED_AGAIN}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("words", "out"),
    [
        (["prepare", "real.h5ad", "--preset", "preset.json"], "cells.zarr"),
        (["train", "real.h5ad", "--preset", "preset.json", "--steps", "200"], "run"),
        (["sample", "trained", "--cells", "3000", "--steps", "3", "--batch-size", "64"], "cells.h5ad"),
    ],
    ids=["prepare", "train", "sample"],
)
def test_a_signal_at_any_moment_leaves_nothing_hidden(inputs, words, out, number):
    command = [*SCRDIT, *words, "--out", f"made/{out}"]

    def start():
        # stderr of a process that is ended while Python itself begins is Python's.
        return subprocess.Popen(command, cwd=inputs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    began = time.monotonic()
    process = start()
    process.communicate()
    assert process.returncode == 0
    seconds = time.monotonic() - began
    for part in (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95):
        for path in (inputs / "made").iterdir():
            os.rename(path, inputs / f"{path.name}.{part}.before")
        process = start()
        time.sleep(part * seconds)
        process.send_signal(number)
        _, said = process.communicate()
        assert process.returncode in {0, 128 + number, -number}, said
        if process.returncode == 128 + number:
            assert "Traceback" not in said
        assert hidden(inputs / "made") == set(), said
        again = start()
        _, said = again.communicate()
        assert again.returncode == 0, said
        assert hidden(inputs / "made") <= set(), said
