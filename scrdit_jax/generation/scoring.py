"""Scores of a model in training: a few of its cells against held-out ones, as the paper's fig. 3b has them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from anndata import AnnData

from ..checkpoint import Model
from ..conditioning.request import CellRequest, resolve
from ..config import SamplingConfig
from ..errors import MissingExtra
from ..evaluation import metrics
from ..evaluation.comparison import compare, halves
from .request import SampleRequest
from .sample import sample

MOST_CELLS = 500
FEWEST_CELLS = 10
SEED = 0


class ModelScorer:
    """Block MMD (the paper's) and PCA-50 MMD of cells that a model makes now; the same for the same model.

    The held-out cells are split in halves, of MOST_CELLS at most: one is compared with as many synthetic cells, and,
    for the floor, with the other. Without the extra `evaluate` there is no PCA-50 MMD, which `missing` then says.
    """

    def __init__(self, held_out: AnnData) -> None:
        """`held_out` cells are on the model's scale, with its genes."""
        self._size = min(held_out.n_obs // 2, MOST_CELLS)
        order = np.sort(np.random.default_rng(SEED).permutation(held_out.n_obs)[: 2 * self._size])
        self._reference, self._other = halves(metrics.dense(held_out.X[order]), SEED + 1)
        self.missing: str | None = None
        self._floors = self._scores(self._other) if self._size >= FEWEST_CELLS else {}

    def __call__(self, model: Model) -> Mapping[str, float]:
        """`mmd_blocks` and `mmd_pca`, each with its `_floor`; nothing where too few cells are held out."""
        if not self._floors:
            return {}
        quotas = resolve(CellRequest(cells=self._size), model.conditions)
        request = SampleRequest.of(model, quotas, SamplingConfig(batch_size=self._size))
        scores = self._scores(metrics.dense(sample(model, request, progress=False).X))
        return {
            name: value for key in scores for name, value in ((key, scores[key]), (f"{key}_floor", self._floors[key]))
        }

    def _scores(self, cells: np.ndarray) -> dict[str, float]:
        scores = compare(self._reference, cells, seed=SEED, names=("mmd_blocks",))
        try:
            scores |= compare(self._reference, cells, seed=SEED, names=("mmd_pca",))
        except MissingExtra as error:
            self.missing = str(error)
        return scores
