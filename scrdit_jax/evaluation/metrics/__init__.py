"""How far two sets of cells lie apart: a module's METRICS are its metrics, and a new module brings new ones.

The functions take two (cell, gene) matrices of log values, real cells first, dense or scipy-sparse, with the same genes
in the same order and any number of cells: each says what it does where those differ. None has an absolute scale: read
each beside real cells against real cells. A module without an underscore in its name is looked up in the registry
METRICS; reports, tables and benchmarks have whatever `all_metrics` finds.
"""

from __future__ import annotations

from ...errors import BadConfig
from ...registry import METRICS
from ._distances import PRINCIPAL_COMPONENTS, distances, gaussian_mmd, joint_pcs
from ._matrices import (
    Matrix,
    coefficient_of_variation,
    dense,
    detected_genes,
    gene_means,
    library_sizes,
    pearson,
    zero_fraction_per_gene,
)
from ._metric import FURTHER, LEADING, NEIGHBOURS, PAPER, SPECTRUM, TABLES, Metric, Pair
from .further import (
    coefficient_of_variation_error,
    detected_genes_ks,
    detected_genes_ratio,
    detected_genes_spread,
    library_size_ks,
    zero_fraction_difference,
)
from .leading import (
    gene_correlation_error,
    gene_mean_correlation,
    library_size_spread,
    mmd_pca,
    random_forest_auc,
    zero_fraction_error,
)
from .neighbours import mixing, nearest_neighbour_accuracy, precision, recall, wasserstein_2
from .paper import GENES_PER_BLOCK, kl_divergence, mmd_blocks, wasserstein_flat
from .spectrum import variance_ratios


def all_metrics() -> tuple[Metric, ...]:
    """Every metric: tables in the order of TABLES, others after them, and in a table as the modules have them."""
    found = [metric for module in METRICS for metric in METRICS[module]]
    tables = list(dict.fromkeys([*TABLES, *(metric.table for metric in found)]))
    names = [metric.name for metric in found]
    for name in names:
        if names.count(name) > 1:
            raise BadConfig(f"two metrics are called {name!r}; rename one of them in scrdit_jax/evaluation/metrics")
    return tuple(sorted(found, key=lambda metric: tables.index(metric.table)))


def metric_tables() -> dict[str, tuple[Metric, ...]]:
    """The metrics of every table, by its title, in their order."""
    metrics = all_metrics()
    return {title: tuple(m for m in metrics if m.table == title) for title in dict.fromkeys(m.table for m in metrics)}


__all__ = [
    "FURTHER", "GENES_PER_BLOCK", "LEADING", "NEIGHBOURS", "PAPER", "PRINCIPAL_COMPONENTS", "SPECTRUM", "TABLES",
    "Matrix", "Metric", "Pair", "all_metrics", "coefficient_of_variation", "coefficient_of_variation_error", "dense",
    "detected_genes", "detected_genes_ks", "detected_genes_ratio", "detected_genes_spread", "distances", "gaussian_mmd",
    "gene_correlation_error", "gene_mean_correlation", "gene_means", "joint_pcs", "kl_divergence", "library_size_ks",
    "library_size_spread", "library_sizes", "metric_tables", "mixing", "mmd_blocks", "mmd_pca",
    "nearest_neighbour_accuracy", "pearson", "precision", "random_forest_auc", "recall", "variance_ratios",
    "wasserstein_2", "wasserstein_flat", "zero_fraction_difference", "zero_fraction_error", "zero_fraction_per_gene",
]  # fmt: skip
