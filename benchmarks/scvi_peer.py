"""scVI (Lopez et al. 2018) as a generator, through scvi-tools with its own defaults. Needs the extra `fidelity`.

Where cells came as counts it is given those; else their log values, with its normal likelihood, and what it draws below
zero is zero.
"""

from __future__ import annotations

import logging
import time
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from anndata import AnnData
from scipy import sparse

from benchmarks.cell_sets import CellSet, Skipped
from benchmarks.generators import Generator, Made
from scrdit_jax.errors import MissingExtra
from scrdit_jax.extras import optional

POSTERIOR, PRIOR = "scvi", "scvi-prior"


@dataclass(frozen=True)
class Fitted:
    """A trained model; each training cell's sum over the chosen genes, as the model sees it, and its library size, None
    for a model of log values."""

    model: Any
    gene_sums: np.ndarray
    library_sizes: np.ndarray | None
    seconds: float

    def to_log_scale(self, drawn: np.ndarray, rows: np.ndarray, cells: CellSet) -> np.ndarray:
        """What was drawn for these training cells, (cell, gene) float32 on their scale."""
        if self.library_sizes is None:
            return np.maximum(np.asarray(drawn, np.float32), 0)
        return to_log_scale(drawn, self.library_sizes[rows], target_of(cells))


def generators(epochs: int | None = None) -> list[Generator]:
    """Posterior predictive cells, each from a training cell's own latent place, and cells from the prior."""

    @lru_cache(maxsize=1)
    def fitted(cells: CellSet, seed: int) -> Fitted:
        return fit(cells, seed, epochs)

    def posterior(cells: CellSet, count: int, seed: int) -> Made:
        fit_, rng = fitted(cells, seed), np.random.default_rng([seed, 4])
        rows = rng.permutation(np.resize(rng.permutation(len(cells.training)), count))
        started = time.perf_counter()
        drawn = fit_.model.posterior_predictive_sample(indices=rows, n_samples=1)
        values = fit_.to_log_scale(drawn.todense(), rows, cells)
        types = None if cells.training_types is None else cells.training_types[rows]
        return Made(values, types, fit_.seconds, count / (time.perf_counter() - started))

    def prior(cells: CellSet, count: int, seed: int) -> Made:
        fit_, rng = fitted(cells, seed), np.random.default_rng([seed, 5])
        torch = optional("torch", extra="fidelity")
        rows = rng.integers(len(cells.training), size=count)
        torch.manual_seed(seed)
        started = time.perf_counter()
        module = fit_.model.module
        with torch.no_grad():
            device = next(module.parameters()).device
            latent = torch.randn(count, module.n_latent, device=device)
            library = torch.log(torch.tensor(fit_.gene_sums[rows], dtype=torch.float32, device=device))[:, None]
            batch = torch.zeros(count, 1, dtype=torch.long, device=device)
            drawn = module.generative(z=latent, library=library, batch_index=batch)["px"].sample().cpu().numpy()
        values = fit_.to_log_scale(drawn, rows, cells)
        return Made(values, None, fit_.seconds, count / (time.perf_counter() - started))

    record = {"epochs": epochs}
    return [Generator(POSTERIOR, record, posterior), Generator(PRIOR, record, prior)]


def fit(cells: CellSet, seed: int, epochs: int | None) -> Fitted:
    """Train scVI on the training cells in the chosen genes."""
    likelihood, library_sizes = {}, None
    if cells.prepared.metadata.normalization.were_counts:
        values, library_sizes = cells.training_counts
    else:
        values, likelihood = sparse.csr_matrix(cells.training), {"gene_likelihood": "normal"}
    try:
        scvi = optional("scvi", extra="fidelity")
    except MissingExtra as error:
        raise Skipped(str(error).replace("scvi is", "scvi-tools is")) from None
    gene_sums = np.asarray(values.sum(axis=1)).ravel()
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    scvi.settings.verbosity = logging.ERROR
    scvi.settings.seed = seed
    adata = AnnData(sparse.csr_matrix(values))
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scvi.model.SCVI.setup_anndata(adata)
        model = scvi.model.SCVI(adata, **likelihood)
        model.train(max_epochs=epochs, enable_progress_bar=False, logger=False, enable_checkpointing=False)
    return Fitted(model, np.maximum(gene_sums, 1), library_sizes, time.perf_counter() - started)


def target_of(cells: CellSet) -> float:
    """The sum that cells were scaled to; Skipped where they were not."""
    target = cells.prepared.metadata.normalization.target_sum
    if target is None:
        raise Skipped("its counts cannot be brought to the scale of these cells, which were not normalised")
    return target


def to_log_scale(counts: np.ndarray, library_sizes: np.ndarray, target: float) -> np.ndarray:
    """As the real cells were: log(1 + target * count / library size), the latter over all genes of the file."""
    return np.log1p(np.asarray(counts) * (target / library_sizes)[:, None]).astype(np.float32)
