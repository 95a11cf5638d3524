"""Pictures of real beside synthetic cells, as PNG bytes. Inputs are (cells, genes) log values; no global state."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..extras import optional
from . import metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito's blue and vermillion; Tol's "muted" for cell types: both hold for the common colour blindnesses.
REAL, SYNTHETIC, GREY = "#0072B2", "#D55E00", "#BBBBBB"
TYPE_COLOURS = ("#332288", "#88CCEE", "#44AA99", "#117733", "#999933", "#DDCC77", "#CC6677", "#882255", "#AA4499")
DOTS_PER_INCH = 150
SMALLEST_PICTURE = 5
TSNE_ITERATIONS = 500
MOST_EMBEDDED = 1000


def embed(real: np.ndarray, synthetic: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """t-SNE of the joint principal components, (cell, 2), real cells first."""
    pcs = np.concatenate(metrics.joint_pcs(real, synthetic, seed=seed))
    perplexity = min(30.0, (len(pcs) - 1) / 3)
    embedding = optional("sklearn.manifold").TSNE(
        perplexity=perplexity, random_state=seed, init="pca", max_iter=TSNE_ITERATIONS
    )
    with optional("threadpoolctl").threadpool_limits(1):  # threads that wait for each other 500 times are slower
        return embedding.fit_transform(pcs)


def tsne(
    real: np.ndarray,
    synthetic: np.ndarray,
    *,
    cell_types: Sequence[str] | None = None,
    seed: int = 0,
    max_cells: int = MOST_EMBEDDED,
    points: np.ndarray | None = None,
) -> bytes:
    """`embed`, or its `points`; with `cell_types` of the real cells, a second panel shows those.

    The first `max_cells` of either side. The nine most frequent types have colours, the rest are grey.
    """
    real, synthetic = real[:max_cells], synthetic[:max_cells]
    points = embed(real, synthetic, seed=seed) if points is None else points
    is_real = np.arange(len(points)) < len(real)
    panels = 1 if cell_types is None else 2
    figure, axes = blank_figure(1, panels, width=5.2 * panels + (1.6 if panels == 2 else 0), height=5.0)
    draw_sides(axes[0], points, is_real, seed=seed)
    axes[0].set_title("t-SNE of both together")
    if cell_types is not None:
        draw_types(axes[1], points, is_real, np.asarray(cell_types[:max_cells], dtype=str))
    return to_png(figure)


def draw_sides(axis: Axes, points: np.ndarray, is_real: np.ndarray, *, seed: int = 0) -> None:
    """Points (cell, 2) of an embedding in the colours of the two sides."""
    order = np.random.default_rng(seed).permutation(len(points))  # so that neither side hides the other
    colours = np.where(is_real, REAL, SYNTHETIC)
    axis.scatter(*points[order].T, s=_dot_size(points), c=colours[order], alpha=0.6, linewidths=0)
    for colour, label, side in ((REAL, "real", is_real), (SYNTHETIC, "synthetic", ~is_real)):
        axis.scatter([], [], s=40, c=colour, label=f"{label} ({side.sum():,})", linewidths=0)
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=2, frameon=False, handletextpad=0.2)
    _as_map(axis)


def draw_types(axis: Axes, points: np.ndarray, is_real: np.ndarray, types: np.ndarray) -> None:
    """The same, the real cells in the colours of their `types` (real cell,)."""
    size = _dot_size(points)
    axis.scatter(*points[~is_real].T, s=size, c="#E6E6E6", linewidths=0, label="synthetic")
    names, counts = np.unique(types, return_counts=True)
    names = names[np.argsort(-counts, kind="stable")]
    shown = names[: len(TYPE_COLOURS)]
    rest = ~np.isin(types, shown)
    where = points[is_real]
    if rest.any():
        label = f"{len(names) - len(shown)} other types"
        axis.scatter(*where[rest].T, s=size, c="#888888", linewidths=0, label=label)
    for name, colour in zip(shown, TYPE_COLOURS, strict=False):
        axis.scatter(*where[types == name].T, s=size, c=colour, linewidths=0, label=_shorten(name))
    legend = axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, handletextpad=0.2, fontsize=9)
    for handle in legend.legend_handles:
        handle.set_sizes([40])
    axis.set_title("Cell types of the real ones")
    _as_map(axis)


def _dot_size(points: np.ndarray) -> float:
    return float(np.clip(6000 / len(points), 3, 14))


def _as_map(axis: Axes) -> None:
    axis.set(xticks=[], yticks=[], aspect="equal", adjustable="datalim")
    axis.spines[:].set_color(GREY)


def _shorten(name: str, length: int = 26) -> str:
    # A dollar sign would start mathematics, a leading underscore would hide the entry.
    name = name if len(name) <= length else name[: length - 1] + "…"
    return name.replace("$", r"\$").lstrip("_")


def violins(real: np.ndarray, synthetic: np.ndarray) -> bytes:
    """Coefficient of variation and zero proportion of every gene (scRDiT fig. 4b), from equally many cells.

    Genes whose mean is zero on one side have no coefficient of variation and are left out of that panel.
    """
    cells = min(len(real), len(synthetic))
    real, synthetic = real[:cells], synthetic[:cells]
    variation = np.stack([metrics.coefficient_of_variation(side) for side in (real, synthetic)])
    variation = variation[:, np.isfinite(variation).all(axis=0)]
    zeros = np.stack([metrics.zero_fraction_per_gene(side) for side in (real, synthetic)])
    figure, axes = blank_figure(1, 2, width=9.0, height=4.2)
    for axis, values, title in (
        (axes[0], variation, "Coefficient of variation per gene"),
        (axes[1], zeros, "Zero proportion per gene"),
    ):
        axis.set_title(title)
        add_violins(axis, list(zip(("real", "synthetic"), values, (REAL, SYNTHETIC), strict=True)))
    return to_png(figure)


def add_violins(axis: Axes, sides: Sequence[tuple[str, np.ndarray, str]]) -> None:
    """A violin for each (label, values, colour), with its median and quartiles."""
    axis.set_xticks(range(1, len(sides) + 1), [label for label, _, _ in sides])
    axis.set_xlim(0.4, len(sides) + 0.6)
    for position, (_, side, colour) in enumerate(sides, start=1):
        if len(side) < SMALLEST_PICTURE:
            continue
        if np.ptp(side) > 0:  # a density needs spread
            body = axis.violinplot(side, [position], widths=0.75, showextrema=False, points=200)["bodies"][0]
            body.set(facecolor=colour, edgecolor=colour, alpha=0.45)
        low, middle, high = np.percentile(side, [25, 50, 75])
        axis.vlines(position, low, high, color="#222222", linewidth=5)
        axis.scatter([position], [middle], s=26, color="white", edgecolors="#222222", zorder=3)
        axis.annotate(
            f"median {middle:.3g}", (position, 1.0), (0, -4), xycoords=("data", "axes fraction"),
            textcoords="offset points", ha="center", va="top", fontsize=9, color="#444444",
        )  # fmt: skip
    axis.margins(y=0.02)
    bottom, top = axis.get_ylim()
    axis.set_ylim(bottom, top + 0.1 * (top - bottom))  # room for the medians


def gene_means(real: np.ndarray, synthetic: np.ndarray) -> bytes:
    """Each gene's mean log value and zero fraction, synthetic over real, with the line on which they agree."""
    figure, axes = blank_figure(1, 2, width=9.6, height=4.7)
    for axis, summary, title in (
        (axes[0], metrics.gene_means, "Mean of each gene"),
        (axes[1], metrics.zero_fraction_per_gene, "Zero fraction of each gene"),
    ):
        draw_agreement(axis, summary(real), summary(synthetic), title)
    return to_png(figure)


def draw_agreement(axis: Axes, x: np.ndarray, y: np.ndarray, title: str) -> None:
    """A number of each gene, synthetic (`y`) over real (`x`), with the line on which they agree."""
    low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
    room = 0.04 * (high - low) or 0.5
    ends = [low - room, high + room]
    axis.plot(ends, ends, color="#888888", linewidth=1, linestyle="--", label="equal", zorder=1)
    axis.scatter(x, y, s=9, color=REAL, alpha=0.45, linewidths=0, zorder=2)
    axis.set(title=title, xlabel="real", ylabel="synthetic", xlim=ends, ylim=ends, aspect="equal")
    axis.text(0.04, 0.96, f"r = {metrics.pearson(x, y):.4f}", transform=axis.transAxes, va="top")
    axis.legend(loc="lower right", frameon=False)


def library_sizes(real: np.ndarray, synthetic: np.ndarray) -> bytes:
    """Histograms over cells of the summed log values and of the number of genes detected."""
    figure, axes = blank_figure(1, 2, width=9.6, height=4.0)
    for axis, summary, label in (
        (axes[0], metrics.library_sizes, "sum of log values of a cell"),
        (axes[1], metrics.detected_genes, "genes detected in a cell"),
    ):
        draw_histograms(axis, summary(real), summary(synthetic), label)
    return to_png(figure)


def draw_histograms(axis: Axes, real: np.ndarray, synthetic: np.ndarray, label: str) -> None:
    """Histograms of a number of each cell, both sides in per cent of their cells."""
    bins = np.histogram_bin_edges(np.concatenate([real, synthetic]), bins=40)
    for side, colour, name in ((real, REAL, "real"), (synthetic, SYNTHETIC, "synthetic")):
        style: dict[str, Any] = {"bins": bins, "weights": np.full(len(side), 100 / len(side)), "color": colour}
        axis.hist(side, **style, alpha=0.3)
        axis.hist(side, **style, histtype="step", linewidth=1.5, label=name)
    axis.set(xlabel=label, ylabel="cells, %")
    axis.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, borderaxespad=0)


CURVES = (("held_out_loss", "held-out loss"), ("mmd_blocks", "block MMD (the paper's)"), ("mmd_pca", "PCA-50 MMD"))


def curve(rows: Sequence[Mapping[str, float]]) -> bytes:
    """Evaluations over epochs (scRDiT fig. 3b): each score of CURVES that the rows have, beside its floor."""
    shown = [(name, title) for name, title in CURVES if any(name in row for row in rows)]
    figure, axes = blank_figure(1, len(shown), width=4.6 * len(shown), height=3.6)
    for axis, (name, title) in zip(axes, shown, strict=True):
        draw_curve(axis, rows, name, title)
    return to_png(figure)


def draw_curve(axis: Axes, rows: Sequence[Mapping[str, float]], name: str, title: str) -> None:
    """One score of the evaluations over epochs, beside its floor where it has one."""
    for key, colour, label in ((name, SYNTHETIC, "synthetic"), (f"{name}_floor", REAL, "real vs real")):
        points = [(row["epoch"], row[key]) for row in rows if key in row]
        if points:
            axis.plot(*zip(*points, strict=True), color=colour, label=label, marker="o", markersize=3)
    axis.set(xlabel="epoch", title=title, yscale="log")
    if name != "held_out_loss":
        axis.legend(frameon=False)


def blank_figure(rows: int, columns: int, *, width: float, height: float) -> tuple[Figure, np.ndarray]:
    """A figure of `width` x `height` inches and its axes, with no frame above and to the right."""
    figure = optional("matplotlib.figure").Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")
    figure.get_layout_engine().set(wspace=0.06)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def to_png(figure: Figure) -> bytes:
    """The figure as a PNG file's bytes."""
    buffer = io.BytesIO()
    optional("matplotlib.backends.backend_agg").FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()
