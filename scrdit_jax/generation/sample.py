"""From a trained run to synthetic cells, and what the cells carry with them."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from anndata import AnnData
from tqdm import tqdm

from ..checkpoint import Model
from ..conditioning.assignment import Runs
from ..config import SamplingConfig
from ..devices import describe_devices, usable_cores
from ..errors import BadConfig
from ..io.append import COUNTS, CellBlock
from ..io.atomic import remove
from .assemble import assemble
from .engine import Engine, is_guided, jobs_of, make_engine
from .manifest import Manifest, ShardRecord
from .outputs import is_finished
from .pipeline import Throughput, make_shards
from .plan import SHARD_CELLS, Plan, Shard
from .settings import coefficients_for, resolve_sampling
from .store import REMEDY, Store, check_folder, is_store, layout_of

SECONDS_BETWEEN_LOOKS = 0.5


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


def sample(model: Model, cells: int, config: SamplingConfig, labels: Runs = (), *, progress: bool = True) -> AnnData:
    """`cells` synthetic cells as an AnnData: CSR on the log scale, the genes in order, the recipe in `.uns['scrdit']`.

    Cell i depends on the model, the seed, i and its labels alone, not on how many are made or in what batches. Labels
    are categories in obs, counts are a layer.
    """
    _require_cells(cells)
    config = resolve_sampling(model, config)
    engine, blocks = make_engine(model, config, labels), []
    with (
        ThreadPoolExecutor(usable_cores(), thread_name_prefix="packer") as packers,
        tqdm(total=cells, unit="cell", disable=None if progress else True, desc="sample") as bar,
    ):
        for done in engine.run(jobs_of([Shard(0, 0, cells)], engine.batch_size)):
            blocks.append(packers.submit(engine.block, engine.collect(done), done.job.first, done.job.count))
            bar.update(done.job.count)
        blocks = [block.result() for block in blocks]
    block, layout = CellBlock.join(blocks), layout_of(model.metadata, config.output)
    var = pd.DataFrame(index=pd.Index(layout.genes, name="gene"))
    layers = {} if block.counts is None else {COUNTS: block.counts}
    synthetic = AnnData(block.cells, obs=layout.obs(block, 0), var=var, layers=layers)
    synthetic.uns["scrdit"] = provenance(model, cells, config, labels) | {"batch_size": engine.batch_size}
    return synthetic


def begin(
    model: Model,
    cells: int,
    config: SamplingConfig,
    folder: Path,
    labels: Runs = (),
    *,
    shard_cells: int = SHARD_CELLS,
    remedy: str = REMEDY,
) -> Engine | None:
    """Make the manifest of a folder of shards, unless it is there; it fixes the batch size, and with it every bit.

    Returns the engine that the batch size was found with, if one was made.

    Raises OutputExists, with the difference and the `remedy`, if other cells, or other things, are there.
    """
    _require_cells(cells)
    check_folder(folder)
    begun, engine = None, None
    there = is_store(folder)
    config = _settled(model, config, folder)
    if not there:
        engine = make_engine(model, config, labels)
        plan = Plan.make(cells, engine.batch_size, labels=labels, near=shard_cells)
        begun = Manifest(provenance(model, cells, config, labels), plan, dict(describe_devices()))
    with Store(folder, begun) as store:
        # The manifest may be another process's, that began at the same moment.
        wanted = begun.request if begun else provenance(model, cells, config, labels)
        store.manifest.require_same(wanted, folder, remedy)
        return engine if engine is not None and engine.batch_size == store.plan.batch_size else None


def _settled(model: Model, config: SamplingConfig, folder: Path) -> SamplingConfig:
    """`config` settled, as it was if the folder of shards was begun already."""
    begun = None
    if is_store(folder):
        with Store(folder) as store:
            begun = json.loads(store.manifest.request.get("sampling", "{}"))
    return resolve_sampling(model, config, begun)


def engine_for(model: Model, store: Store) -> Engine:
    """The engine of the request that `store` was begun with: in other batches, cells are the same to rounding only."""
    config = SamplingConfig(**json.loads(store.manifest.request["sampling"]))
    return make_engine(model, replace(config, batch_size=store.plan.batch_size), store.plan.labels)


def fill(
    model: Model,
    cells: int,
    config: SamplingConfig,
    folder: Path,
    labels: Runs = (),
    *,
    process: int = 0,
    processes: int = 1,
    shard_cells: int = SHARD_CELLS,
    to_assemble: bool = False,
    remedy: str = REMEDY,
) -> Summary:
    """Make what is missing of `cells` cells in a folder of shards, beside any other process that does the same.

    This process begins with its share and goes on with what nobody is at work on; it returns when all is there.
    What is there already keeps the batch size and the shards it was begun with. With `to_assemble` the shards are on
    their way into one file, and so not compressed yet. Raises OutputExists, with the
    difference and the `remedy`, if that is other cells.
    """
    started = time.perf_counter()
    engine = begin(model, cells, config, folder, labels, shard_cells=shard_cells, remedy=remedy)
    throughput = Throughput()
    with Store(folder) as store:
        mine = {shard.index for shard in store.plan.share(process, processes)}
        missing = store.missing()
        if engine is None and missing:
            engine = engine_for(model, store)
        with _bar(store, missing) as (bar, progress):
            while missing:
                before = throughput.shards
                missing.sort(key=lambda shard: (shard.index not in mine, shard.index))
                make_shards(engine, store, store.claim(missing), throughput, to_assemble=to_assemble, progress=progress)
                missing = store.missing()
                if missing and throughput.shards == before:
                    bar.set_postfix_str(f"waiting for other processes, {len(missing)} shards left")
                    time.sleep(SECONDS_BETWEEN_LOOKS)
    seconds = time.perf_counter() - started
    return Summary(folder, cells, throughput.cells, seconds, throughput.waited / max(throughput.seconds, 1e-9))


@contextlib.contextmanager
def _bar(store: Store, missing: list[Shard]) -> Iterator[tuple[tqdm, Callable[[int, ShardRecord | None], None]]]:
    """A progress bar over the cells of the whole plan, and what tells it of each batch."""
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


def fill_file(model: Model, cells: int, config: SamplingConfig, out: Path, labels: Runs = ()) -> Summary:
    """`cells` cells in one .h5ad or .zarr, by way of a hidden folder of shards beside it, so that it can be continued.

    Raises OutputExists if `out` holds anything else.
    """
    folder = out.with_name(f".{out.name}.shards")
    config = _settled(model, config, folder)
    wanted = provenance(model, cells, config, labels)
    if is_finished(out, wanted):
        if is_store(folder):
            remove(folder)
        return Summary(out, cells, 0, 0.0, 0.0)
    started = time.perf_counter()
    remedy = f"give that request again to finish it, or delete {folder}"
    summary = fill(model, cells, config, folder, labels, to_assemble=True, remedy=remedy)
    with Store(folder) as store, store.locks.holding(len(store.plan)):
        if not is_finished(out, wanted):
            assemble(store, out)
            remove(folder)
    return replace(summary, path=out, seconds=time.perf_counter() - started)


def repair(model: Model, folder: Path, damaged: list[Shard]) -> list[Shard]:
    """Make the `damaged` shards of a folder again; those whose cells came out other than they were once recorded."""
    with Store(folder) as store:
        request = store.manifest.request
        config = SamplingConfig(**json.loads(request["sampling"]))
        labels = store.plan.labels
        wanted = provenance(model, request["cells"], config, labels)
        store.manifest.require_same(wanted, folder, "give the run that the cells were made from")
        before = {shard: store.record(shard) for shard in damaged}
        for shard in damaged:
            store.discard(shard)
    fill(model, request["cells"], config, folder, labels)
    with Store(folder) as store:
        return [s for s, record in before.items() if record and record.content != store.record(s).content]


def _require_cells(cells: int) -> None:
    if cells < 1:
        raise BadConfig(f"{cells} cells were asked for; ask for at least 1")


def provenance(model: Model, cells: int, config: SamplingConfig, labels: Runs = ()) -> dict[str, Any]:
    """What made the cells, as plain values that every file format holds; settings and metadata as JSON strings."""
    from .. import __version__

    config = resolve_sampling(model, config)
    table = coefficients_for(model.config.diffusion, config, model)
    return {
        "version": __version__,
        "cells": cells,
        "solver": config.solver,
        "network_evaluations": len(table.timestep) * (2 if is_guided(model, config) else 1),
        "timesteps": json.dumps(table.timestep.tolist()),
        "seed": config.seed,
        "trained_steps": model.step,
        "trained_on": model.metadata.source,
        "sampling": json.dumps(asdict(config)),
        "config": json.dumps(model.config.to_dict()),
        "facts": json.dumps(model.metadata.to_dict()),
        "model": model.digest,
        "labels": json.dumps(labels),
    }
