"""CPU time of each stage between a packed batch and a shard on the disk."""

from __future__ import annotations

import functools
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from threading import Lock, local
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import h5py

from benchmarks.speed import fake_device
from scrdit_jax.generation.composition import CellSampler
from scrdit_jax.generation.store import ShardWriter
from scrdit_jax.io import append, columns
from scrdit_jax.io.append import CellDigest, CellWriter
from scrdit_jax.io.columns import AppendableColumn, CompressedColumn

COPY, UNPACK, DIGEST, DEFLATE = "copy from the device", "unpack to CSR", "digest of the cells", "shuffle and deflate"
FILE, BEGIN, JOIN = "digest of the file, disk", "begin a shard", "join batches, cut chunks"
NAMES, HDF5, REST = "names and obs", "HDF5", "dispatch, collect and all else"
# Without Python's lock and HDF5's, for several batches or shards at once; all else is done by one core at a time.
BESIDE = (COPY, UNPACK, DIGEST, DEFLATE, FILE)
# In the thread of a writer.
WRITER = (BEGIN, JOIN, NAMES, HDF5, FILE)

FUNCTIONS = [
    (fake_device, "transfer", COPY),
    (CellSampler, "block", UNPACK),
    (columns, "_compress", DEFLATE),
    (ShardWriter, "_begin", BEGIN),
    (ShardWriter, "_append", JOIN),
    (ShardWriter, "_finish", FILE),
    (append, "cell_names", NAMES),
    (AppendableColumn, "_put", NAMES),
    (CompressedColumn, "_write", HDF5),
    (CellWriter, "close", HDF5),
    (h5py.File, "close", HDF5),
]


class CpuByStage:
    """A context manager; `seconds` are what each stage took of this process's CPU time, over all threads.

    A stage within another counts for itself only.
    """

    def __init__(self, *, enabled: bool = True) -> None:
        """Without `enabled`, nothing is measured."""
        self._enabled, self._stack, self._lock, self._inner = enabled, ExitStack(), Lock(), local()
        self.seconds: dict[str, float] = defaultdict(float)

    def __enter__(self) -> CpuByStage:
        if not self._enabled:
            return self
        for owner, name, stage in FUNCTIONS:
            self._stack.enter_context(patch.object(owner, name, self._timed(getattr(owner, name), stage)))
        parts = CellDigest.parts

        def timed_parts(digest: CellDigest, block: append.CellBlock) -> list[tuple[Any, memoryview]]:
            return [
                (SimpleNamespace(update=self._timed(part.update, DIGEST)), data) for part, data in parts(digest, block)
            ]

        self._stack.enter_context(patch.object(CellDigest, "parts", timed_parts))
        self._started = time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        if self._enabled:
            whole = time.process_time() - self._started
            self._stack.close()
            self.seconds[REST] = whole - sum(self.seconds.values())

    def _timed(self, function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*arguments: Any, **options: Any) -> Any:
            before, self._inner.spent = getattr(self._inner, "spent", 0.0), 0.0
            started = time.thread_time()
            try:
                return function(*arguments, **options)
            finally:
                spent = time.thread_time() - started
                with self._lock:
                    self.seconds[stage] += spent - self._inner.spent
                self._inner.spent = before + spent

        return timed
