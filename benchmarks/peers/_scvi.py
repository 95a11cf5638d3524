"""scVI (Lopez et al. 2018) through scvi-tools with its own defaults, for the peers "scvi" and "scvi-prior".

Where cells came as counts it is given those; else their log values, with its normal likelihood, and what it draws below
zero is zero.
"""

from __future__ import annotations

import logging
import time
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from anndata import AnnData
from scipy import sparse

from benchmarks.peers import Skipped
from scrdit_jax.extras import optional

if TYPE_CHECKING:
    from benchmarks.fidelity.cell_sets import CellSet

EXTRA = "fidelity"


@dataclass(frozen=True)
class Fitted:
    """A trained model; each training cell's sum over the chosen genes, as the model sees it, and its library size, None
    for a model of log values."""

    scvi: Any
    gene_sums: np.ndarray
    library_sizes: np.ndarray | None
    seconds: float

    def to_log_scale(self, drawn: np.ndarray, rows: np.ndarray, cells: CellSet) -> np.ndarray:
        """What was drawn for these training cells, (cell, gene) float32 on their scale."""
        if self.library_sizes is None:
            return np.maximum(np.asarray(drawn, np.float32), 0)
        return to_log_scale(drawn, self.library_sizes[rows], target_of(cells))


@lru_cache(maxsize=16)
def fitted(cells: CellSet, seed: int) -> Fitted:
    """scVI trained on the training cells in the chosen genes; one model serves both peers."""
    likelihood, library_sizes = {}, None
    if cells.prepared.metadata.normalization.were_counts:
        values, library_sizes = cells.training_counts
    else:
        values, likelihood = sparse.csr_matrix(cells.training), {"gene_likelihood": "normal"}
    scvi = optional("scvi", extra=EXTRA)
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
        model.train(enable_progress_bar=False, logger=False, enable_checkpointing=False)
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
