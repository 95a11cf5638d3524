"""The cells that are compared: checked, brought to one order of genes, and drawn at random where there are many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from ..errors import BadConfig, BadInput, GeneMismatch
from . import metrics
from .comparison import MINIMUM_CELLS

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True, kw_only=True)
class Pools:
    """The cells that are compared: (cell, gene) log values, genes in the synthetic order.

    `real_rows` and `synthetic_rows` are their row numbers among the `real_cells` and `synthetic_cells` that there were;
    `notes` are sentences for the reader about anything out of the ordinary.
    """

    real: np.ndarray
    synthetic: np.ndarray
    real_rows: np.ndarray
    synthetic_rows: np.ndarray
    real_cells: int
    synthetic_cells: int
    notes: tuple[str, ...]


def draw_pools(real: AnnData, synthetic: AnnData, *, seed: int, max_cells: int) -> Pools:
    """Up to `max_cells` of both sides in random order, made dense; genes may come in any order.

    Raises GeneMismatch, or BadInput for too few cells and for values that are not finite.
    """
    if max_cells < 2 * MINIMUM_CELLS:
        raise BadConfig(f"max_cells is {max_cells}; it must be {2 * MINIMUM_CELLS} or more")
    columns = gene_order(real, synthetic)
    for side, cells in (("held-out", real), ("synthetic", synthetic)):
        if cells.n_obs < MINIMUM_CELLS:
            remedy = "hold out a larger share" if side == "held-out" else "generate more"
            raise BadInput(f"{cells.n_obs} {side} cells are too few to score; {remedy} ({MINIMUM_CELLS} or more)")
    rng = np.random.default_rng([seed, 0])
    real_rows = rng.permutation(real.n_obs)[:max_cells]
    synthetic_rows = rng.permutation(synthetic.n_obs)[:max_cells]
    real_pool = _read(real, real_rows, "held-out")[:, columns]
    synthetic_pool = _read(synthetic, synthetic_rows, "synthetic")
    return Pools(
        real=real_pool,
        synthetic=synthetic_pool,
        real_rows=real_rows,
        synthetic_rows=synthetic_rows,
        real_cells=real.n_obs,
        synthetic_cells=synthetic.n_obs,
        notes=_notes(real_pool, synthetic_pool, real.n_obs, synthetic.n_obs),
    )


def gene_order(real: AnnData, synthetic: AnnData) -> np.ndarray:
    """Where each synthetic gene stands among the real ones."""
    for side, cells in (("held-out", real), ("synthetic", synthetic)):
        if not cells.var_names.is_unique:
            twice = cells.var_names[cells.var_names.duplicated()][0]
            raise BadInput(f"the {side} cells name gene {twice!r} twice; make the gene names unique")
    lacking = synthetic.var_names.difference(real.var_names, sort=False)
    extra = real.var_names.difference(synthetic.var_names, sort=False)
    if len(lacking) or len(extra):
        parts = [
            f"{len(names)} of the {side} genes are not among the {other} ones (first: {names[0]!r})"
            for names, side, other in ((lacking, "synthetic", "real"), (extra, "real", "synthetic"))
            if len(names)
        ]
        raise GeneMismatch("; ".join(parts) + "; pass real cells with the genes the model was trained on")
    if synthetic.n_vars < 2:
        raise BadInput(f"{synthetic.n_vars} genes are too few to score; pass cells with 2 or more")
    return real.var_names.get_indexer(synthetic.var_names)


def _read(cells: AnnData, rows: np.ndarray, side: str) -> np.ndarray:
    """The rows as float32, in that order."""
    order = np.argsort(rows)  # files are read forwards
    chosen = require_finite_rows(cells, rows[order], side)
    pool = np.empty(chosen.shape, np.float32)
    pool[order] = metrics.dense(chosen)
    return pool


def require_finite_rows(cells: AnnData, rows: np.ndarray, side: str) -> metrics.Matrix:
    """The rows, ascending, after a check that values are finite (all of them, where in memory); else BadInput."""
    if cells.isbacked:
        chosen = stored = cells[rows].to_memory().X
    else:
        stored = cells.X
        chosen = stored[rows]
    values = stored.data if sparse.issparse(stored) else np.asarray(stored)
    if not np.isfinite(values).all():
        wrong = np.count_nonzero(~np.isfinite(values))
        raise BadInput(f"{wrong} values of the {side} cells are NaN or infinite; remove those cells or genes")
    return chosen


def _notes(real: np.ndarray, synthetic: np.ndarray, real_cells: int, synthetic_cells: int) -> tuple[str, ...]:
    notes = []
    for side, pool, there in (("held-out", real, real_cells), ("synthetic", synthetic, synthetic_cells)):
        if len(pool) < there:
            notes.append(f"{len(pool):,} of the {there:,} {side} cells were compared, drawn at random.")
    half = len(real) // 2
    if len(synthetic) < half:
        notes.append(
            f"There are fewer synthetic cells ({len(synthetic):,}) than half the held-out ones ({half:,}); every "
            f"comparison uses {len(synthetic):,} cells a side."
        )
    elif len(synthetic) > half:
        notes.append(
            f"There are {synthetic_cells:,} synthetic and {real_cells:,} held-out cells; every comparison draws "
            f"{half:,} of either, so that no metric sees unequal numbers."
        )
    if rest := real.shape[1] % metrics.GENES_PER_BLOCK:
        blocks = real.shape[1] // metrics.GENES_PER_BLOCK + 1
        notes.append(
            f"{metrics.GENES_PER_BLOCK} genes a block do not divide {real.shape[1]:,}: the last of the block MMD's "
            f"{blocks:,} has {rest}, and counts as much as the others."
        )
    highest_real, highest_synthetic = float(real.max()), float(synthetic.max())
    low, high = sorted([highest_real, highest_synthetic])
    if high > 3 * max(low, 0) and high > 0:
        notes.append(
            f"The largest value is {highest_real:.3g} in real and {highest_synthetic:.3g} in synthetic cells: check "
            f"that both are on the same scale."
        )
    return tuple(notes)
