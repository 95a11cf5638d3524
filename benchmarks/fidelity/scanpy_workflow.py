"""scanpy's standard workflow from counts to clusters, and what it finds on real and on synthetic cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from anndata import AnnData
from scipy.optimize import linear_sum_assignment

from scrdit_jax.extras import optional

EXTRA = "workflow"
HIGHLY_VARIABLE = 2000
TARGET_SUM = 10_000.0
# Of a cluster that is all of one side but for so many cells, its cells have found no counterpart.
ONE_SIDED = 0.9


def run_workflow(counts: AnnData, *, seed: int = 0, places: bool = True) -> AnnData:
    """normalize_total, log1p, highly_variable_genes, pca, neighbors, umap and leiden with scanpy's own settings.

    From counts in X; the result has `obs.leiden`, the graph of neighbours and, with `places`, X_umap.
    """
    scanpy = optional("scanpy", extra=EXTRA)
    optional("igraph", extra=EXTRA)
    cells = counts.copy()
    scanpy.pp.normalize_total(cells, target_sum=TARGET_SUM)
    scanpy.pp.log1p(cells)
    scanpy.pp.highly_variable_genes(cells, n_top_genes=min(HIGHLY_VARIABLE, cells.n_vars))
    components = min(50, cells.n_obs - 1, int(cells.var["highly_variable"].sum()) - 1)
    scanpy.pp.pca(cells, n_comps=components, random_state=seed)
    scanpy.pp.neighbors(cells, random_state=seed)
    if places:
        scanpy.tl.umap(cells, random_state=seed)
    scanpy.tl.leiden(cells, flavor="igraph", n_iterations=2, directed=False, random_state=seed)
    return cells


def agreement(clusters: Sequence[str], types: Sequence[str]) -> float:
    """Adjusted Rand index of two partitions: 1 where they are the same, 0 by chance."""
    return float(optional("sklearn.metrics").adjusted_rand_score(np.asarray(types), np.asarray(clusters)))


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """How far two sides of one graph of neighbours are mixed.

    `neighbours` is the share of a second side's cells among the neighbours of the first side's, over what chance gives:
    1 where the sides are mixed, 0 where they stand apart; `least` is that of the type with the least of it, and its
    name. `one_sided` is the share of all cells in clusters of which nine tenths are of one side, when both sides are
    equally many.
    """

    neighbours: float
    least: float
    least_type: str
    one_sided: float


def mixing(cells: AnnData, second: np.ndarray, types: np.ndarray, *, least_cells: int = 10) -> Mixing:
    """Of cells after `run_workflow`; `second` (cell,) says which are of the second side, `types` name all of them.

    Types of fewer than `least_cells` cells of the first side have no say in the least.
    """
    graph = cells.obsp["distances"].tocsr()
    numbers = np.maximum(np.diff(graph.indptr), 1)
    owner = np.repeat(np.arange(graph.shape[0]), np.diff(graph.indptr))
    share = np.bincount(owner, weights=second[graph.indices], minlength=graph.shape[0]) / numbers
    ratio = share / (second.sum() / (len(second) - 1))
    of_types = {
        str(name): float(ratio[~second & (types == name)].mean())
        for name in np.unique(types)
        if (~second & (types == name)).sum() >= least_cells
    }
    least = min(of_types, key=of_types.__getitem__) if of_types else ""
    clusters = cells.obs["leiden"].to_numpy()
    alone = [
        bool(max(of := second[clusters == name].mean(), 1 - of) >= ONE_SIDED) * (clusters == name).sum()
        for name in np.unique(clusters)
    ]
    return Mixing(
        neighbours=float(ratio[~second].mean()),
        least=of_types.get(least, float("nan")),
        least_type=least,
        one_sided=float(sum(alone) / len(second)),
    )


def matched_clusters(real: AnnData, synthetic: AnnData) -> dict[str, str]:
    """For each synthetic cluster the real one of the most similar mean expression, each real one once at most.

    Both after `run_workflow`, with the same genes; compared over the genes that vary most in real cells. A synthetic
    cluster that is left over keeps a name of its own.
    """
    genes = real.var["highly_variable"].to_numpy()
    there, here = (_cluster_means(side[:, genes]) for side in (real, synthetic))
    correlation = np.corrcoef(np.stack([*there.values(), *here.values()]))[: len(there), len(there) :]
    rows, columns = linear_sum_assignment(-correlation)
    names = {list(here)[column]: list(there)[row] for row, column in zip(rows, columns, strict=True)}
    new = (str(number) for number in range(len(there), len(there) + len(here)))
    return {name: names.get(name) or next(new) for name in here}


def _cluster_means(cells: AnnData) -> dict[str, np.ndarray]:
    """Mean log expression of each cluster."""
    clusters = cells.obs["leiden"].astype(str).to_numpy()
    names = sorted(set(clusters), key=int)
    return {name: np.asarray(cells.X[clusters == name].mean(axis=0), np.float64).ravel() for name in names}


def turned_like(places: np.ndarray, types: np.ndarray, like: np.ndarray, like_types: np.ndarray) -> np.ndarray:
    """Places (cell, 2) turned, mirrored and moved, not scaled, so that each type lies where it does in `like`.

    A UMAP's orientation means nothing; least squares over the centres of the types that both have, by their cells.
    """
    names = sorted(set(types) & set(like_types))
    weights = np.array([(types == name).sum() for name in names], np.float64)
    here, there = (
        np.stack([where[of == name].mean(axis=0) for name in names])
        for where, of in ((places, types), (like, like_types))
    )
    middle, target = (np.average(centres, axis=0, weights=weights) for centres in (here, there))
    left, _, right = np.linalg.svd((here - middle).T @ ((there - target) * weights[:, None]))
    return (places - middle) @ (left @ right) + target
