"""Every metric for the synthetic cells, beside its floor (real cells) and its control (genes shuffled)."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from tqdm import tqdm

from ..errors import BadConfig, BadInput, GeneMismatch
from ..extras import optional
from . import metrics

if TYPE_CHECKING:
    from anndata import AnnData

CANDIDATES = ("synthetic", "real vs real", "genes shuffled")
MINIMUM_CELLS = 20
PRINCIPAL_COMPONENTS = 50
# Random splits that are scored side by side; each needs copies of its cells.
MOST_AT_ONCE = 4


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What a number is called, which way is better, and in a sentence each what it sees and what it cannot see."""

    name: str
    title: str
    better: str
    sees: str
    blind: str
    compute: Callable[[np.ndarray, np.ndarray], float] | None = None  # None: needs the pair's shared components
    table: str


LEADING, PAPER, FURTHER = "Leading scores", "The paper's metrics", "Further scores"

METRICS = (
    Metric(
        name="random_forest_auc",
        title="Random-forest AUC",
        better="0.5",
        table=LEADING,
        sees="Whether a random forest can tell synthetic cells from real ones by their first 50 principal components: "
        "0.5 is chance, 1 is always.",
        blind="What those components leave out, and copying: memorised training cells would score well.",
    ),
    Metric(
        name="mmd_pca",
        title="PCA-50 MMD",
        better="lower",
        table=LEADING,
        sees="How far apart the two clouds of cells lie where cell identity shows: types missing, misplaced or in the "
        "wrong proportions.",
        blind="Rare types and faint genes. It falls as samples grow: what counts is its distance from the floor.",
    ),
    Metric(
        name="gene_correlation_error",
        title="Gene-gene correlation error",
        better="lower",
        table=LEADING,
        compute=metrics.gene_correlation_error,
        sees="Whether the 500 most variable genes rise and fall together as they do in real cells.",
        blind="Anything beyond pairs of genes, and each gene's own level. Much of it is sampling noise: see the floor.",
    ),
    Metric(
        name="zero_fraction_error",
        title="Zero-fraction error per gene",
        better="lower",
        table=LEADING,
        compute=metrics.zero_fraction_error,
        sees="Whether each gene is silent in the right share of cells.",
        blind="Which cells those are, and how genes go together: shuffling every gene leaves it unchanged.",
    ),
    Metric(
        name="library_size_spread",
        title="Library-size spread (sd ratio)",
        better="1",
        table=LEADING,
        compute=metrics.library_size_spread,
        sees="Whether the cells' summed log values vary as much as real cells' do; below 1 the cells are too alike.",
        blind="Which genes make up the sum.",
    ),
    Metric(
        name="gene_mean_correlation",
        title="Gene-mean correlation (r)",
        better="1",
        table=LEADING,
        compute=metrics.gene_mean_correlation,
        sees="Whether genes are ranked by mean level as in real cells.",
        blind="Everything about single cells, and any common factor; almost every generator is near 1.",
    ),
    Metric(
        name="kl_divergence",
        title="KL divergence",
        better="lower",
        table=PAPER,
        compute=metrics.kl_divergence,
        sees="How alike the profiles of cells paired by their row number are, each turned into a distribution over "
        "genes by a softmax.",
        blind="Weak: nothing pairs row i with row i, so a constant mean cell beats real cells at it.",
    ),
    Metric(
        name="wasserstein_flat",
        title="Wasserstein distance",
        better="lower",
        table=PAPER,
        compute=metrics.wasserstein_flat,
        sees="Whether the values of the whole matrix, thrown together, have the right distribution.",
        blind="Weak: it does not know which gene or which cell a value belongs to.",
    ),
    Metric(
        name="mmd_blocks",
        title="Block MMD (20 genes a block)",
        better="lower",
        table=PAPER,
        compute=metrics.mmd_blocks,
        sees="Whether each run of 20 neighbouring genes has the right joint distribution, averaged over the runs.",
        blind="Weak: it hardly sees how genes go together; shuffling every gene moves it little from the floor.",
    ),
    Metric(
        name="zero_fraction_difference",
        title="Zero fraction, difference",
        better="0",
        table=FURTHER,
        compute=metrics.zero_fraction_difference,
        sees="Whether there are too many zeros (above 0) or too few (below 0) overall.",
        blind="Genes with too many and genes with too few cancel.",
    ),
    Metric(
        name="detected_genes_ratio",
        title="Detected genes (mean ratio)",
        better="1",
        table=FURTHER,
        compute=metrics.detected_genes_ratio,
        sees="Whether a cell expresses as many genes as a real one on average.",
        blind="Which genes, and how much that differs between cells.",
    ),
    Metric(
        name="detected_genes_spread",
        title="Detected genes (sd ratio)",
        better="1",
        table=FURTHER,
        compute=metrics.detected_genes_spread,
        sees="Whether the number of expressed genes varies between cells as it does in real ones.",
        blind="Which genes those are.",
    ),
    Metric(
        name="library_size_ks",
        title="Library sizes (KS statistic)",
        better="lower",
        table=FURTHER,
        compute=metrics.library_size_ks,
        sees="Whether the cells' summed log values have the distribution that real cells' have, its shape included.",
        blind="Which genes make up the sum. It falls as samples grow: see the floor.",
    ),
    Metric(
        name="detected_genes_ks",
        title="Detected genes (KS statistic)",
        better="lower",
        table=FURTHER,
        compute=metrics.detected_genes_ks,
        sees="Whether the number of expressed genes is distributed over cells as it is in real ones.",
        blind="Which genes those are. It falls as samples grow: see the floor.",
    ),
    Metric(
        name="coefficient_of_variation_error",
        title="Coefficient-of-variation error per gene",
        better="lower",
        table=FURTHER,
        compute=metrics.coefficient_of_variation_error,
        sees="Whether each gene varies as much for its mean as in real cells (relative error, mean over genes).",
        blind="How genes go together: shuffling every gene leaves it unchanged.",
    ),
)


@dataclass(frozen=True)
class Estimate:
    """Mean and standard deviation (n - 1; 0 for one repeat) of a metric over the repeats."""

    mean: float
    sd: float


@dataclass(frozen=True, kw_only=True)
class Scores:
    """`values[metric name][candidate]` for every METRICS and CANDIDATES, and how they were come by.

    Every comparison is between `cells_per_side` cells and as many; `real_cells` and `synthetic_cells` is what was
    there. `notes` are sentences for the reader about anything out of the ordinary.
    """

    values: Mapping[str, Mapping[str, Estimate]]
    real_cells: int
    synthetic_cells: int
    genes: int
    cells_per_side: int
    repeats: int
    seed: int
    max_cells: int
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Pools:
    """The cells looked at: (cells, genes) log values, genes in the synthetic order; `real_rows` is where they lay."""

    real: np.ndarray
    synthetic: np.ndarray
    real_rows: np.ndarray
    real_cells: int
    synthetic_cells: int
    notes: tuple[str, ...]


def score(
    real_held_out: AnnData, synthetic: AnnData, *, seed: int = 0, repeats: int = 5, max_cells: int = 2000
) -> Scores:
    """Scores of synthetic cells against held-out real cells on the same scale and genes (in any order).

    In each repeat the held-out cells are split at random into halves A and B; A is compared with as many synthetic
    cells, with B, and with B after each of its genes is permuted across cells. At most `max_cells` of either side are
    looked at, drawn at random. Raises GeneMismatch, or BadInput for too few cells and for values that are not finite.
    """
    return score_pools(draw_pools(real_held_out, synthetic, seed=seed, max_cells=max_cells), seed, repeats, max_cells)


def draw_pools(real: AnnData, synthetic: AnnData, *, seed: int, max_cells: int) -> Pools:
    """Check both sides and draw up to `max_cells` of either in random order; only those are made dense."""
    if max_cells < 2 * MINIMUM_CELLS:
        raise BadConfig(f"max_cells is {max_cells}; it must be {2 * MINIMUM_CELLS} or more")
    columns = _gene_order(real, synthetic)
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
        real_cells=real.n_obs,
        synthetic_cells=synthetic.n_obs,
        notes=_notes(real_pool, synthetic_pool, real.n_obs, synthetic.n_obs),
    )


def _gene_order(real: AnnData, synthetic: AnnData) -> np.ndarray:
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
    """The rows as float32, in that order, after a check that values are finite (all of them, where in memory)."""
    order = np.argsort(rows)  # files are read forwards
    if cells.isbacked:
        chosen = stored = cells[rows[order]].to_memory().X
    else:
        stored = cells.X
        chosen = stored[rows[order]]
    values = stored.data if sparse.issparse(stored) else np.asarray(stored)
    if not np.isfinite(values).all():
        wrong = np.count_nonzero(~np.isfinite(values))
        raise BadInput(f"{wrong} values of the {side} cells are NaN or infinite; remove those cells or genes")
    pool = np.empty(chosen.shape, np.float32)
    pool[order] = metrics.dense(chosen)
    return pool


def _notes(real: np.ndarray, synthetic: np.ndarray, real_cells: int, synthetic_cells: int) -> tuple[str, ...]:
    notes = []
    for side, pool, there in (("held-out", real, real_cells), ("synthetic", synthetic, synthetic_cells)):
        if len(pool) < there:
            notes.append(f"{len(pool):,} of the {there:,} {side} cells were looked at, drawn at random.")
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


def score_pools(pools: Pools, seed: int, repeats: int, max_cells: int) -> Scores:
    """`score` on cells already drawn."""
    if repeats < 1:
        raise BadConfig(f"repeats is {repeats}; it must be 1 or more")
    per_side = min(len(pools.real) // 2, len(pools.synthetic))
    # On matrices this small, threads of linear algebra cost more by waiting than they bring.
    one_thread = optional("threadpoolctl").threadpool_limits(1)
    bar = tqdm(total=repeats * len(CANDIDATES), desc="scoring", unit="comparison", disable=None, leave=False)
    with one_thread, bar, ThreadPoolExecutor(min(repeats, os.cpu_count() or 1, MOST_AT_ONCE)) as pool:
        parts = list(pool.map(lambda repeat: _repeat(pools, per_side, seed, repeat, bar.update), range(repeats)))
    collected = {
        metric.name: {candidate: [part[candidate][metric.name] for part in parts] for candidate in CANDIDATES}
        for metric in METRICS
    }
    return Scores(
        values={
            name: {candidate: _estimate(values) for candidate, values in candidates.items()}
            for name, candidates in collected.items()
        },
        real_cells=pools.real_cells,
        synthetic_cells=pools.synthetic_cells,
        genes=pools.real.shape[1],
        cells_per_side=per_side,
        repeats=repeats,
        seed=seed,
        max_cells=max_cells,
        notes=pools.notes,
    )


def _repeat(
    pools: Pools, per_side: int, seed: int, repeat: int, done: Callable[[], object]
) -> dict[str, dict[str, float]]:
    """One random split of the held-out cells: by candidate, its metrics; each depends on `seed` and `repeat` alone."""
    rng = np.random.default_rng([seed, 1, repeat])
    split = rng.permutation(len(pools.real))
    reference, floor = pools.real[split[:per_side]], pools.real[split[per_side : 2 * per_side]]
    drawn = pools.synthetic[rng.permutation(len(pools.synthetic))[:per_side]]
    shuffled = rng.permuted(floor, axis=0)
    pair_seed, found = int(rng.integers(2**31)), {}
    for candidate, cells in zip(CANDIDATES, (drawn, floor, shuffled), strict=True):
        found[candidate] = compare(reference, cells, seed=pair_seed)
        done()
    return found


def compare(reference: np.ndarray, cells: np.ndarray, *, seed: int) -> dict[str, float]:
    """Every metric of `cells` against `reference`, by name; components are fitted once, on both together."""
    reference_pcs, cell_pcs = metrics.joint_pcs(reference, cells, components=PRINCIPAL_COMPONENTS, seed=seed)
    values = {
        "random_forest_auc": metrics.random_forest_auc(reference_pcs, cell_pcs, seed=seed),
        "mmd_pca": metrics.gaussian_mmd(reference_pcs, cell_pcs),
    }
    return values | {metric.name: metric.compute(reference, cells) for metric in METRICS if metric.compute}


def _estimate(values: list[float]) -> Estimate:
    return Estimate(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0)


def figure(value: float) -> str:
    """Three significant digits, at most four decimals; 'n/a' for what is not finite."""
    if not math.isfinite(value):
        return "n/a"
    if value == 0:
        return "0"
    decimals = int(np.clip(2 - math.floor(math.log10(abs(value))), 0, 4))
    return f"{value:.{decimals}f}"


def estimate_text(estimate: Estimate) -> str:
    """'0.871 ± 0.012', the deviation to the decimals of the mean or to one significant digit."""
    if not math.isfinite(estimate.mean):
        return "n/a"
    mean = figure(estimate.mean)
    decimals = len(mean.partition(".")[2])
    return f"{mean} ± {estimate.sd:.{max(decimals, 2)}f}"
