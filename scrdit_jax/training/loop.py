"""The loop around the training step: batches in, metrics and checkpoints out; the same call again continues."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pandas as pd
from anndata import AnnData
from tqdm import tqdm

from ..checkpoint import Checkpoints, Run
from ..config import RunConfig
from ..data.batches import Batches
from ..data.conditions import label_codes
from ..data.marginals import gene_marginals
from ..data.preparing import Facts, Prepared
from ..data.writing import write_cells
from ..devices import usable_devices
from ..diffusion.predictions import make_prediction
from ..errors import Diverged, OutputExists, RunMismatch, writing
from ..files import replacing
from ..networks.kinds import make_network
from .state import TrainState, initial_state
from .step import Metrics, ParallelStep, parallelise


def train(prepared: Prepared, config: RunConfig, out: Path | str, *, stop_after: int | None = None) -> Run:
    """Train into the run folder `out` until `config.training.steps`, continuing from its newest checkpoint.

    Interrupted at any moment and started again, the run ends with the parameters it would have had. `stop_after` ends
    this call at that step. Raises RunMismatch if `out` holds a run of other settings or data, OutputExists if it holds
    something else, Diverged when the loss is no longer finite.
    """
    run = Run(Path(out))
    _claim(run, prepared, config)
    training, genes = prepared.train, len(prepared.facts.genes)
    prediction = make_prediction(config.diffusion.prediction, prepared.facts.scaling)
    network = make_network(config.network, genes, prediction.outputs, labels=prepared.facts.label_sizes)
    about_cells = _about_cells(training, prepared.facts)
    labels = about_cells["labels"] if prepared.facts.conditions else None
    batches = Batches(training.X, config.training.batch_size, config.training.seed, labels)
    devices = usable_devices(config.training.batch_size, collectives=True)
    step = parallelise(network, config, prepared.facts.scaling, devices)
    with Checkpoints(run) as checkpoints:
        state = initial_state(network, genes, config.training, gene_bias=gene_marginals(training.X))
        if checkpoints.latest() is not None:
            if checkpoints.facts().digest != prepared.facts.digest:
                raise RunMismatch(f"{out} was trained on other cells; give the same data, or another --out")
            state = checkpoints.restore(state)
        last = min(config.training.steps, stop_after or config.training.steps)
        for reached in _advance(state, step, batches, last, config, run):
            checkpoints.save(reached, config, prepared.facts, about_cells)
    return run


def _claim(run: Run, prepared: Prepared, config: RunConfig) -> None:
    """Make the folder ours, or check that it is: same settings; held-out cells written once."""
    if run.path.exists() and not run.path.is_dir():
        raise OutputExists(f"{run.path} is a file; give a folder for the run as --out")
    if run.config_path.is_file():
        differences = config.differences(run.config())
        if differences:
            raise RunMismatch(f"{run.path} holds a run of other settings ({differences[0]}); give another --out")
    elif run.path.is_dir() and any(run.path.iterdir()):
        raise OutputExists(f"{run.path} holds something that is no run; give an empty or new folder as --out")
    else:
        run.write_config(config)
    if not run.held_out_path.exists():
        write_cells(prepared.held_out.copy(), run.held_out_path)


def _about_cells(training: AnnData, facts: Facts) -> dict[str, np.ndarray]:
    """Of every training cell its library size (float32), its cell-type code (int32, -1 without types; order of
    facts.cell_types) and its labels (cell, column) int32, which are one column of -1 without conditions."""
    codes = np.full(training.n_obs, -1, np.int32)
    if facts.cell_type_key is not None:
        codes = pd.Categorical(training.obs[facts.cell_type_key], categories=list(facts.cell_types)).codes.astype(
            np.int32
        )
    # Orbax keeps no empty arrays.
    labels = label_codes(training.obs, facts.conditions) if facts.conditions else np.full((len(codes), 1), -1, np.int32)
    library = training.obs["library_size"].to_numpy(np.float32)
    return {"library_size": library, "cell_type_code": codes, "labels": labels}


def _advance(
    state: TrainState, step: ParallelStep, batches: Batches, last: int, config: RunConfig, run: Run
) -> Iterator[TrainState]:
    """Step until `last`, yielding the state whenever it is to be saved."""
    settings = config.training
    first = int(state.step)
    if first >= last:
        return
    state = step.place(state)
    log = _Log(run, first, settings.batch_size)
    with closing(log), tqdm(total=last, initial=first, unit="step", disable=None, desc="train") as bar:
        for number in range(first, last):
            state, metrics = step.run(state, batches.at(number))
            log.collect(metrics)
            bar.update()
            done = number + 1
            if done % settings.log_every == 0 or done == last:
                bar.set_postfix_str(log.write(done))
            if done % settings.checkpoint_every == 0 or done == last:
                log.flush()
                yield step.fetch(state)


class _Line(NamedTuple):
    step: int
    losses: list[Metrics]
    seconds: float


class _Log:
    """Metrics to a JSONL file, one log interval late so that reading them never stalls the device."""

    def __init__(self, run: Run, step: int, batch_size: int) -> None:
        self.run, self.batch_size = run, batch_size
        self.pending: list[Metrics] = []
        self.due: _Line | None = None
        self.step, self.since = step, time.perf_counter()
        self.text = ""
        _forget_after(run.metrics_path, step)
        with writing(run.metrics_path):
            self.file = run.metrics_path.open("a")

    def collect(self, metrics: Metrics) -> None:
        self.pending.append(metrics)

    def write(self, step: int) -> str:
        """Close the interval that ends at `step`; write the one before; what the progress bar shows."""
        self.flush()
        now = time.perf_counter()
        self.due = _Line(step, self.pending, now - self.since)
        self.pending, self.since = [], now
        return self.text

    def flush(self) -> None:
        """Write what is due; Diverged if it is not finite, before anything of it is saved."""
        if self.due is None:
            return
        step, metrics, seconds = self.due
        self.due = None
        fetched = jax.device_get(metrics)
        loss = float(np.mean([np.ravel(m.loss)[0] for m in fetched]))
        norm = float(np.mean([np.ravel(m.gradient_norm)[0] for m in fetched]))
        if not np.isfinite(loss):
            raise Diverged(
                f"the loss is {loss} at step {step} of {self.run.path}; "
                "lower --learning-rate and train into another folder; checkpoints from before are kept"
            )
        speed = len(metrics) * self.batch_size / seconds
        line = {"step": step, "loss": loss, "gradient_norm": norm, "cells_per_second": speed}
        with writing(self.run.metrics_path):
            self.file.write(json.dumps(line) + "\n")
            self.file.flush()
        self.text = f"loss {loss:.4f}, {speed:,.0f} cells/s"

    def close(self) -> None:
        self.file.close()


def _forget_after(path: Path, step: int) -> None:
    """Drop lines of steps that are to be made again, and a line cut short by a crash."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError):
            continue
    with replacing(path) as partial:
        partial.write_text("".join(kept))
