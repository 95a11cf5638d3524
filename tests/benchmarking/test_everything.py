"""The one command: what it starts is there, where its results go, and that it ends in time."""

import importlib.util
import json
import os
import re
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import everything
from benchmarks.commands import RESULTS, in_own_process
from benchmarks.everything import Part, outcome
from benchmarks.peers import PEERS
from benchmarks.speed import sampling, training
from benchmarks.speed.peaks import peak_flops, share_of_peak
from benchmarks.summary import SECTIONS


@pytest.mark.parametrize("platform", ["cpu", "gpu", "tpu"])
@pytest.mark.parametrize("tiny", [False, True])
def test_every_part_is_a_command_with_a_result_of_its_own(platform, tiny, tmp_path):
    parts = everything.parts(tmp_path / "run", tmp_path / "out", platform=platform, tiny=tiny)
    # Only accelerators have several ways to compute attention.
    assert len({part.out for part in parts}) == len(parts) == (11 if tiny or platform != "cpu" else 10)
    modules = {part.arguments[1] for part in parts if part.arguments[0] == "-m"}
    assert all(importlib.util.find_spec(module) for module in modules)
    names = {str(part.out.relative_to(tmp_path / "out")) for part in parts}
    names = {name if name.endswith(".json") else f"{name}/results.json" for name in names}
    assert all(any(Path(name).match(pattern) for pattern in SECTIONS) for name in names)
    assert all(any(Path(name).match(pattern) for name in names) or "attention" in pattern for pattern in SECTIONS)


def test_a_folder_is_called_after_its_device(monkeypatch):
    monkeypatch.setattr(everything, "usable_cores", lambda: 2)
    assert everything.device_folder({"platform": "cpu", "kind": "AMD EPYC"}) == RESULTS / "amd-epyc-2-cores"
    assert everything.device_folder({"platform": "gpu", "kind": "NVIDIA H200"}) == RESULTS / "nvidia-h200"


def test_a_part_is_measured_once_and_what_has_no_end_is_gone_on_with(tmp_path):
    part = Part(tmp_path / "a.json", ("-c", "raise SystemExit"), 1)
    assert not part.is_there()
    part.out.write_text('{"found": {}, "rows": []}')
    assert not part.is_there()
    part.out.write_text('{"found": {"complete": true}, "rows": []}')
    assert outcome(part, 60, {}, least=0) == "is there"
    folder = replace(part, out=tmp_path / "a")
    assert not folder.is_there()
    folder.out.mkdir()
    (folder.out / "table.md").write_text("")
    assert folder.is_there()


def test_a_part_without_time_or_library_is_left_out_by_a_sentence(tmp_path):
    part = Part(tmp_path / "a.json", ("-c", "raise SystemExit(3)"), 1)
    assert outcome(part, 60, {}, least=60) == "failed with status 3"
    assert outcome(part, 59, {}, least=60).startswith("left out: no time left for it; run the same command again")
    missing = replace(part, needs="no_such_library")
    assert outcome(missing, 60, {}, least=60).startswith("left out: no_such_library is not installed; pip install")


def test_a_part_is_cut_off_with_what_it_has_started(tmp_path):
    code = (
        "import subprocess, sys; child = subprocess.Popen(['sleep', '600']); "
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid)); child.wait()"
    )
    part = Part(tmp_path / "a.json", ("-c", code), 2 / 60)
    assert outcome(part, 60, {"PATH": os.environ["PATH"]}, least=0) == "cut off after 0.0 minutes"
    child = int((tmp_path / "pid").read_text())
    for _ in range(100):  # until whoever adopts it has seen its end
        if not is_running(child):
            return
        time.sleep(0.05)
    raise AssertionError(f"{child} is still running")


def is_running(process):
    """A zombie is not."""
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_the_share_of_a_peak_is_of_devices_whose_peak_is_known():
    assert peak_flops("NVIDIA H100 80GB HBM3") == 989e12
    assert peak_flops("NVIDIA H100 PCIe") == 756e12
    assert peak_flops("NVIDIA A100-SXM4-80GB") == 312e12
    assert peak_flops("NVIDIA L40S") is None
    assert peak_flops("TPU v5 lite") == 197e12
    assert peak_flops("TPU v5p") == 459e12
    assert peak_flops("AMD EPYC") is None
    assert share_of_peak(2 * 27.5e12, "TPU v4", 2) == 0.1


def test_what_says_most_is_measured_first():
    rows = training.cases({"platform": "gpu", "devices": 8}, tiny=False)
    assert rows[0] == ("paper", "bfloat16", training.LARGE_BATCH, 8)
    assert len(set(rows)) == len(rows) == 2 * 3 * 2 * 2
    assert {row[1:] for row in training.cases({"platform": "cpu", "devices": 1}, tiny=False)} >= {("float32", 16, 1)}
    order = sampling.order_of_dtypes("gpu")
    assert (order[0], order[-1]) == ("bfloat16", "float32")
    assert set(order) == set(sampling.SAMPLING_DTYPES)


@pytest.mark.slow
def test_a_rehearsal_measures_every_part_and_again_none(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["everything"])
    command = [str(tiny_run.path), "--tiny", "--out", str(tmp_path / "out")]
    before = {path: path.stat().st_mtime_ns for path in RESULTS.rglob("*")}
    result = CliRunner().invoke(everything.main, command)
    assert result.exit_code == 0, result.output
    parts = json.loads((tmp_path / "out/everything.json").read_text())["parts"]
    came = {part["part"]: part["outcome"] for part in parts}
    assert len(came) == 11
    without_torch = importlib.util.find_spec("torch") is None
    for name, text in came.items():
        assert text == "done" or (without_torch and name.startswith("peer-")), (name, text)
    page = (tmp_path / "out/summary.md").read_text()
    assert "these figures mean nothing" in page
    assert all(f"## {title}" in page for title, _ in SECTIONS.values() if title != "PyTorch")
    assert CliRunner().invoke(everything.main, command).exit_code == 0
    parts = json.loads((tmp_path / "out/everything.json").read_text())["parts"]
    assert {part["outcome"] for part in parts} <= {"is there", came["peer-demo-float32.json"]}
    assert {path: path.stat().st_mtime_ns for path in RESULTS.rglob("*")} == before


def test_a_function_runs_in_a_process_of_its_own(tmp_path):
    assert in_own_process("os.path", "join", tmp_path, "a") == str(tmp_path / "a")
    assert in_own_process("os", "getpid") != os.getpid()


def test_the_page_of_figures_names_commands_and_results_that_are_there():
    page = RESULTS.parent / "README.md"
    text = page.read_text()
    modules = set(re.findall(r"python -m (benchmarks[\w.]*)", text))
    assert len(modules) > 8
    assert all(importlib.util.find_spec(module) for module in modules)
    links = {link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link}
    assert len(links) > 20
    assert [link for link in links if not (page.parent / link).exists()] == []
    assert all(f"| `{name}` |" in text for name in PEERS)
