"""The recipes of scripts/cloud: the same command in all of them, and processes that are taken away at any moment."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

import scrdit_jax as scrdit
from scrdit_jax.cli import main

CLOUD = Path(__file__).parents[2] / "scripts/cloud"
RECIPES = ("gke.yaml", "jobset.yaml", "skypilot.yaml", "slurm.sbatch", "tpu-vm.sh", "xpk.sh")
OPTIONS = ("--steps=10", "--batch-size=64", "--shard-cells=512")


def commands(text):
    """Every `scrdit sample` of a file in use, as one line each."""
    used = "\n".join(line for line in text.splitlines() if not line.strip().startswith("#"))
    joined = re.sub(r"\\?\n\s*(?=--)", " ", used)
    return re.findall(r"scrdit sample .*", joined)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_starts_the_same_command_with_options_that_there_are(name):
    (command,) = commands((CLOUD / name).read_text())
    assert re.match(r"scrdit sample \S+ --cells \S+ --out \S+ --distributed\b", command), command
    known = {option for parameter in main.commands["sample"].params for option in parameter.opts}
    assert set(re.findall(r"(?<=\s)--[a-z-]+", command)) <= known
    # A process has a number of its own: given, or found by JAX on TPUs.
    assert ("--process-id" in command) == (name not in ("tpu-vm.sh", "xpk.sh"))


def test_every_recipe_is_on_the_page_and_can_be_read():
    page = (CLOUD / "README.md").read_text()
    there = {path.name for path in CLOUD.iterdir() if path.is_file()}
    assert there == {*RECIPES, "README.md", "check", "schemas.py"}
    assert all(f"| `{name}` |" in page for name in RECIPES)
    for name in RECIPES:
        if name.endswith(".yaml"):
            assert yaml.safe_load((CLOUD / name).read_text())
    for name in ("check", "slurm.sbatch", "tpu-vm.sh", "xpk.sh"):
        subprocess.run(["bash", "-n", CLOUD / name], check=True)


@pytest.mark.parametrize("name", ["gke.yaml", "jobset.yaml"])
def test_as_many_processes_are_started_as_are_told_of_each_other(name):
    spec = yaml.safe_load((CLOUD / name).read_text())["spec"]
    slices = 1
    if "replicatedJobs" in spec:
        (replicated,) = spec["replicatedJobs"]
        slices, spec = replicated["replicas"], replicated["template"]["spec"]
        assert f"{spec['completions']} * SLICE" in str(spec)
    assert spec["completions"] == spec["parallelism"]
    assert f"--processes {slices * spec['completions']} " in str(spec)


GCLOUD = """\
#!/usr/bin/env bash
echo "$*" >>calls
case "$*" in
*" describe "*)
  sed -n 1p states
  sed -i 1d states
  ;;
*"scrdit sample"*)
  read -r status <statuses
  sed -i 1d statuses
  exit "$status"
  ;;
esac
"""


def tpu_vm(folder, states, statuses):
    """(exit status, calls of gcloud) of tpu-vm.sh, with a gcloud that tells these states and ends the work so."""
    (folder / "gcloud").write_text(GCLOUD)
    (folder / "gcloud").chmod(0o755)
    (folder / "git").symlink_to("/bin/true")
    (folder / "states").write_text("\n".join(states) + "\n")
    (folder / "statuses").write_text("\n".join(map(str, statuses)) + "\n")
    settings = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "POLL": "0"}
    words = [CLOUD / "tpu-vm.sh", "cells", "zone", "v5litepod-16", "bucket", "1000"]
    ended = subprocess.run(words, cwd=folder, env=settings, timeout=60, stdout=subprocess.DEVNULL)
    calls = (folder / "calls").read_text().splitlines()
    named = ["work" if "scrdit sample" in call else call.split()[3] for call in calls]
    return ended.returncode, [name for name in named if name in ("create", "work", "delete")]


def test_a_slice_that_is_taken_away_is_made_anew_until_the_work_is_done(tmp_path):
    states = ["", "WAITING_FOR_RESOURCES", "ACTIVE", "SUSPENDING", "SUSPENDING", "SUSPENDED", "", "ACTIVE"]
    assert tpu_vm(tmp_path, states, [255, 0]) == (0, ["create", "work", "delete", "create", "work", "delete"])


def test_a_command_that_fails_on_a_slice_that_stays_is_not_tried_for_ever(tmp_path):
    assert tpu_vm(tmp_path, ["ACTIVE", "ACTIVE"], [2]) == (2, ["work"])


def start(run, out, cells, *more):
    words = ["sample", str(run.path), "--cells", str(cells), "--out", str(out), "--distributed", *OPTIONS, *more]
    command = [sys.executable, "-c", "from scrdit_jax.cli import main; main()", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finished(out):
    return len(list(out.glob("shards/*.json")))


def wait_for_more(out, processes, *, patience=60):
    """Until another shard is there, or no process is."""
    before, deadline = finished(out), time.monotonic() + patience
    while finished(out) == before and any(process.poll() is None for process in processes):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("meeting", [False, True])
def test_sigterm_ends_a_process_with_a_status_that_schedulers_know(tiny_run, tmp_path, meeting):
    """Where processes meet, JAX has a handler that would ignore it."""
    out = tmp_path / "out"
    place = ("--processes", "1", "--process-id", "0")
    if meeting:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            place += ("--coordinator", f"localhost:{free.getsockname()[1]}")
    process = start(tiny_run, out, 2_000_000, *place)
    wait_for_more(out, [process])
    process.send_signal(signal.SIGTERM)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    assert text.endswith("scrdit: terminated; run the same command again to continue\n")
    assert finished(out) > 0
    assert not list((out / "shards").glob(".*"))


def preempt(process, chance, grace):
    """What a scheduler does: SIGTERM, and SIGKILL to what is still there after a while; or SIGKILL at once."""
    kind = chance.choice(["term", "term", "kill"])
    if kind == "term":
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=grace)
        except subprocess.TimeoutExpired:
            kind = "term, kill"
    process.kill()
    process.communicate()
    return kind, process.returncode


@pytest.mark.slow
def test_preempted_at_any_moment_it_ends_with_the_cells_of_an_undisturbed_run(tiny_run, tmp_path):
    """Three processes, each started again by the same command whenever it was taken away."""
    cells, out, chance = 150_000, tmp_path / "cut", random.Random(os.getpid())

    def begin(number):
        return start(tiny_run, out, cells, "--processes", "3", "--process-id", str(number))

    processes, seen = [begin(number) for number in range(3)], []
    for _ in range(20):
        # Some while they start or compile, some at work.
        wait_for_more(out, processes) if chance.random() < 0.7 else time.sleep(chance.uniform(0, 4))
        number = chance.randrange(3)
        if processes[number].poll() is None:
            seen.append(preempt(processes[number], chance, grace=chance.choice([0.05, 10])))
        processes[number] = begin(number)
    for process in processes:
        text, _ = process.communicate(timeout=200)
        assert process.returncode == 0, text
    print(f"seed {os.getpid()}: {seen}")
    assert {status for _, status in seen} <= {143, -signal.SIGTERM, -signal.SIGKILL}
    undisturbed = scrdit.generate(tiny_run, cells, out=tmp_path / "whole", steps=10, batch_size=64, shard_cells=512)
    found = scrdit.verify(out)
    assert found.problems == ()
    assert found.digest == scrdit.verify(undisturbed.path).digest
    assert not list((out / "shards").glob(".*"))
