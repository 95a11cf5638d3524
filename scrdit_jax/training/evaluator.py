"""Evaluation while training: the loss of held-out cells, scores of sampled ones, and whether they still get better."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

from ..checkpoint import Model, Run
from ..conditioning.table import ConditionTable
from ..config import RunConfig
from ..data.batches import Batch
from ..data.metadata import DatasetMetadata
from ..errors import Diverged, MissingExtra
from ..evaluation.plots import curve
from ..io.atomic import atomic_write
from ..progress import tqdm
from .metric_logger import read_lines
from .step import Losses

MOST_CELLS = 2048
# The half of the held-out cells that evaluations are of; rows of former versions, of all of them, do not say.
VALIDATION = "validation"
KEY = 0x5EED


class ModelScorer(Protocol):
    """Scores of a model as it is now, by name; the same for the same model, and the lower the better.

    `missing` says which extra is not installed, where that keeps it from a score.
    """

    missing: str | None

    def __call__(self, model: Model) -> Mapping[str, float]:
        """The scores."""


class HeldOutLoss:
    """The training loss of held-out cells with the same noise and the same levels at every evaluation."""

    def __init__(self, losses: Losses, held_out: Batch, batch_size: int, *, teacher_params: Any = None) -> None:
        """`losses` are those of `step.make_losses`, for at most MOST_CELLS of `held_out`, cells in CSR; at least one is
        needed."""
        self._whole = min(held_out.cells.shape[0], MOST_CELLS)
        self._size = min(batch_size, self._whole)
        self._held_out, self._teacher_params = held_out, jax.device_put(teacher_params)

        @jax.jit
        def losses_of(params: Any, batch: Batch, positions: jax.Array, teacher_params: Any) -> jax.Array:
            return losses(params, batch, jax.random.key(KEY), positions, self._whole, teacher_params)

        self._losses_of = losses_of

    def __call__(self, params: Any) -> float:
        """Mean over the cells."""
        total = 0.0
        for first in range(0, self._whole, self._size):
            # One compiled shape: the last batch wraps round, and what has wrapped is not counted.
            rows = (first + np.arange(self._size)) % self._whole
            batch = jax.tree.map(lambda leaf, rows=rows: _dense(leaf[rows]), self._held_out)
            losses = np.asarray(self._losses_of(params, batch, jnp.asarray(rows), self._teacher_params))
            total += float(np.sum(losses[: self._whole - first], dtype=np.float64))
        return total / self._whole


class Evaluator:
    """The evaluations of one run, by its validation cells (`splitting.validation_mask`), and their plot."""

    def __init__(
        self,
        run: Run,
        config: RunConfig,
        metadata: DatasetMetadata,
        loss: HeldOutLoss,
        scorer: ModelScorer | None,
        *,
        conditions: ConditionTable | None = None,
    ) -> None:
        """Without a `scorer`, of the held-out loss alone. A scorer samples from a model that is conditioned in the
        proportions of the training cells, whose `conditions` are given."""
        self._run, self._config, self._metadata = run, config, metadata
        self._loss, self._scorer, self._conditions = loss, scorer, conditions
        self._can_plot = True
        if scorer is not None and scorer.missing:
            _print(f"evaluations without PCA-50 MMD: {scorer.missing}")

    def history(self) -> list[dict[str, Any]]:
        """All evaluations so far."""
        return read_lines(self._run.evaluations_path)

    def evaluate(self, params: Any, step: int, epoch: float) -> dict[str, Any]:
        """Loss and scores of `params` as they are after `step`."""
        row: dict[str, Any] = {"step": step, "epoch": epoch, "on": VALIDATION, "held_out_loss": self._loss(params)}
        if self._scorer is not None:
            row |= self._scorer(Model(self._config, self._metadata, params, step, self._conditions))
        if not np.isfinite(score_of(row)):
            raise Diverged(f"the held-out score is {score_of(row):g} at step {step} of {self._run.path}")
        return row

    def plot(self) -> None:
        """Plot the history anew, where a library for that is installed."""
        if not self._can_plot:
            return
        try:
            picture = curve(self.history())
        except MissingExtra as error:
            self._can_plot = False
            _print(f"evaluations without {self._run.curve_path.name}: {error}")
            return
        with atomic_write(self._run.curve_path) as partial:
            partial.write_bytes(picture)


def _print(sentence: str) -> None:
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
