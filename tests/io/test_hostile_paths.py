"""Paths that no file can have, or that lead to what is none, wherever a command takes one: one line, exit status 2."""

import os

import numpy as np
import pytest
from hostile import small_cells
from test_hostile_files import in_time

from scrdit_jax.errors import BadInput, OutputExists, one_line, printable
from scrdit_jax.paths import readable_path, usable_name, writable_path

NOWHERE = [
    "/proc/self/x.h5ad", "/sys/x.h5ad", "/proc/self/mem", "/dev/full", "/dev/null", "/dev/zero", "/dev/full/x.h5ad",
    "x" * 300 + ".h5ad", "fifo.h5ad", "fifo", "link.h5ad", "circle.h5ad", "file/below.h5ad", "", "é" * 150 + ".h5ad",
    "/".join("d" * 2500) + "/x.h5ad", "a\udcff" * 200 + ".h5ad", "\x1b[2J" + "x" * 300,
]  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo.h5ad")
    os.mkfifo("fifo")
    os.symlink("nowhere/at/all", "link.h5ad")
    os.symlink("circle.h5ad", "circle.h5ad")
    (tmp_path / "file").write_text("")
    small_cells().write_h5ad("cells.h5ad")
    np.save("names.npy", np.zeros((2, 2)))
    (tmp_path / "preset.json").write_text("{}")
    return tmp_path


READERS = [
    ("prepare", "PATH", "--out", "new.h5ad"),
    ("prepare", "PATH", "--stream", "--out", "new.h5ad"),
    ("prepare", "cells.h5ad", "PATH", "--out", "new.h5ad"),
    ("prepare", "cells.h5ad", "--preset", "PATH", "--out", "new.h5ad"),
    ("train", "PATH", "--out", "new"),
    ("info", "PATH"),
    ("verify", "PATH"),
    ("assemble", "PATH", "--out", "new.h5ad"),
    ("sample", "PATH", "--cells", "5", "--out", "new.h5ad"),
    ("schedule", "PATH", "--steps", "4", "--out", "new.json"),
    ("evaluate", "PATH", "cells.h5ad", "--out", "new"),
    ("evaluate", "cells.h5ad", "PATH", "--out", "new"),
    ("benchmark", "PATH", "--out", "new"),
    ("import-torch", "PATH", "--out", "new"),
    ("import-torch", "names.npy", "--genes", "PATH", "--out", "new"),
]
WRITERS = [
    ("prepare", "cells.h5ad", "--genes", "16", "--min-cells", "1", "--out", "PATH"),
    ("train", "cells.h5ad", "--steps", "1", "--out", "PATH"),
    ("assemble", "nothing", "--out", "PATH"),
    ("sample", "nothing", "--cells", "5", "--out", "PATH"),
    ("schedule", "nothing", "--steps", "4", "--out", "PATH"),
    ("benchmark", "nothing", "--out", "PATH"),
    ("import-torch", "nothing", "--out", "PATH"),
]


@pytest.mark.parametrize("words", READERS + WRITERS, ids=" ".join)
def test_a_path_that_leads_nowhere_is_refused_in_one_line(words, here, scrdit):
    os.chdir(here)
    before = sorted(os.listdir(here))
    for path in NOWHERE:
        with in_time():
            status, said = scrdit(*(path if word == "PATH" else word for word in words))
        assert status == 2, (path, said)
        lines = said.strip().splitlines()
        assert len(lines) == 1 or lines[0].startswith("Usage:"), (path, said)
        assert printable(said) == said
    assert sorted(os.listdir(here)) == before


def test_names_and_kinds(here):
    for name in ("", "..", "a\0b", "x" * 256, "/".join("d" * 2500)):
        with pytest.raises(BadInput):
            usable_name(name)
    assert usable_name("x" * 255).name == "x" * 255
    for path, what in (("fifo", "named pipe"), ("/dev/zero", "a device"), ("/proc/version", "belongs to the system")):
        with pytest.raises(BadInput, match=what):
            readable_path(path)
        with pytest.raises(OutputExists, match=what):
            writable_path(path)
    assert readable_path("not/there") == writable_path("not/there")
    with pytest.raises(BadInput, match="is a link to nowhere/at/all, which is not there"):
        readable_path("link.h5ad")
    with pytest.raises(BadInput, match="leads back to itself"):
        readable_path("circle.h5ad")


def test_a_file_that_may_not_be_read(here, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.stat", refuse)
    with pytest.raises(BadInput, match="permission denied; ask its owner"):
        readable_path("cells.h5ad")


def test_what_a_terminal_is_shown():
    assert one_line("a \x1b[2J\r\n b\x07\u202e \ud83d é 細胞") == r"a \x1b[2J b\x07\u202e \ud83d é 細胞"
    assert len(one_line("x" * 1_000_000)) < 2100
    assert printable("a\nb\tc") == r"a" "\nb" r"\tc"
