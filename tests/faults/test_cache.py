"""The cache folder full, not to be written to, or damaged: everything goes on, to the same cells."""

import json
import os
import subprocess
import sys
import zlib

import numpy as np
import pytest

from scrdit_jax import cache

SAMPLE = "from scrdit_jax.cli import main; main()"


@pytest.fixture
def programs(tmp_path):
    """A folder as JAX leaves it: three programs, compressed by zlib, and their digests."""
    for name in "abc":
        (tmp_path / f"jit_{name}-cache").write_bytes(zlib.compress(name.encode() * 1000))
    cache.record_programs(tmp_path)
    return tmp_path


def there(folder):
    return sorted(path.name for path in folder.iterdir())


def test_programs_that_are_what_they_were_stay(programs):
    before = there(programs)
    cache.remove_damaged_programs(programs)
    assert there(programs) == before
    assert len(before) == 4


@pytest.mark.parametrize("damage", ["cut", "byte", "empty", "other program"])
def test_a_damaged_program_is_removed_and_no_other(programs, damage):
    path = programs / "jit_b-cache"
    data = path.read_bytes()
    path.write_bytes(
        {
            "cut": data[:-3], "byte": data[:5] + bytes([data[5] ^ 1]) + data[6:], "empty": b"",
            "other program": zlib.compress(b"x"),
        }[damage]
    )  # fmt: skip
    cache.remove_damaged_programs(programs)
    assert there(programs) == ["digests.json", "jit_a-cache", "jit_c-cache"]


def test_a_program_of_a_killed_process_is_kept_if_it_is_whole(programs):
    (programs / "jit_d-cache").write_bytes(zlib.compress(b"whole"))
    (programs / "jit_e-cache").write_bytes(zlib.compress(os.urandom(1000))[:-10])
    cache.remove_damaged_programs(programs)
    assert there(programs) == ["digests.json", *(f"jit_{name}-cache" for name in "abcd")]


@pytest.mark.parametrize("text", ["", "[]", "{ not", "[" * 100_000, '{"jit_a-cache": 5}'])
def test_a_damaged_list_of_digests_is_survived(programs, text):
    (programs / "digests.json").write_text(text)
    cache.remove_damaged_programs(programs)
    cache.record_programs(programs)
    assert set(json.loads((programs / "digests.json").read_text())) >= {"jit_b-cache", "jit_c-cache"}


@pytest.mark.parametrize(
    "record",
    ["", "[]", "null", "[" * 100_000, '{"key": {"a": 1}, "value": -5}', '{"key": {"a": 1}, "value": 2, "digest": ""}'],
)
def test_a_damaged_measurement_is_made_anew(tmp_path, monkeypatch, record):
    monkeypatch.setenv("SCRDIT_CACHE", str(tmp_path))
    assert cache.cached_measurement({"a": 1}, lambda: 3) == 3
    (path,) = (tmp_path / "choices").iterdir()
    path.write_text(record)
    assert cache.cached_measurement({"a": 1}, lambda: 4) == 4
    assert cache.cached_measurement({"a": 1}, lambda: 5) == 4


@pytest.mark.slow
def test_sampling_survives_whatever_has_become_of_the_cache(tiny_run, tmp_path):
    """Processes of their own, which find: nothing; programs; damaged programs; a folder they cannot write to."""
    from scrdit_jax.api import verify

    where = tmp_path / "cache"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    environment |= {"JAX_PLATFORMS": "cpu", "SCRDIT_CACHE": str(where)}

    def digest(name):
        words = [
            "sample",
            tiny_run.path,
            "--cells",
            "40",
            "--steps",
            "3",
            "--batch-size",
            "8",
            "--out",
            tmp_path / name,
        ]
        done = subprocess.run(
            [sys.executable, "-c", SAMPLE, *map(str, words)], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        assert "Warning" not in done.stderr
        return verify(tmp_path / name).digest

    undisturbed = digest("first")
    found = list(where.glob("programs/*/*-cache"))
    assert found
    assert list(where.glob("programs/*/digests.json"))
    random = np.random.default_rng(3)
    for number, recorded in enumerate((True, True, False, False)):
        for path in where.glob("programs/*/*-cache"):
            data = bytearray(path.read_bytes())
            if number % 2:
                del data[int(random.integers(len(data))) :]
            else:
                data[int(random.integers(len(data)))] ^= 1 << int(random.integers(8))
            path.write_bytes(data)
        if not recorded:
            next(where.glob("programs/*/digests.json")).unlink()
        assert digest(f"damaged{number}") == undisturbed
    (tmp_path / "file").write_text("")
    for name, place in (("below_file", tmp_path / "file" / "below"), ("system", "/proc/nowhere")):
        environment["SCRDIT_CACHE"] = str(place)
        assert digest(name) == undisturbed
