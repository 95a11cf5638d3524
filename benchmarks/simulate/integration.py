"""A planted batch effect before and after Harmony: mixing of batches, and whether cell types are kept."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from scrdit_jax.extras import optional

EXTRA = "simulate"
COMPONENTS, NEIGHBOURS, SEED = 30, 15, 0


def labels_of(real: AnnData, column: str, genes: pd.Index, cells: AnnData) -> np.ndarray:
    """The cell type of each cell, by a logistic regression on log values of the real cells, (cell,) str."""
    model = optional("sklearn.linear_model").LogisticRegression(max_iter=300)
    x = normalised(real)[:, real.var_names.get_indexer(genes)]
    model.fit(x, real.obs[column].to_numpy(str))
    return model.predict(normalised(cells)).astype(str)


def normalised(cells: AnnData) -> np.ndarray:
    """log1p of counts of each cell scaled to 10,000, over all genes that are there, dense float32."""
    counts = cells.layers.get("counts", cells.X)
    library = cells.obs["library_size"].to_numpy() if "library_size" in cells.obs else None
    total = np.asarray(counts.sum(axis=1)).ravel() if library is None else library
    return np.log1p(counts.toarray() * (1e4 / np.maximum(total, 1))[:, None]).astype(np.float32)


def components(cells: AnnData) -> np.ndarray:
    """Principal components of log values, (cell, COMPONENTS)."""
    return optional("sklearn.decomposition").PCA(COMPONENTS, random_state=SEED).fit_transform(cells.X.toarray())


def harmonised(pcs: np.ndarray, batch: np.ndarray) -> np.ndarray:
    """Harmony's corrected components (Korsunsky et al. 2019)."""
    module = optional("harmonypy", extra=EXTRA)
    corrected = module.run_harmony(pcs, pd.DataFrame({"batch": batch}), ["batch"], verbose=False, random_state=SEED)
    found = np.asarray(corrected.Z_corr)
    return found if found.shape == pcs.shape else found.T


def score(points: np.ndarray, batch: np.ndarray, types: np.ndarray) -> dict[str, float]:
    """`ilisi` (effective number of batches among a cell's neighbours; as many as there are is best), `clisi` (of cell
    types; 1 is best), silhouettes of both, and `type_accuracy` of a vote of neighbours, of other cells."""
    lisi = optional("harmonypy.lisi", extra=EXTRA).compute_lisi
    metrics, neighbours = optional("sklearn.metrics"), optional("sklearn.neighbors")
    table = pd.DataFrame({"batch": batch, "type": types})
    ilisi, clisi = np.median(lisi(points, table, ["batch", "type"]), axis=0)
    classifier = neighbours.KNeighborsClassifier(NEIGHBOURS)
    splits = optional("sklearn.model_selection").StratifiedKFold(5, shuffle=True, random_state=SEED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of types with fewer cells than splits
        accuracy = optional("sklearn.model_selection").cross_val_score(classifier, points, types, cv=splits)
    return {
        "ilisi": float(ilisi), "clisi": float(clisi),
        "batch_silhouette": float(metrics.silhouette_score(points, batch)),
        "type_silhouette": float(metrics.silhouette_score(points, types)), "type_accuracy": float(accuracy.mean()),
    }  # fmt: skip


def embedded(points: np.ndarray) -> np.ndarray:
    """t-SNE, (cell, 2)."""
    with optional("threadpoolctl").threadpool_limits(1):
        return optional("sklearn.manifold").TSNE(random_state=SEED, init="pca", max_iter=500).fit_transform(points)


def doublet_auc(cells: AnnData, share: float) -> float:
    """How well Scrublet's score (Wolock et al. 2019) tells planted doublets from other droplets."""
    scanpy = optional("scanpy", extra=EXTRA)
    counts = AnnData(cells.layers["counts"].astype(np.float32), obs=pd.DataFrame(index=cells.obs_names))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scanpy.pp.scrublet(counts, expected_doublet_rate=share, threshold=0.5, random_state=SEED, verbose=False)
    truth = cells.obs["is_doublet"].to_numpy()
    return float(optional("sklearn.metrics").roc_auc_score(truth, counts.obs["doublet_score"]))


def zeros(counts: Any) -> tuple[np.ndarray, np.ndarray]:
    """(mean, share of zeros) of each gene, (gene,) each."""
    cells = counts.shape[0]
    return np.asarray(counts.mean(axis=0)).ravel(), 1 - np.asarray((counts > 0).sum(axis=0)).ravel() / cells


def off_relation(mean: np.ndarray, share: np.ndarray, real: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    """How far shares of zeros are off those of `real` genes of the same mean: the median difference, and the median
    of its size; of genes with means within 0.02 to 10. The relation is the median of a gene's 41 neighbours by mean."""
    order = np.argsort(real[0])
    smooth = pd.Series(real[1][order]).rolling(41, center=True, min_periods=5).median().to_numpy()
    kept = (mean > 0.02) & (mean < 10)
    difference = share[kept] - np.interp(np.log(mean[kept]), np.log(real[0][order] + 1e-9), smooth)
    return {"median": float(np.median(difference)), "median_size": float(np.median(np.abs(difference)))}
