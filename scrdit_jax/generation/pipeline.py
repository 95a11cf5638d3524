"""The device makes a batch while a thread compresses and writes the one before; memory does not grow with the cells."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..errors import writing
from ..files import require_space
from .engine import Engine
from .manifest import ShardRecord
from .plan import Shard
from .store import ShardWriter, Store

# Batches that wait to be written, at most; more would only hide for a while that the writer is too slow.
MOST_WAITING = 2
# On the disk: index and value of a non-zero after compression (see growing.py), and a cell's name.
BYTES_A_NONZERO = 5
BYTES_A_CELL = 48


@dataclass
class Tally:
    """What has been made so far in this process, in how many seconds, in how many of them the device had no work."""

    cells: int = 0
    shards: int = 0
    seconds: float = 0.0
    waited: float = 0.0


class _Job(NamedTuple):
    shard: Shard
    first: int
    count: int


def make_shards(
    engine: Engine,
    store: Store,
    shards: Iterable[Shard],
    tally: Tally,
    *,
    copies: int = 1,
    progress: Callable[[int, ShardRecord | None], None] = lambda cells, record: None,
) -> None:
    """Make `shards`, which this process has claimed, and add what that took to `tally`.

    After the first batch, DiskFull where `copies` of all that is missing will not fit. `progress` is told, in the
    writing thread, of every batch that was written and of the record of a shard that it finished.
    """
    writer, waiting = ShardWriter(store), deque()
    jobs = _jobs(shards, engine.batch_size)
    started = time.perf_counter()

    def write(job: _Job, cells: np.ndarray) -> None:
        with writing(store.path):
            record = writer.add(job.shard, engine.block(cells, job.first))
        progress(job.count, record)
        tally.cells += job.count
        tally.shards += record is not None

    with ThreadPoolExecutor(1, thread_name_prefix="writer") as thread:
        try:
            for number, (job, cells) in enumerate(_batches(engine, jobs, tally)):
                if number == 0:
                    _require_space(store, cells, copies)
                _raise_first(waiting, leave=MOST_WAITING - 1)
                waiting.append(thread.submit(write, job, cells))
            _raise_first(waiting, leave=0)
        finally:
            thread.shutdown(cancel_futures=True)
            tally.seconds += time.perf_counter() - started


def _jobs(shards: Iterable[Shard], batch_size: int) -> Iterator[_Job]:
    for shard in shards:
        for first, count in shard.batches(batch_size):
            yield _Job(shard, first, count)


def _batches(engine: Engine, jobs: Iterator[_Job], tally: Tally) -> Iterator[tuple[_Job, np.ndarray]]:
    """Each job's cells (cell, gene) on the host; the next batch is dispatched before one is fetched."""
    job = next(jobs, None)
    ahead = None if job is None else (job, engine.dispatch(job.first))
    spare, came, shortest = None, None, np.inf
    while ahead is not None:
        (job, batch), following = ahead, next(jobs, None)
        # One that is done before the one behind it was even dispatched has left the device idle: for about as long
        # as has passed since the batch before it came, less what a batch takes.
        idle = came is not None and batch.cells.is_ready()
        if idle:
            tally.waited += max(0.0, time.perf_counter() - came - shortest)
        ahead = None if following is None else (following, engine.dispatch(following.first, spare))
        # The device may write over the batch as soon as it is `spare`, while the writer is still at it.
        cells = engine.fetch(batch, job.first, job.count).copy()
        now = time.perf_counter()
        if came is not None and not idle:
            shortest = min(shortest, now - came)
        came, spare = now, batch.cells
        yield job, cells


def _raise_first(waiting: deque[Future[None]], leave: int) -> None:
    """Wait until only `leave` batches wait to be written; an error of the writer's comes out here, at once."""
    while waiting and (len(waiting) > leave or waiting[0].done()):
        waiting.popleft().result()


def _require_space(store: Store, cells: np.ndarray, copies: int) -> None:
    left = sum(shard.cells for shard in store.missing())
    matrices = 2 if store.layout.counts else 1
    a_cell = matrices * BYTES_A_NONZERO * np.count_nonzero(cells) / len(cells) + BYTES_A_CELL
    require_space(store.path, int(copies * left * a_cell))
