"""The device makes a batch while threads pack, compress and write those before; memory does not grow with the cells."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock

import numpy as np

from ..devices import usable_cores
from ..io.append import CellBlock
from ..io.atomic import require_space
from .composition import CellSampler, Dispatched, collect, dispatch_ahead
from .manifest import ShardRecord
from .plan import Shard
from .store import Store
from .writers import ShardWriters

# On the disk: index and value of a non-zero, plain and after compression (see columns.py), and a cell's name.
BYTES_A_NONZERO, COMPRESSED_BYTES_A_NONZERO = 8, 5
BYTES_A_CELL = 48


@dataclass
class Throughput:
    """What has been made so far in this process, in how many seconds, in how many of them the device had no work."""

    cells: int = 0
    shards: int = 0
    seconds: float = 0.0
    waited: float = 0.0


def make_shards(
    sampler: CellSampler,
    store: Store,
    shards: Iterable[Shard],
    throughput: Throughput,
    *,
    to_assemble: bool = False,
    progress: Callable[[int, ShardRecord | None], None] = lambda cells, record: None,
) -> None:
    """Make `shards`, which this process has locked, and add what that took to `throughput`.

    With `to_assemble` they are on their way into one file, and so not compressed yet. After the first batch, DiskFull
    where all that is missing will not fit. `progress` is called, in a writer's thread but never in two at once, for
    every batch that was written, with the record of a shard that it finished.
    """
    started, lock = time.perf_counter(), Lock()

    def written(cells: int, record: ShardRecord | None) -> None:
        with lock:
            progress(cells, record)
            throughput.cells += cells
            throughput.shards += record is not None

    try:
        with (
            ThreadPoolExecutor(usable_cores(), thread_name_prefix="packer") as packers,
            ShardWriters(store, packers, compress=not to_assemble, on_written=written) as writers,
        ):
            batches = dispatch_ahead(sampler.jobs(shards))
            for number, done in enumerate(_timed(batches, throughput)):
                block = packers.submit(sampler.block, done.job, collect(done))
                if number == 0:
                    _require_space(store, block.result(), to_assemble)
                writers.add(done.job.shard, block)
            writers.finish()
    finally:
        throughput.seconds += time.perf_counter() - started


def _timed(batches: Iterator[Dispatched], throughput: Throughput) -> Iterator[Dispatched]:
    """The same batches, while `throughput` counts for how long the device had no work.

    One that was done before the one behind it was even dispatched has left the device idle: for about as long as has
    passed since the batch before it came, less what a batch takes.
    """
    came, shortest = None, np.inf
    for batch in batches:
        if came is not None and batch.idle:
            throughput.waited += max(0.0, time.perf_counter() - came - shortest)
        yield batch
        now = time.perf_counter()
        if came is not None and not batch.idle:
            shortest = min(shortest, now - came)
        came = now


def _require_space(store: Store, block: CellBlock, to_assemble: bool) -> None:
    left = sum(shard.cells for shard in store.missing())
    matrices = [block.cells, *([] if block.counts is None else [block.counts])]
    a_nonzero = COMPRESSED_BYTES_A_NONZERO + (BYTES_A_NONZERO if to_assemble else 0)
    a_cell = sum(matrix.nnz for matrix in matrices) / block.cells.shape[0] * a_nonzero
    require_space(store.path, int(left * (a_cell + BYTES_A_CELL * (2 if to_assemble else 1))))
