"""A request's cells into a folder of shards or one file: begun, continued after any interruption, and repaired."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ..conditioning.request import Quotas
from ..config import SamplingConfig
from ..devices import describe_devices
from ..families import Trained
from ..io.atomic import remove, remove_leftovers
from ..progress import tqdm
from .assemble import assemble
from .composition import CellSampler, make_sampler
from .manifest import Manifest, ShardRecord
from .outputs import is_finished
from .pipeline import Throughput, make_shards
from .plan import SHARD_CELLS, Plan, Shard
from .request import SampleRequest
from .store import REMEDY, Store, check_folder, is_store

SECONDS_BETWEEN_CHECKS = 0.5


@dataclass(frozen=True)
class Summary:
    """What a request came to: `made` of its `cells` were made by this process in `seconds`, from end to end.

    `waited` is the share of that time for which the device had no work because the host was not ready; None where
    other processes made the cells.
    """

    path: Path
    cells: int
    made: int
    seconds: float
    waited: float | None

    def __str__(self) -> str:
        if not self.made:
            return f"{self.cells} cells in {self.path}"
        here = "" if self.made == self.cells else f"{self.made} of them made here, "
        waited = "" if self.waited is None else f"; the device waited {self.waited:.1%} of the time"
        return (
            f"{self.cells} cells in {self.path}: {here}{self.made / self.seconds:,.0f} cells/s from end to end{waited}"
        )


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """Which `process` of how many this one is, about how many cells a shard has, and what to do where others lie."""

    process: int = 0
    processes: int = 1
    shard_cells: int = SHARD_CELLS
    remedy: str = REMEDY


def begin(
    trained: Trained, quotas: Quotas, sampling: SamplingConfig, folder: Path, sharing: Sharing | None = None
) -> CellSampler | None:
    """Make the manifest of a folder of shards, unless it is there; it fixes the batch size, and with it every bit.

    Returns the sampler that the batch size was found with, if one was made. Raises OutputExists, with the difference
    and the remedy, if other cells, or other things, are there.
    """
    sharing = sharing or Sharing()
    check_folder(folder)
    begun, sampler = None, None
    there = is_store(folder)
    request = _request(trained, quotas, sampling, folder)
    wanted = request.provenance(trained)
    if not there:
        sampler = make_sampler(trained, request)
        plan = Plan.make(request.cells, sampler.batch_size, near=sharing.shard_cells)
        begun = Manifest(wanted, plan, dict(describe_devices()))
    with Store(folder, begun) as store:
        # The manifest may be another process's, that began at the same moment.
        store.manifest.provenance.require_same(wanted, folder, sharing.remedy)
        return sampler if sampler is not None and sampler.batch_size == store.plan.batch_size else None


def _request(trained: Trained, quotas: Quotas, sampling: SamplingConfig, folder: Path) -> SampleRequest:
    """The request, in the dtype in which the folder of shards was begun, if it was."""
    dtype = None
    if is_store(folder):
        with Store(folder) as store:
            dtype = store.manifest.provenance.sampling["dtype"]
    return SampleRequest.of(trained, quotas, sampling, dtype=dtype)


def sampler_for(trained: Trained, store: Store) -> CellSampler:
    """The sampler of the request that `store` was begun with: in other batches, cells are equal to rounding only."""
    request = SampleRequest.from_provenance(store.manifest.provenance)
    sampling = replace(request.sampling, batch_size=store.plan.batch_size)
    return make_sampler(trained, replace(request, sampling=sampling))


def fill(
    trained: Trained,
    quotas: Quotas,
    sampling: SamplingConfig,
    folder: Path,
    sharing: Sharing | None = None,
    *,
    to_assemble: bool = False,
) -> Summary:
    """Make what is missing of the cells in a folder of shards, beside any other process that does the same.

    This process begins with its share and goes on with what nobody is at work on; it returns when all is there.
    What is there already keeps the batch size and the shards it was begun with. With `to_assemble` the shards are on
    their way into one file, and so not compressed yet. Raises OutputExists, with the difference and the remedy, if
    that is other cells.
    """
    started, sharing = time.perf_counter(), sharing or Sharing()
    sampler = begin(trained, quotas, sampling, folder, sharing)
    throughput = Throughput()
    with Store(folder) as store:
        mine = {shard.index for shard in store.plan.share(sharing.process, sharing.processes)}
        missing = store.missing()
        if sampler is None and missing:
            sampler = sampler_for(trained, store)
        with _bar(store, missing) as (bar, progress):
            while missing:
                before = throughput.shards
                missing.sort(key=lambda shard: (shard.index not in mine, shard.index))
                locked = store.lock_each(missing)
                make_shards(sampler, store, locked, throughput, to_assemble=to_assemble, progress=progress)
                missing = store.missing()
                if missing and throughput.shards == before:
                    bar.set_postfix_str(f"waiting for other processes, {len(missing)} shards left")
                    time.sleep(SECONDS_BETWEEN_CHECKS)
    seconds = time.perf_counter() - started
    return Summary(folder, quotas.cells, throughput.cells, seconds, throughput.waited / max(throughput.seconds, 1e-9))


@contextlib.contextmanager
def _bar(store: Store, missing: list[Shard]) -> Iterator[tuple[tqdm, Callable[[int, ShardRecord | None], None]]]:
    """A progress bar over the cells of the whole plan, and what advances it by each batch."""
    shards, done = len(store.plan), len(store.plan) - len(missing)
    there = store.plan.cells - sum(shard.cells for shard in missing)
    with tqdm(total=store.plan.cells, initial=there, unit="cell", disable=None, desc="sample") as bar:
        bar.set_postfix_str(f"{done} of {shards} shards")

        def progress(cells: int, record: ShardRecord | None) -> None:
            nonlocal done
            if record is not None:
                done += 1
                bar.set_postfix_str(f"{done} of {shards} shards", refresh=False)
            bar.update(cells)

        yield bar, progress


def fill_file(trained: Trained, quotas: Quotas, sampling: SamplingConfig, out: Path) -> Summary:
    """The cells in one .h5ad or .zarr, by way of a hidden folder of shards beside it, so that it can be continued.

    Raises OutputExists if `out` holds anything else.
    """
    folder = out.with_name(f".{out.name}.shards")
    wanted = _request(trained, quotas, sampling, folder).provenance(trained)
    if is_finished(out, wanted):
        remove(folder)
        remove_leftovers(out)
        return Summary(out, quotas.cells, 0, 0.0, 0.0)
    started = time.perf_counter()
    sharing = Sharing(remedy=f"give that request again to finish it, or delete {folder}")
    summary = fill(trained, quotas, sampling, folder, sharing, to_assemble=True)
    with Store(folder) as store, store.locks.held(len(store.plan)):
        if not is_finished(out, wanted):
            assemble(store, out)
            remove(folder)
    return replace(summary, path=out, seconds=time.perf_counter() - started)


def repair(trained: Trained, folder: Path, damaged: list[Shard]) -> list[Shard]:
    """Make the `damaged` shards of a folder again; those whose cells came out other than they were once recorded."""
    with Store(folder) as store:
        request = SampleRequest.from_provenance(store.manifest.provenance)
        wanted, remedy = request.provenance(trained), "give the run that the cells were made from"
        store.manifest.provenance.require_same(wanted, folder, remedy)
        before = {shard: store.record(shard) for shard in damaged}
        for shard in damaged:
            store.discard(shard)
    fill(trained, request.quotas, request.sampling, folder)
    with Store(folder) as store:
        return [s for s, record in before.items() if record and record.content != store.record(s).content]
