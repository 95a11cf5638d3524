"""Differential expression by the usual tests: p values, power and false discoveries against the truth."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import stats

from scrdit_jax.extras import optional

EXTRA = "simulate"
LEVEL = 0.05
FEWEST_CELLS, LEAST_MEAN = 10, 0.1
REFERENCE, TREATED = "group_1", "group_2"
TESTS = {"t-test": "t-test of cells", "wilcoxon": "Wilcoxon test of cells", "pydeseq2": "PyDESeq2 of pseudobulks",
         "pseudobulk-t": "t-test of pseudobulks"}  # fmt: skip
# Edges of |log2 fold change| within which genes count as of one strength.
EDGES = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)


def expressed(cells: AnnData) -> np.ndarray:
    """Which genes FEWEST_CELLS cells express, (gene,) bool."""
    return np.asarray((cells.layers["counts"] > 0).sum(axis=0)).ravel() >= FEWEST_CELLS


def p_values(cells: AnnData, test: str) -> np.ndarray:
    """Of each gene for a difference between the two groups, (gene,) float64; NaN where it is not tested."""
    found = np.full(cells.n_vars, np.nan)
    kept = expressed(cells)
    by_cells = test in ("t-test", "wilcoxon")
    found[kept] = (_of_cells if by_cells else _of_pseudobulks)(cells[:, kept], test)
    return found


def _of_cells(cells: AnnData, test: str) -> np.ndarray:
    """Scanpy's tests of log values."""
    scanpy = optional("scanpy", extra=EXTRA)
    cells = AnnData(cells.X.copy(), obs=cells.obs[["group"]].copy(), var=pd.DataFrame(index=cells.var_names))
    cells.uns["log1p"] = {"base": None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scanpy.tl.rank_genes_groups(
            cells, "group", groups=[TREATED], reference=REFERENCE, method=test, tie_correct=test == "wilcoxon",
            n_genes=cells.n_vars,
        )  # fmt: skip
    table = scanpy.get.rank_genes_groups_df(cells, TREATED).set_index("names")
    return table["pvals"].reindex(cells.var_names).to_numpy()


def pseudobulks(cells: AnnData) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(sums of counts (sample, gene), obs of the samples): one sample for each batch of each group."""
    obs = cells.obs[["group", "batch"]].astype(str)
    names = obs["group"] + "_" + obs["batch"]
    codes, samples = pd.factorize(names, sort=True)
    of_sample = pd.get_dummies(codes).to_numpy(np.float64)
    sums = np.asarray(of_sample.T @ cells.layers["counts"])
    table = obs.groupby(names).first().loc[list(samples)]
    return pd.DataFrame(np.rint(sums).astype(int), index=samples, columns=cells.var_names), table


def size_factors(sums: np.ndarray) -> np.ndarray:
    """How deep each sample is, (sample,) float64, by the median of ratios (Anders & Huber 2010).

    A sample's sum will not do: where some genes are raised, it makes all others look lowered.
    """
    in_all = (sums > 0).all(axis=0)
    if not in_all.any():
        return sums.sum(axis=1) / sums.sum(axis=1).mean()
    logs = np.log(sums[:, in_all])
    return np.exp(np.median(logs - logs.mean(axis=0), axis=1))


def _of_pseudobulks(cells: AnnData, test: str) -> np.ndarray:
    sums, samples = pseudobulks(cells)
    if test == "pseudobulk-t":
        values = np.log2(sums.to_numpy() / size_factors(sums.to_numpy())[:, None] + 0.5)
        treated = (samples["group"] == TREATED).to_numpy()
        return stats.ttest_ind(values[treated], values[~treated], axis=0).pvalue
    dds_module, ds_module = (optional(f"pydeseq2.{name}", extra=EXTRA) for name in ("dds", "ds"))
    # Where both groups are in each batch, what batches have in common is taken out.
    crossed = samples.groupby("batch")["group"].nunique().eq(2).all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = dds_module.DeseqDataSet(
            counts=sums, metadata=samples, design="~batch + group" if crossed else "~group", quiet=True, n_cpus=1
        )
        fitted.deseq2()
        result = ds_module.DeseqStats(fitted, contrast=["group", TREATED, REFERENCE], quiet=True, n_cpus=1)
        result.summary()
    return result.results_df["pvalue"].reindex(cells.var_names).to_numpy()


def discoveries(p: np.ndarray) -> np.ndarray:
    """Genes of which at most LEVEL are false (Benjamini & Hochberg 1995), (gene,) bool."""
    tested = np.isfinite(p)
    found = np.zeros(len(p), bool)
    found[tested] = stats.false_discovery_control(p[tested]) <= LEVEL
    return found


def score(p: np.ndarray, log2_fold_change: np.ndarray, mean: np.ndarray) -> dict[str, Any]:
    """Counts of genes, as plain numbers: found and false ones, tested null genes and those below LEVEL, and for each
    strength, of genes with a `mean` of LEAST_MEAN or more and of others, how many there are and are found.

    Genes that are not tested count as not found.
    """
    found, size = discoveries(p), np.abs(log2_fold_change)
    null = np.isfinite(p) & (size == 0)
    strengths = []
    for (low, high), enough in _strengths():
        genes = (size > low) & (size <= high) & ((mean >= LEAST_MEAN) == enough)
        strengths.append(
            {
                "low": low,
                "high": high,
                "expressed": enough,
                "genes": int(genes.sum()),
                "found": int((genes & found).sum()),
            }
        )
    return {
        "found": int(found.sum()), "false": int((found & (size == 0)).sum()), "null": int(null.sum()),
        "null_below_level": int((p[null] < LEVEL).sum()), "planted": int((size > 0).sum()), "strengths": strengths,
    }  # fmt: skip


def _strengths() -> Iterator[tuple[tuple[float, float], bool]]:
    for enough in (True, False):
        for edges in itertools.pairwise(EDGES):
            yield edges, enough


def power(rows: Sequence[Mapping[str, Any]], low: float, expressed: bool) -> float:
    """The share of planted genes of that strength that are found, over several rows; NaN where there are none."""
    cells = [s for row in rows for s in row["strengths"] if s["low"] == low and s["expressed"] == expressed]
    genes = sum(s["genes"] for s in cells)
    return sum(s["found"] for s in cells) / genes if genes else float("nan")


def uniformity(p: np.ndarray) -> dict[str, float]:
    """Of null p values: the share below LEVEL and the Kolmogorov-Smirnov distance from uniform ones."""
    p = p[np.isfinite(p)]
    return {"below_level": float(np.mean(p < LEVEL)), "ks": float(stats.kstest(p, "uniform").statistic)}
