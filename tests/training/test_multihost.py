"""Devices and processes train the model that one device trains: each in processes of their own."""

import json
import socket
import subprocess
import sys

import numpy as np
import pytest

TRAIN = """
import sys
import jax
jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
import scrdit_jax as scrdit
from scrdit_jax.config import load_preset
place = {}
if len(sys.argv) > 5:
    place = dict(distributed=True, coordinator=sys.argv[5], processes=2, process_id=int(sys.argv[6]))
scrdit.train(sys.argv[2], out=sys.argv[3], preset=load_preset(sys.argv[4]), log_every=1, **place)
"""


@pytest.fixture(scope="module")
def losses(tiny_cells, tiny_config, tmp_path_factory):
    """By what trained: the loss of every step."""
    folder = tmp_path_factory.mktemp("hosts")
    tiny_cells.write_h5ad(folder / "cells.h5ad")
    preset = tiny_config.with_settings({"evaluate_every": 1.0})
    (folder / "tiny.json").write_text(json.dumps(preset.to_dict()))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = f"127.0.0.1:{free.getsockname()[1]}"
    plans = {"1": ["1"], "2": ["2"], "4": ["4"], "2 processes": ["1"]}
    import os

    environment = {k: v for k, v in os.environ.items() if k not in {"JAX_NUM_CPU_DEVICES"}}
    environment["XLA_FLAGS"] = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    working = []
    for name, (devices,) in plans.items():
        words = [devices, folder / "cells.h5ad", folder / name, folder / "tiny.json"]
        for place in ([meeting, "0"], [meeting, "1"]) if "processes" in name else ([],):
            command = [sys.executable, "-c", TRAIN, *map(str, words), *place]
            working.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    for process in working:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
    return {
        name: [json.loads(line)["loss"] for line in (folder / name / "metrics.jsonl").read_text().splitlines()]
        for name in plans
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["2", "4", "2 processes"])
def test_the_same_loss_curve(losses, name):
    assert len(losses["1"]) == 12
    np.testing.assert_allclose(losses[name], losses["1"], rtol=1e-5)
