"""The engines of a request, and cells by the batch: one engine; or, of a family, one for each run of a cell type."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import numpy as np

from ..conditioning.assignment import Assignment
from ..data.packed import Packed, unpack
from ..families import Family, Trained
from ..io.append import CellBlock, to_csr
from . import tuning
from .counts import CountSampler, make_count_sampler
from .engine import Engine, make_engine
from .packing import Room
from .plan import Shard
from .program import SampledBatch
from .request import SampleRequest, guidance_of


class Collected(NamedTuple):
    """A batch's cells on the host, dense or packed, and their library sizes (cell,)."""

    cells: np.ndarray | Packed
    library_size: np.ndarray


class Job(NamedTuple):
    """Cells `first` to `first` + `count` - 1 of a shard, from the batch of an engine that begins with cell `batch`."""

    engine: Engine
    batch: int
    first: int
    count: int
    shard: Shard


class Dispatched(NamedTuple):
    """A batch on its way; `packed` where the device packs it; `idle` if it was done before the next was dispatched."""

    job: Job
    batch: SampledBatch
    packed: Packed | None
    idle: bool = False


@dataclass(frozen=True)
class CellSampler:
    """Makes the cells of a request: those up to `ends[i]` by `engines[i]`. `counts` is None where none are wanted."""

    engines: tuple[Engine, ...]
    ends: tuple[int, ...]
    assignment: Assignment
    counts: CountSampler | None

    @property
    def batch_size(self) -> int:
        """Cells in a batch."""
        return self.engines[0].batch_size

    def jobs(self, shards: Iterable[Shard]) -> Iterator[Job]:
        """The batches of the shards, cut where another engine begins."""
        for shard in shards:
            for batch, count in shard.batches(self.batch_size):
                first, end = batch, batch + count
                for engine, stop in zip(self.engines, self.ends, strict=True):
                    if first < min(stop, end):
                        yield Job(engine, batch, first, min(stop, end) - first, shard)
                        first = min(stop, end)

    def block(self, job: Job, collected: Collected) -> CellBlock:
        """The job's cells, sparse, with the codes of their observed conditions and, where wanted, counts."""
        inside = slice(job.first - job.batch, job.first - job.batch + job.count)
        if isinstance(collected.cells, np.ndarray):
            matrix = to_csr(job.engine.in_file_order(collected.cells[inside]))
        else:
            matrix = unpack(collected.cells, job.engine.network.genes)
            matrix = matrix if job.count == self.batch_size else matrix[inside]
        labels = self.assignment.codes[self.assignment.rows(job.first, job.count)]
        if self.counts is None:
            return CellBlock(matrix, labels)
        return CellBlock(matrix, labels, *self.counts.draw(matrix, job.first, collected.library_size[inside]))


def make_sampler(trained: Trained, request: SampleRequest) -> CellSampler:
    """The engines for `request`; without a batch size in it, with the one that was measured to be fastest here."""
    quotas, sampling = request.quotas, request.sampling
    guidance_of(trained, sampling)
    assignment = Assignment.of(quotas)
    counts = make_count_sampler(trained, sampling)
    if not isinstance(trained, Family):
        engine = make_engine(trained, sampling, quotas)
        return CellSampler((engine,), (sys.maxsize,), assignment, counts)
    # One batch size for all, so that batch k is the same batch whatever the types.
    batch_size = sampling.batch_size or tuning.fastest_batch_size(trained.models[0], sampling.dtype)
    sampling = replace(sampling, batch_size=batch_size)
    of_type = {code: make_engine(trained.models[code], sampling) for code in {codes[0] for codes in quotas.codes}}
    engines = tuple(of_type[codes[0]] for codes in quotas.codes)
    return CellSampler(engines, tuple(map(int, assignment.ends)), assignment, counts)


def dispatch_ahead(jobs: Iterable[Job]) -> Iterator[Dispatched]:
    """Each job's batch in turn, for `collect`; by then the device is already at the next.

    What was yielded is used up when the one after it is asked for.
    """
    before, spare, room = None, None, Room()
    for job in jobs:
        idle = before is not None and before.batch.cells.is_ready()
        engine = job.engine
        batch = engine.dispatch(job.batch, spare)
        packed = engine.pack(batch.cells, room.of(engine.network.genes)) if engine.packs else None
        # What is packed is fetched dense only where there was no room for it: see `collect`.
        fetched = (batch.finite_steps, batch.library_size, batch.cells if packed is None else packed)
        for array in jax.tree.leaves(fetched):
            array.copy_to_host_async()
        spare = None
        if before is not None:
            yield before._replace(idle=idle)
            if before.packed is not None:
                room.learn(before.packed.counts)
            spare = before.batch.cells
        before = Dispatched(job, batch, packed)
    if before is not None:
        yield before


def collect(dispatched: Dispatched) -> Collected:
    """A dispatched batch on the host, once it is done, in memory of its own; Diverged if a value is not finite."""
    job, batch = dispatched.job, dispatched.batch
    used, library_size = job.first - job.batch + job.count, np.array(batch.library_size)
    if dispatched.packed is not None and dispatched.packed.is_whole:
        job.engine.require_finite(batch, job.batch, used)
        return Collected(Packed(*map(np.asarray, dispatched.packed)), library_size)
    return Collected(job.engine.fetch(batch, job.batch, used).copy(), library_size)


def dense_batches(engine: Engine, cells: int) -> Iterator[np.ndarray]:
    """Cells 0 to `cells` - 1 of an engine on the log scale, dense (cell, gene), batch by batch."""
    for first, count in Shard(0, 0, cells).batches(engine.batch_size):
        yield engine.fetch(engine.dispatch(first), first, count).copy()
