"""Shards as Ray tasks: workers and nodes may come and go, and what they have finished stays."""

from __future__ import annotations

import time
from collections import Counter, deque
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..conditioning.request import Quotas
from ..config import SamplingConfig
from ..devices import use_every_core
from ..errors import MissingExtra, ScrditError
from ..families import load
from ..progress import tqdm
from .composition import CellSampler
from .fill import Sharing, Summary, begin, sampler_for
from .pipeline import Throughput, make_shards
from .store import Store

# Shards that wait at a worker so that none is idle; more would only be lost with it.
TASKS_A_WORKER = 2
# Ray starts a task anew when its worker or node is lost; this is how often a shard may fail after that.
MOST_FAILURES = 5
SECONDS_BETWEEN_CHECKS = 0.5


def fill_with_ray(
    run: Path,
    quotas: Quotas,
    sampling: SamplingConfig,
    folder: Path,
    *,
    address: str,
    shard_cells: int,
) -> Summary:
    """Fill a folder of shards, which every node sees under this path, on the Ray cluster at `address`.

    Each shard is a task with a GPU of its own where the cluster has any, else with a core. Never more than two tasks a
    GPU or core are in flight; a task whose worker is lost is started anew, and the driver may be killed and started
    again at any time. "local" starts Ray on this machine.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise MissingExtra("ray is not installed; run: pip install 'scrdit_jax[ray]'") from error
    started = time.perf_counter()
    run, folder = run.resolve(), folder.resolve()
    ray.init(None if address == "local" else address, log_to_driver=False, logging_level="error")
    try:
        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0))
        workers = max(1, gpus or int(resources.get("CPU", 1)))
        options: dict[str, Any] = {"num_gpus": 1 if gpus else 0, "num_cpus": 1, "max_retries": MOST_FAILURES}
        # Where a worker is, not here: the batch size is that of its device.
        _get(ray, ray.remote(_begin).options(**options).remote(str(run), quotas, sampling, str(folder), shard_cells))
        task = ray.remote(_make).options(**options)
        made = _make_all(ray, task, (str(run), str(folder)), folder, TASKS_A_WORKER * workers)
    finally:
        ray.shutdown()
    return Summary(folder, quotas.cells, made, time.perf_counter() - started, None)


def _make_all(ray: Any, task: Any, where: tuple[str, str], folder: Path, most: int) -> int:
    """Keep `most` shards in flight until none is missing; how many cells were made."""
    made, failures = 0, Counter()
    with Store(folder) as store:
        missing = store.missing()
        there = store.plan.cells - sum(shard.cells for shard in missing)
        with tqdm(total=store.plan.cells, initial=there, unit="cell", disable=None, desc="sample") as bar:
            waiting, flying = deque(missing), {}
            while waiting or flying:
                while waiting and len(flying) < most:
                    shard = waiting.popleft()
                    flying[task.remote(*where, shard.index)] = shard
                done, _ = ray.wait(list(flying))
                shard = flying.pop(done[0])
                try:
                    cells = _get(ray, done[0])
                except ray.exceptions.RayError:
                    failures[shard.index] += 1
                    if failures[shard.index] > MOST_FAILURES:
                        raise
                    cells = 0
                if store.record(shard) is None:
                    # Its worker was lost, or another process is at work on it: in turn again, after the others.
                    waiting.append(shard)
                    time.sleep(SECONDS_BETWEEN_CHECKS)
                    continue
                made += cells
                bar.update(shard.cells)
    return made


def _get(ray: Any, reference: Any) -> Any:
    """A task's result; what a user got wrong comes out as it would without Ray."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ScrditError):
            raise error.cause from None
        raise


@lru_cache(maxsize=1)
def _ready(run: str, folder: str) -> CellSampler:
    """The sampler of a folder of shards, compiled once a worker."""
    with Store(Path(folder)) as store:
        return sampler_for(load(run), store)


def _begin(run: str, quotas: Quotas, sampling: SamplingConfig, folder: str, shard_cells: int) -> None:
    use_every_core()
    begin(load(run), quotas, sampling, Path(folder), Sharing(shard_cells=shard_cells))


def _make(run: str, folder: str, index: int) -> int:
    """Make one shard in a worker; how many cells that were, none if another process has it."""
    use_every_core()
    sampler, throughput = _ready(run, folder), Throughput()
    with Store(Path(folder)) as store:
        make_shards(sampler, store, store.lock_each([store.plan.shard(index)]), throughput)
    return throughput.cells
