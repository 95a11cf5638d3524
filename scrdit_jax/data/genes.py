"""Which genes the model sees: by the paper's coefficient of variation, highly variable, or seen in most cells."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..config import DataConfig
from ..errors import BadInput
from .statistics import GeneMoments, GeneStatistics

# No transcriptome has more genes that say something; what has more is of several species, or holds transcripts.
MOST_GENES = 40_000


def coefficient_of_variation(moments: GeneMoments) -> np.ndarray:
    """cv_i = sd(y_i) / mean(y_i) of each gene over cells   (scRDiT eq. 1), (gene,) float64.

    sd is the population deviation (divided by n); the sample deviation ranks genes the same. Genes whose mean is zero
    have 0. `moments` are those of log expression.
    """
    mean = moments.mean
    return np.divide(np.sqrt(moments.variance), mean, out=np.zeros_like(mean), where=mean > 0)


def highly_variable(moments: GeneMoments, *, bins: int = 20) -> np.ndarray:
    """Normalised dispersion of each gene, (gene,) float64: the larger, the more variable for its mean.

    With m, v the mean and sample variance of expm1(x): d = log(v / m), standardised among the genes of the same of
    `bins` equal intervals of log1p(m); a gene alone in its interval has 1. Genes that do not vary have NaN.
    Satija et al. 2015, as scanpy's flavor 'seurat' computes it. `moments` are those of expm1(x), or of x itself where
    values are too large to be logarithms.
    """
    mean = np.where(moments.mean == 0, 1e-12, moments.mean)
    ratio = moments.variance * (moments.cells / (moments.cells - 1)) / mean
    dispersion = np.log(ratio, out=np.full_like(ratio, np.nan), where=ratio > 0)
    interval = pd.cut(np.log1p(mean), bins=bins, labels=False)
    grouped = pd.Series(dispersion).groupby(interval)
    centre, spread = (grouped.transform(name).to_numpy(copy=True) for name in ("mean", "std"))
    alone = np.isnan(spread)
    spread[alone], centre[alone] = centre[alone], 0.0
    with np.errstate(invalid="ignore", divide="ignore"):
        return (dispersion - centre) / spread


def choose_genes(
    statistics: GeneStatistics, config: DataConfig, *, multiple_of: int, source: str = "the matrix"
) -> tuple[np.ndarray, list[str]]:
    """Column numbers of the chosen genes in ascending order, and sentences that say how they were chosen.

    `statistics` are of the training cells only, on the log scale. Genes expressed in at least config.min_cells of them
    are ranked by config.gene_selection and the best config.genes kept ('detected': those expressed in most of the
    cells); 'all' keeps every one, up to MOST_GENES. The lowest-ranked are dropped until `multiple_of` (the network's
    need: genes a token) divides the number. Too few genes raise BadInput.
    """
    expressing = statistics.expressing
    passing = np.flatnonzero(expressing >= config.min_cells)
    rule = f"expressed in at least {config.min_cells} training cells"
    wanted = min(len(passing), MOST_GENES) if config.gene_selection == "all" else config.genes
    if len(passing) < max(wanted, 1):
        most = len(passing) // multiple_of * multiple_of
        remedy = f"--genes {most}" if most else f"a network with fewer than {multiple_of} genes a token"
        raise BadInput(
            f"{source}: {len(passing)} of its {len(expressing)} genes are {rule}, but {config.genes} were asked for; "
            f"use {remedy} or a lower --min-cells"
        )
    kept = wanted - wanted % multiple_of
    if kept == 0:
        raise BadInput(
            f"{source}: {wanted} genes are fewer than the {multiple_of} that the network takes at once; "
            f"use --genes {multiple_of} or more, or fewer genes a token"
        )
    score, how = _ranking(statistics, passing, config.gene_selection)
    best_first = np.argsort(-np.nan_to_num(score, nan=-np.inf), kind="stable")
    sentences = [f"{kept} genes kept: {how} of the {len(passing)} {rule}"]
    if config.gene_selection == "all" and len(passing) > MOST_GENES:
        sentences.append(f"all but the {MOST_GENES} expressed in most cells left out: no more can be modelled")
    if kept < wanted:
        sentences.append(f"{wanted - kept} lowest-ranked of {wanted} genes dropped, so that {multiple_of} divides")
    return np.sort(passing[best_first[:kept]]), sentences


def _ranking(statistics: GeneStatistics, passing: np.ndarray, selection: str) -> tuple[np.ndarray, str]:
    """(a score of each passing gene, the larger the better; what its best are, in words)."""
    if selection == "cv":
        moments = statistics.logs[passing]
        return coefficient_of_variation(moments), "the genes with the largest coefficient of variation"
    if selection == "hvg":
        moments = statistics.logs if statistics.large[passing].any() else statistics.linear
        return highly_variable(moments[passing]), "the most highly variable genes"
    how = "all genes" if selection == "all" else "the genes expressed in most training cells"
    return statistics.expressing[passing].astype(np.float64), how
