"""Further scores: zeros, cell sizes and the variation of genes."""

from __future__ import annotations

import numpy as np
from scipy.stats import ks_2samp

from ._matrices import (
    Matrix,
    coefficient_of_variation,
    detected_genes,
    library_sizes,
    ratio,
    require_same_genes,
    zero_fraction_per_gene,
)
from ._metric import FURTHER, Metric, of_values


def zero_fraction_difference(real: Matrix, synthetic: Matrix) -> float:
    """Overall zero fraction, synthetic minus real: above 0 the synthetic cells are too empty."""
    return float(zero_fraction_per_gene(synthetic).mean() - zero_fraction_per_gene(real).mean())


def detected_genes_ratio(real: Matrix, synthetic: Matrix) -> float:
    """Mean of `detected_genes`, synthetic over real."""
    return ratio(detected_genes(synthetic).mean(), detected_genes(real).mean())


def detected_genes_spread(real: Matrix, synthetic: Matrix) -> float:
    """Standard deviation of `detected_genes`, synthetic over real."""
    return ratio(detected_genes(synthetic).std(), detected_genes(real).std())


def library_size_ks(real: Matrix, synthetic: Matrix) -> float:
    """Kolmogorov-Smirnov statistic of the two sides' `library_sizes`: the widest gap of their distribution functions.

    0 to 1; any numbers of cells. Two samples of n cells of one distribution score about 0.87 * sqrt(2 / n).
    """
    return float(ks_2samp(library_sizes(real), library_sizes(synthetic)).statistic)


def detected_genes_ks(real: Matrix, synthetic: Matrix) -> float:
    """Kolmogorov-Smirnov statistic of the two sides' `detected_genes`; see `library_size_ks`."""
    return float(ks_2samp(detected_genes(real), detected_genes(synthetic)).statistic)


def coefficient_of_variation_error(real: Matrix, synthetic: Matrix) -> float:
    """Mean over the genes seen in real cells of |cv_synthetic / cv_real - 1|; give equally many cells of both.

    A gene that the synthetic side of n cells lacks counts there as one seen in a single cell, sqrt(n - 1), so a
    generator does not gain by leaving genes out. NaN where no real gene varies.
    """
    require_same_genes(real, synthetic)
    of_real, of_synthetic = coefficient_of_variation(real), coefficient_of_variation(synthetic)
    of_synthetic = np.where(np.isnan(of_synthetic), np.sqrt(max(synthetic.shape[0] - 1, 0)), of_synthetic)
    seen = of_real > 0
    return float(np.abs(of_synthetic[seen] / of_real[seen] - 1).mean()) if seen.any() else float("nan")


METRICS = (
    Metric(
        name="zero_fraction_difference",
        title="Zero fraction, difference",
        better="0",
        table=FURTHER,
        compute=of_values(zero_fraction_difference),
        sees="Whether there are too many zeros (above 0) or too few (below 0) overall.",
        blind="Genes with too many and genes with too few cancel.",
    ),
    Metric(
        name="detected_genes_ratio",
        title="Detected genes (mean ratio)",
        better="1",
        table=FURTHER,
        compute=of_values(detected_genes_ratio),
        sees="Whether a cell expresses as many genes as a real one on average.",
        blind="Which genes, and how much that differs between cells.",
    ),
    Metric(
        name="detected_genes_spread",
        title="Detected genes (sd ratio)",
        better="1",
        table=FURTHER,
        compute=of_values(detected_genes_spread),
        sees="Whether the number of expressed genes varies between cells as it does in real ones.",
        blind="Which genes those are.",
    ),
    Metric(
        name="library_size_ks",
        title="Library sizes (KS statistic)",
        better="lower",
        table=FURTHER,
        compute=of_values(library_size_ks),
        sees="Whether the cells' summed log values have the distribution that real cells' have, its shape included.",
        blind="Which genes make up the sum. It falls as samples grow: see the floor.",
    ),
    Metric(
        name="detected_genes_ks",
        title="Detected genes (KS statistic)",
        better="lower",
        table=FURTHER,
        compute=of_values(detected_genes_ks),
        sees="Whether the number of expressed genes is distributed over cells as it is in real ones.",
        blind="Which genes those are. It falls as samples grow: see the floor.",
    ),
    Metric(
        name="coefficient_of_variation_error",
        title="Coefficient-of-variation error per gene",
        better="lower",
        table=FURTHER,
        compute=of_values(coefficient_of_variation_error),
        sees="Whether each gene varies as much for its mean as in real cells (relative error, mean over genes).",
        blind="How genes go together: shuffling every gene leaves it unchanged.",
    ),
)
