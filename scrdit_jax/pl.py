"""Plots in scanpy's manner: cells or a run in, matplotlib's axes out. They need the extra ``evaluate``.

Real cells are compared with synthetic ones as `scrdit_jax.evaluate` compares them: those that the model was trained on
are left out, and both sides are brought to one scale and one order of genes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from anndata import AnnData

from .api.arguments import checked
from .checkpoint import Run
from .config.checks import shown
from .errors import BadConfig
from .evaluation import metrics, plots
from .evaluation.cells import compared_cells, require_column
from .evaluation.pools import Pools, draw_pools
from .extras import optional
from .io.reading import Data
from .training.metric_logger import read_lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["embedding", "gene_means", "library_sizes", "training_curve", "zero_fractions"]

BASES = {"umap": "UMAP", "tsne": "t-SNE", "pca": "First two principal components"}
LOSS = "loss"


@checked
def embedding(
    real: Run | Data,
    synthetic: AnnData | Path | str,
    *,
    basis: str = "umap",
    color: str | None = None,
    max_cells: int = 2000,
    seed: int = 0,
    ax: Axes | None = None,
) -> Axes:
    """Draw both sides in one embedding of their joint principal components.

    Parameters
    ----------
    real, synthetic
        See `scrdit_jax.evaluate`.
    basis
        "umap" (needs umap-learn, which scanpy brings), "tsne" or "pca".
    color
        A column of the real cells' obs, such as "cell_type": they are drawn in its colours over synthetic cells in
        grey. None: a colour for each side.
    max_cells
        So many of each side at most, drawn at random.
    seed
        Of the draw and of the embedding.
    ax
        Axes to draw on; None: of a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    BadInput, BadConfig, GeneMismatch, MissingExtra

    Examples
    --------
    >>> ax = scrdit.pl.embedding(run, cells, basis="pca")
    """
    if basis not in BASES:
        raise BadConfig(f"basis is {shown(basis)}; it must be one of {', '.join(BASES)}")
    pools, types = _pools(real, synthetic, seed=seed, max_cells=max_cells, color=color)
    if basis == "tsne":
        points = plots.embed(pools.real, pools.synthetic, seed=seed)
    else:
        points = np.concatenate(metrics.joint_pcs(pools.real, pools.synthetic, seed=seed))
        points = _umap(points, seed) if basis == "umap" else points[:, :2]
    is_real = np.arange(len(points)) < len(pools.real)
    ax = _axes(ax, width=5.2 if types is None else 6.8, height=5.0)
    if types is None:
        plots.draw_sides(ax, points, is_real, seed=seed)
    else:
        plots.draw_types(ax, points, is_real, types)
    ax.set_title(BASES[basis] + ("" if types is None else f", {color} of the real cells"))
    return ax


@checked
def gene_means(
    real: Run | Data, synthetic: AnnData | Path | str, *, max_cells: int = 2000, seed: int = 0, ax: Axes | None = None
) -> Axes:
    """Draw every gene's mean log value, synthetic over real.

    Parameters
    ----------
    real, synthetic, max_cells, seed, ax
        See `embedding`.

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> ax = scrdit.pl.gene_means(run, cells)
    """
    pools, _ = _pools(real, synthetic, seed=seed, max_cells=max_cells)
    return _agreement(pools, metrics.gene_means, "Mean of each gene", ax)


@checked
def zero_fractions(
    real: Run | Data, synthetic: AnnData | Path | str, *, max_cells: int = 2000, seed: int = 0, ax: Axes | None = None
) -> Axes:
    """Draw the share of cells in which each gene is zero, synthetic over real.

    Parameters
    ----------
    real, synthetic, max_cells, seed, ax
        See `embedding`.

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> ax = scrdit.pl.zero_fractions(run, cells)
    """
    pools, _ = _pools(real, synthetic, seed=seed, max_cells=max_cells)
    return _agreement(pools, metrics.zero_fraction_per_gene, "Zero fraction of each gene", ax)


@checked
def library_sizes(
    real: Run | Data, synthetic: AnnData | Path | str, *, max_cells: int = 2000, seed: int = 0, ax: Axes | None = None
) -> Axes:
    """Draw histograms of the sum of log values of a cell.

    Parameters
    ----------
    real, synthetic, max_cells, seed, ax
        See `embedding`.

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> ax = scrdit.pl.library_sizes(run, cells)
    """
    pools, _ = _pools(real, synthetic, seed=seed, max_cells=max_cells)
    ax = _axes(ax, width=4.8, height=4.0)
    real_sums, synthetic_sums = map(metrics.library_sizes, (pools.real, pools.synthetic))
    plots.draw_histograms(ax, real_sums, synthetic_sums, "sum of log values of a cell")
    return ax


@checked
def training_curve(run: Run | Path | str, *, score: str = LOSS, ax: Axes | None = None) -> Axes:
    """Draw the loss of a training over its steps, or a score of its held-out cells over epochs.

    Parameters
    ----------
    run
        The run, or its directory; also while it is trained.
    score
        "loss"; or, of a run with ``evaluate_every``, "held_out_loss", "mmd_blocks" or "mmd_pca", beside what real
        cells reach.
    ax
        Axes to draw on; None: of a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    BadConfig, RunMismatch
        Where there is no such score, or no run.

    Examples
    --------
    >>> ax = scrdit.pl.training_curve(run)
    """
    run = run if isinstance(run, Run) else Run(Path(run))
    run.config()  # or RunMismatch
    rows = read_lines(run.metrics_path if score == LOSS else run.evaluations_path)
    if not any(score in row for row in rows):
        known = [LOSS, *(name for name, _ in plots.CURVES)]
        if score not in known:
            raise BadConfig(f"score is {shown(score)}; it must be one of {', '.join(known)}")
        remedy = "train with differential privacy off" if score == LOSS else "train with evaluate_every=1, for example"
        raise BadConfig(f"the run {run.path} has recorded no {score}; {remedy}")
    ax = _axes(ax, width=4.6, height=3.6)
    if score != LOSS:
        plots.draw_curve(ax, rows, score, dict(plots.CURVES)[score])
        return ax
    ax.plot(*zip(*((row["step"], row[LOSS]) for row in rows if LOSS in row), strict=True), color=plots.SYNTHETIC)
    ax.set(xlabel="step", title="Loss")
    return ax


def _pools(
    real: Run | Data, synthetic: AnnData | Path | str, *, seed: int, max_cells: int, color: str | None = None
) -> tuple[Pools, np.ndarray | None]:
    """The cells that are drawn, and their categories in the column `color`."""
    cells = compared_cells(real.path if isinstance(real, Run) else real, synthetic)
    if color is not None:
        require_column(cells.held_out, color)
    pools = draw_pools(cells.held_out, cells.synthetic, seed=seed, max_cells=max_cells)
    return pools, None if color is None else cells.held_out.obs[color].astype(str).to_numpy()[pools.real_rows]


def _agreement(pools: Pools, of_genes: Callable[[metrics.Matrix], np.ndarray], title: str, ax: Axes | None) -> Axes:
    """A number of each gene, synthetic over real."""
    ax = _axes(ax, width=4.8, height=4.7)
    plots.draw_agreement(ax, of_genes(pools.real), of_genes(pools.synthetic), title)
    return ax


def _umap(pcs: np.ndarray, seed: int) -> np.ndarray:
    return optional("umap", extra="workflow").UMAP(random_state=seed, n_jobs=1).fit_transform(pcs)


def _axes(ax: Axes | None, *, width: float, height: float) -> Axes:
    """`ax`, or those of a new figure of pyplot's, so that a notebook shows it."""
    if ax is not None:
        return ax
    _, ax = optional("matplotlib.pyplot").subplots(figsize=(width, height), layout="constrained")
    ax.spines[["top", "right"]].set_visible(False)
    return ax
