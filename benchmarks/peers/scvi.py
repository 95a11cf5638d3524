"""scVI's posterior predictive cells, each from the latent position of a training cell."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.peers import Made, Peer
from benchmarks.peers._scvi import EXTRA, fitted

if TYPE_CHECKING:
    from benchmarks.fidelity.cell_sets import CellSet


def make(cells: CellSet, count: int, seed: int) -> Made:
    """As many cells of each training cell as evenly as may be, in random order, with the training cell's type."""
    model, rng = fitted(cells, seed), np.random.default_rng([seed, 4])
    rows = rng.permutation(np.resize(rng.permutation(len(cells.training)), count))
    started = time.perf_counter()
    drawn = model.scvi.posterior_predictive_sample(indices=rows, n_samples=1)
    values = model.to_log_scale(drawn.todense(), rows, cells)
    types = None if cells.training_types is None else cells.training_types[rows]
    return Made(values, types, model.seconds, count / (time.perf_counter() - started))


PEER = Peer(make=make, requires=("scvi", EXTRA))
