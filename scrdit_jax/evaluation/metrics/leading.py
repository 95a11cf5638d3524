"""The scores to read first: they see cells as wholes, and what the paper's metrics miss."""

from __future__ import annotations

import numpy as np

from ...extras import optional
from ._distances import PRINCIPAL_COMPONENTS, gaussian_mmd, joint_pcs
from ._matrices import Matrix, dense, gene_means, library_sizes, pearson, ratio, zero_fraction_per_gene
from ._metric import LEADING, Metric, of_values

FOREST_TREES = 200
FOLDS = 5


def random_forest_auc(real_pcs: np.ndarray, synthetic_pcs: np.ndarray, *, seed: int = 0) -> float:
    """ROC AUC with which a random forest tells synthetic cells (1) from real ones (0) it was not fitted on.

    200 trees, five stratified shuffled folds; one AUC of all out-of-fold probabilities. 0.5 is chance, and samples of
    one distribution scatter around it to both sides. Needs scikit-learn and five rows a side.
    """
    pcs = np.concatenate([real_pcs, synthetic_pcs])
    labels = np.repeat([0, 1], [len(real_pcs), len(synthetic_pcs)])
    selection = optional("sklearn.model_selection")
    # One thread: trees this small spend more on threads taking turns than on growing.
    forest = optional("sklearn.ensemble").RandomForestClassifier(FOREST_TREES, random_state=seed)
    folds = selection.StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    scores = selection.cross_val_predict(forest, pcs, labels, cv=folds, method="predict_proba")[:, 1]
    return float(optional("sklearn.metrics").roc_auc_score(labels, scores))


def mmd_pca(real: Matrix, synthetic: Matrix, *, components: int = PRINCIPAL_COMPONENTS, seed: int = 0) -> float:
    """`gaussian_mmd` between the cells' first principal components, fitted on both sides together."""
    return gaussian_mmd(*joint_pcs(real, synthetic, components=components, seed=seed))


def gene_correlation_error(real: Matrix, synthetic: Matrix, *, genes: int = 500) -> float:
    """Mean absolute difference between the two gene-gene Pearson correlation matrices, off the diagonal.

    Over the `genes` most variable genes of the real side (memory is genes^2). A gene that is constant on the synthetic
    side correlates 0 there, so a generator does not gain by leaving genes out. Under two varying genes: 0.
    """
    real, synthetic = dense(real), dense(synthetic)
    variance = real.var(axis=0, dtype=np.float64)
    chosen = np.argsort(-variance, kind="stable")[:genes]
    chosen = chosen[variance[chosen] > 0]
    if len(chosen) < 2:
        return 0.0
    difference = np.abs(_correlations(real[:, chosen]) - _correlations(synthetic[:, chosen]))
    np.fill_diagonal(difference, 0)
    return float(difference.sum() / (len(chosen) * (len(chosen) - 1)))


def _correlations(cells: np.ndarray) -> np.ndarray:
    centred = cells - cells.mean(axis=0, dtype=np.float64)
    scale = np.sqrt(np.einsum("ij,ij->j", centred, centred))
    # A constant gene's centred values are rounding, not zero.
    constant = cells.max(axis=0) == cells.min(axis=0)
    centred /= np.where(constant | (scale == 0), np.inf, scale)
    return centred.T @ centred


def zero_fraction_error(real: Matrix, synthetic: Matrix) -> float:
    """Mean over genes of the absolute difference of zero fractions."""
    return float(np.abs(zero_fraction_per_gene(synthetic) - zero_fraction_per_gene(real)).mean())


def library_size_spread(real: Matrix, synthetic: Matrix) -> float:
    """Standard deviation of `library_sizes`, synthetic over real; below 1 the synthetic cells are too alike."""
    return ratio(library_sizes(synthetic).std(), library_sizes(real).std())


def gene_mean_correlation(real: Matrix, synthetic: Matrix) -> float:
    """Pearson correlation between the two sides' gene means; 0 where one side's means are all equal."""
    return pearson(gene_means(real), gene_means(synthetic))


METRICS = (
    Metric(
        name="random_forest_auc",
        title="Random-forest AUC",
        better="0.5",
        table=LEADING,
        compute=lambda pair: random_forest_auc(*pair.pcs, seed=pair.seed),
        sees="Whether a random forest can tell synthetic cells from real ones by their first 50 principal components: "
        "0.5 is chance, 1 is always.",
        blind="What those components leave out, and copying: memorised training cells would score well.",
    ),
    Metric(
        name="mmd_pca",
        title="PCA-50 MMD",
        better="lower",
        table=LEADING,
        compute=lambda pair: gaussian_mmd(*pair.pcs),
        sees="How far apart the two clouds of cells lie where cell identity shows: types missing, misplaced or in the "
        "wrong proportions.",
        blind="Rare types and faint genes. It falls as samples grow: what counts is its distance from the floor.",
    ),
    Metric(
        name="gene_correlation_error",
        title="Gene-gene correlation error",
        better="lower",
        table=LEADING,
        compute=of_values(gene_correlation_error),
        sees="Whether the 500 most variable genes rise and fall together as they do in real cells.",
        blind="Anything beyond pairs of genes, and each gene's own level. Much of it is sampling noise: see the floor.",
    ),
    Metric(
        name="zero_fraction_error",
        title="Zero-fraction error per gene",
        better="lower",
        table=LEADING,
        compute=of_values(zero_fraction_error),
        sees="Whether each gene is silent in the right share of cells.",
        blind="Which cells those are, and how genes go together: shuffling every gene leaves it unchanged.",
    ),
    Metric(
        name="library_size_spread",
        title="Library-size spread (sd ratio)",
        better="1",
        table=LEADING,
        compute=of_values(library_size_spread),
        sees="Whether the cells' summed log values vary as much as real cells' do; below 1 the cells are too alike.",
        blind="Which genes make up the sum.",
    ),
    Metric(
        name="gene_mean_correlation",
        title="Gene-mean correlation (r)",
        better="1",
        table=LEADING,
        compute=of_values(gene_mean_correlation),
        sees="Whether genes are ranked by mean level as in real cells.",
        blind="Everything about single cells, and any common factor; almost every generator is near 1.",
    ),
)
