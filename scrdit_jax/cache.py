"""The cache folder, which may be deleted at any time: compiled programs, and what timing has shown."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import os
import platform
import time
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from .errors import ScrditError
from .io.atomic import atomic_write
from .paths import readable_path

# Programs that compile faster are not kept.
LEAST_COMPILE_SECONDS = 0.2
TIMED_SECONDS = 0.25
# What JAX's files of programs are called, and how those begin that are not compressed by zlib.
PROGRAM, ZSTANDARD = "-cache", b"\x28\xb5\x2f\xfd"
DIGESTS = "digests.json"


def cache_directory() -> Path:
    """SCRDIT_CACHE where it is set, else `scrdit_jax` in the user's cache folder."""
    named = os.environ.get("SCRDIT_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scrdit_jax"


def enable_compilation_cache() -> None:
    """Let JAX keep compiled programs in the cache folder, so that the next start need not compile them again.

    Nothing happens where the user has chosen JAX's cache folder, or where ours cannot be written.
    """
    if jax.config.jax_compilation_cache_dir is not None:
        return
    folder = cache_directory() / "programs" / _processor()
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            remove_damaged_programs(folder)
            atexit.register(record_programs, folder)
            # A program that cannot be kept, or read, is compiled: no user need know of it.
            warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache entry")
            jax.config.update("jax_compilation_cache_dir", str(folder))
            jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_COMPILE_SECONDS)


def remove_damaged_programs(folder: Path) -> None:
    """Delete compiled programs that are not what was written, before JAX runs them.

    JAX writes them in place, so that one that was killed, or had a full disk, leaves part of a program, which would
    never be replaced; and their compression may not notice a changed byte.
    """
    known = _recorded(folder)
    for path in folder.glob(f"*{PROGRAM}"):
        with contextlib.suppress(OSError, ScrditError):
            data = readable_path(path).read_bytes()
            here = hashlib.sha256(data).hexdigest()
            if known.get(path.name, here) != here or (path.name not in known and not _decompresses(data)):
                path.unlink()


def record_programs(folder: Path) -> None:
    """Remember what the compiled programs are, for `remove_damaged_programs`."""
    with contextlib.suppress(OSError, ScrditError):
        known, there = _recorded(folder), {}
        for path in sorted(folder.glob(f"*{PROGRAM}")):
            there[path.name] = known.get(path.name) or hashlib.sha256(path.read_bytes()).hexdigest()
        if there != known:
            with atomic_write(folder / DIGESTS) as partial:
                partial.write_text(json.dumps(there) + "\n")


def _recorded(folder: Path) -> dict[str, str]:
    with contextlib.suppress(OSError, ValueError, RecursionError, ScrditError):
        known = json.loads(readable_path(folder / DIGESTS).read_text())
        if isinstance(known, dict):
            return known
    return {}


def _decompresses(data: bytes) -> bool:
    """Whether it is whole, as far as zlib can tell; JAX may have taken zstandard, which tells itself."""
    try:
        zlib.decompress(data)
    except zlib.error:
        return data.startswith(ZSTANDARD)
    return True


def _processor() -> str:
    """A name for the host's instruction set: a program compiled for one processor may not run on another."""
    known = platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        known += next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    return f"{platform.machine()}-{hashlib.sha256(known.encode()).hexdigest()[:12]}"


def seconds_a_call(call: Callable[[], Any], *, least_seconds: float = TIMED_SECONDS) -> float:
    """The least of several timed calls after one to warm up; `call` returns arrays, which are waited for."""
    jax.block_until_ready(call())
    best, spent = np.inf, 0.0
    while spent < least_seconds:
        started = time.perf_counter()
        jax.block_until_ready(call())
        seconds = time.perf_counter() - started
        best, spent = min(best, seconds), spent + seconds
    return best


def cached_measurement(key: dict[str, Any], find_out: Callable[[], Any]) -> Any:
    """What `find_out()` gave, as plain JSON values, the last time it was asked with an equal `key`.

    A record that is damaged counts as none, and one that cannot be written is done without.
    """
    key = json.loads(json.dumps(key))
    path = cache_directory() / "choices" / f"{_digest(key)[:24]}.json"
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, RecursionError, ScrditError):
        record = json.loads(readable_path(path).read_text())
        if record["key"] == key and record["digest"] == _digest([key, record["value"]]):
            return record["value"]
    value = json.loads(json.dumps(find_out()))
    with contextlib.suppress(OSError, ScrditError), atomic_write(path) as partial:
        partial.write_text(json.dumps({"key": key, "value": value, "digest": _digest([key, value])}) + "\n")
    return value


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
