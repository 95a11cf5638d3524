"""Looks at the held-out cells while training: their loss, what a judge finds, and whether it still gets better."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse
from tqdm import tqdm

from ..checkpoint import Model, Run
from ..conditioning.table import ConditionTable
from ..config import RunConfig
from ..data.batches import Batch
from ..data.metadata import DatasetMetadata
from ..data.scaling import Scaling
from ..errors import Diverged, MissingExtra
from ..evaluation.plots import curve
from ..io.atomic import atomic_write
from .metric_logger import MetricLogger, read_lines
from .step import make_losses

MOST_CELLS = 2048
KEY = 0x5EED


class ModelScorer(Protocol):
    """Scores of a model as it is now, by name; the same for the same model, and the lower the better.

    `missing` says which extra is not installed, where that keeps it from a score.
    """

    missing: str | None

    def __call__(self, model: Model) -> Mapping[str, float]:
        """The scores."""


class HeldOutLoss:
    """The training loss of held-out cells with the same noise and the same levels each time it is asked for."""

    def __init__(self, network: nn.Module, config: RunConfig, scaling: Scaling, held_out: Batch) -> None:
        """At most MOST_CELLS of `held_out`, cells in CSR; at least one is needed."""
        self._whole = min(held_out.cells.shape[0], MOST_CELLS)
        self._size = min(config.training.batch_size, self._whole)
        self._held_out = held_out
        losses = make_losses(network, config, scaling)

        @jax.jit
        def some(params: Any, batch: Batch, places: jax.Array) -> jax.Array:
            return losses(params, batch, jax.random.key(KEY), places, self._whole)

        self._some = some

    def __call__(self, params: Any) -> float:
        """Mean over the cells."""
        total = 0.0
        for first in range(0, self._whole, self._size):
            # One compiled shape: the last batch wraps round, and what has wrapped is not counted.
            rows = (first + np.arange(self._size)) % self._whole
            batch = jax.tree.map(lambda leaf, rows=rows: _dense(leaf[rows]), self._held_out)
            found = np.asarray(self._some(params, batch, jnp.asarray(rows)))
            total += float(np.sum(found[: self._whole - first], dtype=np.float64))
        return total / self._whole


class HeldOut:
    """The looks of one run: what they find goes into its evaluations, and their picture is drawn anew."""

    def __init__(
        self,
        run: Run,
        network: nn.Module,
        config: RunConfig,
        metadata: DatasetMetadata,
        held_out: Batch,
        judge: ModelScorer | None,
        *,
        conditions: ConditionTable | None = None,
    ) -> None:
        """`held_out` are cells in CSR; without a `judge` only their loss is looked at.

        `conditions` are those of the training cells, whose proportions a scorer needs.
        """
        self._conditions = conditions
        self._run, self._config, self._facts, self._judge = run, config, metadata, judge
        self._loss = HeldOutLoss(network, config, metadata.scaling, held_out)
        self._can_draw = True
        if judge is not None and judge.missing:
            self._say(f"evaluations without PCA-50 MMD: {judge.missing}")

    def rows(self) -> list[dict[str, Any]]:
        """All evaluations so far."""
        return read_lines(self._run.evaluations_path)

    def look(self, params: Any, step: int, epoch: float, logger: MetricLogger) -> dict[str, Any]:
        """Evaluate `params` as they are after `step`, and write it down."""
        row: dict[str, Any] = {"step": step, "epoch": epoch, "held_out_loss": self._loss(params)}
        if self._judge is not None:
            row |= self._judge(Model(self._config, self._facts, params, step, self._conditions))
        if not np.isfinite(score_of(row)):
            raise Diverged(f"the held-out score is {score_of(row):g} at step {step} of {self._run.path}")
        logger.evaluation(row)
        if self._can_draw:
            try:
                picture = curve(self.rows())
            except MissingExtra as error:
                self._can_draw = False
                self._say(f"evaluations without {self._run.curve_path.name}: {error}")
            else:
                with atomic_write(self._run.curve_path) as partial:
                    partial.write_bytes(picture)
        return row

    def _say(self, sentence: str) -> None:
        tqdm.write(sentence, file=sys.stderr)


def _dense(rows: Any) -> np.ndarray:
    return rows.toarray() if sparse.issparse(rows) else rows


def evaluation_due(done: int, batch_size: int, cells: int, every: float | None) -> bool:
    """Whether the step that was just `done` ends an interval of `every` epochs."""
    if every is None:
        return False
    interval = every * cells
    return int(done * batch_size // interval) > int((done - 1) * batch_size // interval)


def score_of(row: Mapping[str, Any]) -> float:
    """The one number by which evaluations are ranked: PCA-50 MMD where there is one, else the held-out loss."""
    return float(row.get("mmd_pca", row["held_out_loss"]))


def has_stalled(rows: Sequence[Mapping[str, Any]], patience: int | None) -> bool:
    """Whether the last `patience` evaluations were all no better than the best before them."""
    if patience is None or len(rows) <= patience:
        return False
    scores = [score_of(row) for row in rows]
    return min(scores[-patience:]) >= min(scores[:-patience])
