"""One row a sampler: how long compiling took, how fast it runs, how near to the device's limit, and how good its cells
are. Every row is written as soon as it is finished; the same benchmark started again goes on with what is missing."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol

import jax
import numpy as np

from ..checkpoint import Model
from ..conditioning.request import CellRequest, resolve
from ..config import SAMPLING_DTYPES, SamplingConfig
from ..config.checks import BATCH, SEVERAL, Choice, check_fields
from ..devices import describe_devices, peak_memory, usable_cores
from ..errors import Diverged
from ..evaluation.comparison import (
    MINIMUM_CELLS,
    REAL,
    SHUFFLED,
    Estimate,
    compare,
    floor_and_control,
    halves,
)
from ..extras import versions
from ..generation.engine import make_engine
from ..generation.fitting import fit
from ..generation.outputs import write_timesteps
from ..generation.program import network_of
from ..generation.tuning import choose_batch_size, model_sweep
from ..networks import flops_per_evaluation
from ..progress import tqdm
from .cases import Case
from .store import ResultStore
from .timing import Timing, matrix_product_rate, seconds_of

LIBRARIES = ("scrdit_jax", "jax", "jaxlib", "flax", "numpy", "scikit-learn")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured, beside the cases. `repeats` is the least number of timed batches a row."""

    dtype: Annotated[str | None, Choice(SAMPLING_DTYPES)] = None
    batch_size: Annotated[int | None, BATCH] = None
    seeds: Annotated[int, SEVERAL] = 3
    repeats: Annotated[int, SEVERAL] = 5

    def __post_init__(self) -> None:
        check_fields(self)


class Sampler(Protocol):
    """What is timed: the part of an Engine that makes batches."""

    batch_size: int

    def dispatch(self, first: int, donated: Any = None) -> Any:
        """Begin the batch that starts with cell `first`."""

    def fetch(self, batch: Any, first: int, count: int) -> np.ndarray:
        """Its first `count` cells, on the host; Diverged if they are not finite."""


def time_batches(
    sampler: Sampler, batches: int, *, clock: Callable[[], float] = time.perf_counter
) -> tuple[Timing, list[Any]]:
    """(seconds of every batch but the first, which warms up; all batches as they came). Each is waited for."""
    measured = [seconds_of(lambda k=k: sampler.dispatch(k * sampler.batch_size), clock=clock) for k in range(batches)]
    return Timing(tuple(seconds for seconds, _ in measured[1:])), [batch for _, batch in measured]


def rates(timing: Timing, batch_size: int, evaluations: int, flops: int, matrix_rate: float) -> dict[str, Any]:
    """Throughput of a batch's median time, with the quartiles of cells a second, against the matrix product's rate."""
    cells, (low, high) = batch_size / timing.median, (batch_size / s for s in reversed(timing.quartiles))
    return {
        "cells_per_second": {"median": cells, "low": low, "high": high},
        "cell_evaluations_per_second": cells * evaluations,
        "flops_per_second": cells * evaluations * flops,
        "matrix_product_flops_per_second": matrix_rate,
        "share_of_matrix_product": cells * evaluations * flops / matrix_rate,
    }


def split_real(real: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two halves of the held-out cells (cell, gene): what a seed's synthetic cells are compared with, and the floor."""
    return halves(real, [seed, 1])


def floors(real: np.ndarray, seeds: int) -> dict[str, Any]:
    """Scores of the other half of the held-out cells, and of those with each gene shuffled, for the same splits."""
    scored = [
        floor_and_control(*split_real(real, seed), seed=seed, rng=np.random.default_rng([seed, 2]))
        for seed in range(seeds)
    ]
    return {name: summarise([scores[name] for scores in scored]) for name in (REAL, SHUFFLED)}


def summarise(scores: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Mean, deviation (n - 1) and the values themselves of every metric over the seeds; None for what is not finite."""

    def figures(values: list[float]) -> dict[str, Any]:
        if not np.isfinite(values).all():
            return {"mean": None, "sd": None, "values": [None] * len(values)}
        return {**asdict(Estimate.of(values)), "values": values}

    return {name: figures([float(score[name]) for score in scores]) for name in scores[0]}


def benchmark(
    model: Model, cases: Sequence[Case], settings: Settings, *, real: np.ndarray | None, results: ResultStore
) -> None:
    """Measure what `results` lacks of `cases`, row by row. `real` are held-out cells (cell, gene), None without any.

    Without real cells nothing is scored, and a batch whose values are not finite is timed all the same: the weights
    are random then, and their cells mean nothing.
    """
    flops = flops_per_evaluation(network_of(model)[0])
    if real is not None and len(real) // 2 < MINIMUM_CELLS:
        real = None
    missing = [case for case in cases if case.name not in results]
    with tqdm(total=len(cases), initial=len(cases) - len(missing), unit="row", disable=None, desc="benchmark") as bar:
        if missing:
            results.shared("matrix", lambda: matrix_product_rate(settings.dtype, jax.local_devices()))
            results.shared("batch_sweep", lambda: model_sweep(model, settings.dtype, fresh=True))
            if real is not None:
                results.shared("floors", lambda: floors(real, settings.seeds))
        rate = results.found("matrix") or 0.0
        for case in missing:
            bar.set_postfix_str(case.name)
            batch = settings.batch_size or choose_batch_size(results.found("batch_sweep"))
            # The limit is the best that was ever seen: a product, too, may be disturbed.
            rate = max(rate, matrix_product_rate(settings.dtype, jax.local_devices()))
            about = {"batch_size": batch, "flops": flops, "matrix_rate": rate}
            results.measured(case.name, lambda c=case, a=about: measure(model, c, settings, real=real, **a))
            bar.update()
    results.arrange([case.name for case in cases])


def measure(
    model: Model,
    case: Case,
    settings: Settings,
    *,
    real: np.ndarray | None,
    batch_size: int,
    flops: int,
    matrix_rate: float,
) -> dict[str, Any]:
    """The row of one case: its cells are timed as they are generated, then scored."""
    cells = 0 if real is None else len(real) // 2
    seconds: list[float] = []
    scores, note = [], None
    with tempfile.TemporaryDirectory() as folder:
        schedule = _fit_schedule(model, case, Path(folder)) if case.fitted else None
        for seed in range(settings.seeds):
            request = case.sampling(seed=seed, dtype=settings.dtype, batch_size=batch_size, schedule=schedule)
            engine, timing, batches = _time_case(model, request, settings, cells)
            seconds += timing.seconds
            try:
                if real is not None:
                    generated = np.concatenate(list(_fetch(engine, batches, cells)))
                    scores.append(compare(split_real(real, seed)[0], generated, seed=seed))
            except Diverged as error:
                note = str(error)
    return {
        **case.to_dict(),
        "schedule": "fitted" if case.fitted else "solver's own",
        **_timed(engine, Timing(tuple(seconds)), flops, matrix_rate),
        "timesteps": engine.coefficients.timestep.tolist() if case.steps <= 100 else None,
        "quality": summarise(scores) if scores else None,
        "note": note,
    }


def _fit_schedule(model: Model, case: Case, folder: Path) -> str:
    """A file of timesteps fitted to the model; solvers that do not draw need no held-out cells for it."""
    path = folder / "taus.json"
    timesteps = fit(model, case.solver, case.steps, held_out=folder / "held_out.h5ad")
    write_timesteps(timesteps, path, solver=case.solver, model=model.digest)
    return str(path)


def _time_case(model: Model, request: SamplingConfig, settings: Settings, cells: int) -> tuple[Any, Timing, list[Any]]:
    """(engine, its batches' times, the batches): enough for `cells` cells and for the repeats asked for."""
    engine = make_engine(model, request, resolve(CellRequest(cells=max(cells, 1)), model.conditions))
    # The first batch of all warms up; the repeats are spread over the seeds.
    count = max(-(-cells // engine.batch_size), -(-settings.repeats // settings.seeds) + 1)
    return engine, *time_batches(engine, count)


def _timed(engine: Any, timing: Timing, flops: int, matrix_rate: float) -> dict[str, Any]:
    peak, whose = peak_memory()
    return {
        "batch_size": engine.batch_size,
        "attention": engine.network.attention,
        "compile_seconds": engine.program.compile_seconds,
        "batch_seconds": {"median": timing.median, "values": list(timing.seconds)},
        **rates(timing, engine.batch_size, engine.evaluations, flops, matrix_rate),
        "flops_per_cell_evaluation": flops,
        "program_bytes": engine.program.bytes_needed,
        "peak_memory": {"bytes": peak, "of": whose},
    }


def _fetch(engine: Any, batches: Sequence[Any], cells: int) -> Iterator[np.ndarray]:
    for k in range(-(-cells // engine.batch_size)):
        first = k * engine.batch_size
        yield engine.fetch(batches[k], first, min(engine.batch_size, cells - first))


def conditions(model: Model, settings: Settings, *, weights: str, cells: int) -> dict[str, Any]:
    """What rows must have in common to stand in one table: device, versions, network, weights, settings."""
    return {
        "device": describe_devices() | {"cores": usable_cores()},
        "versions": versions(LIBRARIES),
        "network": asdict(model.config.network),
        "diffusion": asdict(model.config.diffusion),
        "parameters": int(sum(leaf.size for leaf in jax.tree.leaves(model.params))),
        "genes": len(model.metadata.genes),
        "weights": weights,
        "model_digest": model.digest,
        "held_out_cells": cells,
        "settings": json.loads(json.dumps(asdict(settings))),
    }
