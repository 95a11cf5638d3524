"""The metric logger: JSON lines of steps and evaluations, TensorBoard events, and the divergence monitor."""

from __future__ import annotations

import json
import statistics
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ..checkpoint import Run
from ..errors import Diverged, writing
from ..extras import optional
from ..io.atomic import atomic_write
from .parallel import first_of
from .step import Metrics

# The loss has diverged when it was SPIKE times the median of the last stable intervals, REPEATS times in a row.
SPIKE = 10.0
REPEATS = 3
STABLE_INTERVALS = 20
FEWEST_STABLE = 5


class DivergenceMonitor:
    """Distinguishes divergence from a bad batch, by the mean losses of the log's intervals."""

    def __init__(self, losses: list[float], *, least: float = 0.0) -> None:
        """`losses` are those of the intervals before, where a run is continued. The usual loss counts as `least` or
        more: that of a likelihood may be near 0, or below."""
        self._least = least
        self._stable: deque[float] = deque(maxlen=STABLE_INTERVALS)
        self.suspicious = 0
        for loss in losses:
            self.check(loss)

    def check(self, loss: float) -> bool:
        """Take in an interval's mean loss; whether the loss has diverged with it."""
        if not np.isfinite(loss):
            return True
        usual = statistics.median(self._stable) if self._stable else 0.0
        rise = (SPIKE - 1) * max(abs(usual), self._least)
        if len(self._stable) >= FEWEST_STABLE and loss > usual + rise:
            self.suspicious += 1
        else:
            self.suspicious = 0
            self._stable.append(loss)
        return self.suspicious >= REPEATS


class Rates(NamedTuple):
    """What speed is reckoned with: cells a step, operations a cell of training, and the device's matrix rate."""

    cells_a_step: int
    flops_a_cell: float
    matrix_rate: float | None


class _Interval(NamedTuple):
    step: int
    metrics: list[Metrics]
    seconds: float


class MetricLogger:
    """Metrics to a JSONL file, one log interval late so that reading them never stalls the device.

    Lines of steps that are to be made again are dropped when it is opened. `writes` is false in the processes that
    help another to train: they monitor the loss and write nothing.
    """

    def __init__(
        self, run: Run, step: int, rates: Rates, *, tensorboard: bool, writes: bool, least_loss: float = 0.0
    ) -> None:
        """Open or continue the logger of `run` after `step`; MissingExtra where TensorBoard is not there.

        `least_loss`: see DivergenceMonitor.
        """
        self.run, self.rates = run, rates
        self._pending: list[Metrics] = []
        self._due: _Interval | None = None
        self._since = time.perf_counter()
        self.text = ""
        self._file = self._events = None
        self.monitor = DivergenceMonitor([], least=least_loss)
        if writes:
            if tensorboard:
                writer = optional("tensorboardX", extra="tensorboard").SummaryWriter
                self._events = writer(str(run.events_path), purge_step=step + 1)
            kept = forget_after(run.metrics_path, step)
            forget_after(run.evaluations_path, step)
            self.monitor = DivergenceMonitor([line["loss"] for line in kept if "loss" in line], least=least_loss)
            with writing(run.metrics_path):
                self._file = run.metrics_path.open("a")

    def collect(self, metrics: Metrics) -> None:
        """Take in the metrics of one step, which may still be being computed."""
        self._pending.append(metrics)

    def close_interval(self, step: int) -> str:
        """End the interval at `step`; write the one before; what the progress bar shows."""
        self.flush()
        now = time.perf_counter()
        self._due = _Interval(step, self._pending, now - self._since)
        self._pending, self._since = [], now
        return self.text

    @contextmanager
    def pause(self) -> Iterator[None]:
        """A block whose time is not counted as training's; the steps that are still being computed are."""
        jax.block_until_ready(self._pending)
        began = time.perf_counter()
        try:
            yield
        finally:
            self._since += time.perf_counter() - began

    def flush(self) -> None:
        """Write what is due; Diverged if it is not finite, or for too long far above what it was."""
        if self._due is None:
            return
        (step, metrics, seconds), self._due = self._due, None
        loss, norm = _means(metrics)
        self._require_finite(step, loss, norm)
        if loss is not None and self.monitor.check(loss):
            raise self._diverged(step, loss)
        speed = len(metrics) * self.rates.cells_a_step / seconds
        shown = {"gradient_norm": norm} if loss is None else {"loss": loss, "gradient_norm": norm}
        line = {"step": step, **shown, "cells_per_second": speed}
        if self.rates.matrix_rate:
            line["share_of_matrix_rate"] = speed * self.rates.flops_a_cell / self.rates.matrix_rate
        self.text = (f"loss {loss:.4f}" if loss is not None else f"gradient {norm:.3g}") + f", {speed:,.0f} cells/s"
        if "share_of_matrix_rate" in line:
            self.text += f", {line['share_of_matrix_rate']:.0%} of matrix rate"
        self._write(self.run.metrics_path, self._file, line)

    def require_sound(self, step: int) -> bool:
        """Before a save: Diverged where a loss so far is not finite; whether it is stable, too."""
        self.flush()
        if self._pending:
            self._require_finite(step, *_means(self._pending))
        return self.monitor.suspicious == 0

    def _require_finite(self, step: int, loss: float | None, norm: float) -> None:
        if not (np.isfinite(norm) and (loss is None or np.isfinite(loss))):
            raise self._diverged(step, norm if loss is None else loss)

    def evaluation(self, row: Mapping[str, Any]) -> None:
        """Write one evaluation."""
        if self._file is None:
            return
        with writing(self.run.evaluations_path), self.run.evaluations_path.open("a") as file:
            self._write(self.run.evaluations_path, file, row)

    def _write(self, path: Path, file: Any, line: Mapping[str, Any]) -> None:
        if file is not None:
            with writing(path):
                file.write(json.dumps(line) + "\n")
                file.flush()
        if self._events is not None:
            for name, value in line.items():
                if name not in ("step", "epoch"):
                    self._events.add_scalar(name, value, line["step"])

    def _diverged(self, step: int, loss: float) -> Diverged:
        what = "is not finite" if not np.isfinite(loss) else f"stays over {SPIKE:g} times what it was"
        return Diverged(f"the loss is {loss:.4g} at step {step} of {self.run.path}: it {what}")

    def close(self) -> None:
        """Close the files."""
        for file in (self._file, self._events):
            if file is not None:
                file.close()


def _means(metrics: list[Metrics]) -> tuple[float | None, float]:
    """The means of the losses, None where there are none, and of the gradient's norms."""
    fetched = jax.device_get([jax.tree.map(first_of, m) for m in metrics])
    losses = [m.loss for m in fetched if m.loss is not None]
    return float(np.mean(losses)) if losses else None, float(np.mean([m.gradient_norm for m in fetched]))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON lines of a file that have a step, none where it is not there; a line cut short is passed over."""
    lines = []
    for text in path.read_text("utf-8", errors="replace").splitlines() if path.is_file() else ():
        try:
            line = json.loads(text)
            line["step"] + 0
        except (ValueError, KeyError, TypeError):
            continue
        lines.append(line)
    return lines


def forget_after(path: Path, step: int) -> list[dict[str, Any]]:
    """Drop lines of steps that are to be made again, and a line cut short by a crash; the lines that stay."""
    kept = [line for line in read_lines(path) if line["step"] <= step]
    if path.is_file():
        with atomic_write(path) as partial:
            partial.write_text("".join(json.dumps(line) + "\n" for line in kept))
    return kept
