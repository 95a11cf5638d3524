"""The one command: what it starts is there, and where its results go."""

import importlib.util
import re

import pytest

from benchmarks import everything
from benchmarks.commands import RESULTS, in_own_process
from benchmarks.peers import PEERS


@pytest.mark.parametrize("on_cpu", [True, False])
def test_every_part_is_a_command_with_a_result_of_its_own(on_cpu, tmp_path):
    parts = everything.parts(tmp_path / "run", tmp_path / "out", on_cpu=on_cpu)
    assert len({out for out, _ in parts}) == len(parts) == (6 if on_cpu else 10)
    modules = {arguments[1] for _, arguments in parts if arguments[0] == "-m"}
    assert modules == {"scrdit_jax", *(f"benchmarks.speed.{name}" for name in ("accuracy", "linearity", "pytorch"))}
    assert all(importlib.util.find_spec(module) for module in modules)


def test_a_folder_is_called_after_its_device(monkeypatch):
    monkeypatch.setattr(everything, "usable_cores", lambda: 2)
    assert everything.device_folder({"platform": "cpu", "kind": "AMD EPYC"}) == RESULTS / "amd-epyc-2-cores"
    assert everything.device_folder({"platform": "gpu", "kind": "NVIDIA H200"}) == RESULTS / "nvidia-h200"


def test_a_function_runs_in_a_process_of_its_own(tmp_path):
    import os

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
