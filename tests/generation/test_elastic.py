"""Shards as tasks of Ray, on this machine; scripts/test --peers installs Ray and runs these."""

import contextlib
import os
import signal
import threading
from pathlib import Path

import pytest

import scrdit_jax as scrdit
from scrdit_jax.errors import BadConfig, BadTimesteps, MissingExtra, OutputExists
from scrdit_jax.generation.store import Store

REQUEST = {"steps": 4, "batch_size": 8, "shard_cells": 16}


def digest_of(folder: Path) -> str:
    with Store(folder) as store:
        return store.digest()


def worker_at_work() -> int | None:
    """The process of a Ray worker that is making a shard just now."""
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if process.name.isdigit() and (process / "cmdline").read_bytes().startswith(b"ray::_make"):
                return int(process.name)
    return None


@pytest.mark.peers
def test_two_workers_of_which_one_is_killed_make_the_same_cells(tiny_run, tmp_path):
    scrdit.generate(tiny_run, 2000, out=tmp_path / "alone", **REQUEST)
    killed, over = [], threading.Event()

    def kill_one() -> None:
        while not over.is_set() and not killed:
            begun = (tmp_path / "shared" / "shards" / "shard-00000.json").exists()
            worker = worker_at_work() if begun else None
            if worker is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
                    killed.append(worker)

    thread = threading.Thread(target=kill_one)
    thread.start()
    summary = scrdit.generate(tiny_run, 2000, out=tmp_path / "shared", ray="local", **REQUEST)
    over.set()
    thread.join()
    assert killed
    assert summary.cells == 2000
    assert digest_of(tmp_path / "shared") == digest_of(tmp_path / "alone")
    assert "2000 cells" in str(summary)
    assert "waited" not in str(summary)
    with pytest.raises(OutputExists, match=r"another request \(seed 0, not 1\)"):
        scrdit.generate(tiny_run, 2000, out=tmp_path / "shared", ray="local", seed=1, **REQUEST)
    with pytest.raises(BadTimesteps, match="1000 steps are not within"):
        scrdit.generate(tiny_run, 8, out=tmp_path / "wrong", ray="local", steps=1000)


def test_one_file_is_not_shared_and_there_is_one_way_to_share(tiny_run, tmp_path):
    with pytest.raises(BadConfig, match="several processes write to a folder of shards"):
        scrdit.generate(tiny_run, 8, out=tmp_path / "cells.h5ad", ray="local")
    with pytest.raises(BadConfig, match="two ways to share the work"):
        scrdit.generate(tiny_run, 8, out=tmp_path / "cells", ray="local", distributed=True)


def test_without_ray_the_extra_is_named(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"pip install 'scrdit_jax\[ray\]'"):
        scrdit.generate(tiny_run, 8, out=tmp_path / "cells", ray="local")
