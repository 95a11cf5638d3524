"""A file in memory, against one on the disk."""

import io
import random

import numpy as np
import pytest

from scrdit_jax.io import memory_file
from scrdit_jax.io.memory_file import MemoryFile


def do(file, action, place, data):
    """One action after the other, and what it returns."""
    if action == "end":
        return file.seek(-min(3, file.seek(0, io.SEEK_END)), io.SEEK_END)
    file.seek(place)
    if action == "read":
        return file.read(50)
    return file.write(np.frombuffer(data, np.uint8)) if action == "write" else file.truncate()


@pytest.mark.parametrize("growth", [1, 64, 10_000])
def test_it_does_what_a_file_does_and_nothing_of_the_one_before_shows(tmp_path, monkeypatch, growth):
    monkeypatch.setattr(memory_file, "GROWTH", growth)
    chance, kept = random.Random(0), MemoryFile()
    for _ in range(20):
        kept.empty()
        with (tmp_path / "file").open("w+b", buffering=0) as file:
            for _ in range(40):
                action = chance.choice(["write", "write", "read", "truncate", "end"])
                arguments = action, chance.randrange(300), chance.randbytes(chance.randrange(1, 60))
                assert do(kept, *arguments) == do(file, *arguments)
                assert kept.tell() == file.tell()
                with kept.content() as content:
                    assert bytes(content) == (tmp_path / "file").read_bytes()
