"""python -m tests.faults: faults at every operation on files of every command that writes; a table of what came of it.

python -m tests.faults                                    all points of all commands: an hour or more
python -m tests.faults --points 5 --command 'prepare*'    five of each
"""

from __future__ import annotations

import argparse
import faulthandler
import fnmatch
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from . import shim


def environment(folder: Path) -> None:
    """Before JAX is imported: little optimising, two devices, and caches that are this program's own."""
    os.environ["XLA_FLAGS"] = (
        "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0"
        " --xla_llvm_disable_expensive_passes=true"
    )
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["SCRDIT_CACHE"] = str(folder / "cache")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = os.environ.get("JAX_COMPILATION_CACHE_DIR", str(folder / "programs"))
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
    os.environ.pop("LD_PRELOAD", None)


def main() -> int:
    """0 where nothing was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=0, help="of each kind and command; 0: all")
    parser.add_argument("--command", action="append", help="a shell pattern; repeatable")
    parser.add_argument("--fault", action="append", help="a shell pattern; repeatable")
    parser.add_argument("--json", type=Path, help="write the outcomes here")
    given = parser.parse_args()
    if why := shim.unavailable():
        print(f"no faults can be injected: {why}")
        return 0
    with tempfile.TemporaryDirectory(prefix="scrdit_faults_") as made:
        folder = Path(os.environ.get(shim.LOADED) or made)
        shim.reexecute_with_shim(folder)
        return _tried(folder, given)


def _tried(folder: Path, given: argparse.Namespace) -> int:
    environment(folder)
    from .commands import COMMANDS, INPUTS, write_inputs
    from .trying import FAULTS, Trial, call, signals_survived

    def chosen(names, patterns):
        return [name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in patterns or ["*"])]

    faulthandler.enable()
    inputs = folder / "inputs"
    inputs.mkdir()
    os.chdir(inputs)
    write_inputs(inputs)
    names = chosen(COMMANDS, given.command)
    for name, words in INPUTS.items():
        if any(not name.startswith("prepare") and not name.startswith("train") for name in names):
            status, text = call((*words, "--out", name))
            assert status == 0, text
    outcomes = []
    with signals_survived():
        for number, name in enumerate(names):
            began = time.monotonic()
            trial = Trial(name, COMMANDS[name], folder / str(number))
            for kind in chosen(FAULTS, given.fault):
                outcomes.append(outcome := trial.under(kind, given.points))
                seconds, began = time.monotonic() - began, time.monotonic()
                right = f"{len(outcome.wrong)} WRONG" if outcome.wrong else "digests equal"
                print(f"{name:24} {kind:15} {outcome.points:5} of {outcome.all:5} points, {right}, {seconds:.0f} s")
                for line in outcome.wrong:
                    print(f"    {line}")
                sys.stdout.flush()
    if given.json:
        given.json.write_text(json.dumps([vars(outcome) for outcome in outcomes], indent=1))
    wrong = sum(len(outcome.wrong) for outcome in outcomes)
    points = sum(outcome.points for outcome in outcomes)
    print(f"{points} points, {f'{wrong} wrong' if wrong else 'digests equal'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
