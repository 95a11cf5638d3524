"""scVI's cells from its prior: a standard normal latent position, and the library size of a random training cell."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.peers import Made, Peer
from benchmarks.peers._scvi import EXTRA, fitted
from scrdit_jax.extras import optional

if TYPE_CHECKING:
    from benchmarks.fidelity.cell_sets import CellSet


def make(cells: CellSet, count: int, seed: int) -> Made:
    """Cells without types."""
    model, rng = fitted(cells, seed), np.random.default_rng([seed, 5])
    torch = optional("torch", extra=EXTRA)
    rows = rng.integers(len(cells.training), size=count)
    torch.manual_seed(seed)
    started = time.perf_counter()
    module = model.scvi.module
    with torch.no_grad():
        device = next(module.parameters()).device
        latent = torch.randn(count, module.n_latent, device=device)
        library = torch.log(torch.tensor(model.gene_sums[rows], dtype=torch.float32, device=device))[:, None]
        batch = torch.zeros(count, 1, dtype=torch.long, device=device)
        drawn = module.generative(z=latent, library=library, batch_index=batch)["px"].sample().cpu().numpy()
    values = model.to_log_scale(drawn, rows, cells)
    return Made(values, None, model.seconds, count / (time.perf_counter() - started))


PEER = Peer(make=make, requires=("scvi", EXTRA))
