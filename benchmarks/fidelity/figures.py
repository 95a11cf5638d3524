"""Pictures of a comparison, from its rows and the cells that were kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from benchmarks.commands import slug
from benchmarks.fidelity.cell_sets import CellSet
from benchmarks.fidelity.tables import estimate, mean_over_types, names_of
from benchmarks.panels import tsne_panels
from scrdit_jax.benchmarking.store import Row
from scrdit_jax.evaluation import metrics, plots
from scrdit_jax.evaluation.comparison import REAL, SHUFFLED

PICTURED_CELLS = 400
# Titles, and what they show of a row.
Panels = list[tuple[str, Callable[[Row], float | None]]]


def pictures(rows: Sequence[Row], sets: Sequence[CellSet], work: Path) -> dict[str, bytes]:
    """By file name; of generators whose cells are still in `work`."""
    found = {}
    for cells in sets:
        of = [row for row in rows if row["data"] == cells.name]
        found[f"bars-{slug(cells.name)}.png"] = bars(of)
        drawn = []
        for name in names_of(of):
            first = next(row for row in of if row["generator"] == name)
            path = work / f"{first['name']}.npz"
            if path.is_file():
                drawn.append((name, sparse.load_npz(path).toarray()))
        if drawn:
            real = cells.reference
            few = [(name, made[:PICTURED_CELLS]) for name, made in drawn]
            found[f"tsne-{slug(cells.name)}.png"] = tsne_panels(real[:PICTURED_CELLS], few)
            found[f"marginals-{slug(cells.name)}.png"] = marginals(real, drawn)
    return found


def bars(rows: Sequence[Row]) -> bytes:
    """The leading scores of every generator with their deviations, and a line where real cells lie."""
    of_all: Panels = [
        ("Random-forest AUC", lambda row: row["whole"]["random_forest_auc"]),
        ("PCA-50 MMD", lambda row: row["whole"]["mmd_pca"]),
        ("Gene-gene correlation error", lambda row: row["whole"]["gene_correlation_error"]),
    ]
    of_types: Panels = [
        ("AUC, mean over types", lambda row: mean_over_types(row, "random_forest_auc")),
        ("PCA-50 MMD, mean over types", lambda row: mean_over_types(row, "mmd_pca")),
        ("Markers: error of log fold changes", lambda row: row["markers"] and row["markers"]["error"]),
    ]
    names = [name for name in names_of(rows) if name != REAL][::-1]
    # Cells without types have none of the second line.
    lines = [of_all] + [of_types] * any(estimate(rows, name, value) for name in names for _, value in of_types)
    height = 1.6 + (0.3 + 0.35 * len(names)) * len(lines)
    figure_, axes = plots.blank_figure(len(lines), 3, width=13.0, height=height)
    for axis, (title, value) in zip(axes, [panel for line in lines for panel in line], strict=True):
        found = [estimate(rows, name, value) for name in names]
        axis.barh(
            names, [one.mean if one else 0 for one in found], xerr=[one.sd if one else 0 for one in found],
            color=[plots.GREY if name == SHUFFLED else plots.SYNTHETIC for name in names], height=0.6,
            error_kw={"capsize": 3, "ecolor": "#444444"},
        )  # fmt: skip
        floor = estimate(rows, REAL, value)
        if floor:
            axis.axvspan(floor.mean - floor.sd, floor.mean + floor.sd, color=plots.REAL, alpha=0.15, linewidth=0)
            axis.axvline(floor.mean, color=plots.REAL, linestyle="--", label=REAL)
        axis.set_title(title)
        if axis not in axes[::3]:
            axis.tick_params(labelleft=False)  # the names stand once a line
        if title.startswith(("Random-forest", "AUC")):
            axis.set_xlim(min([0.4, *(one.mean - one.sd - 0.02 for one in found if one)]), 1.02)
    handles, labels = axes[0].get_legend_handles_labels()
    if handles:
        figure_.legend(handles, labels, loc="outside lower center", frameon=False)
    return plots.to_png(figure_)


def marginals(real: np.ndarray, drawn: Sequence[tuple[str, np.ndarray]]) -> bytes:
    """A column for each generator: zero fraction and cv of every gene over the real ones', sizes of cells."""
    figure_, axes = plots.blank_figure(4, len(drawn), width=3.3 * len(drawn), height=12.5)
    for column, (name, made) in enumerate(drawn):
        size = min(len(real), len(made))  # a coefficient of variation depends on it
        sides = real[:size], made[:size]
        of_column = axes[column :: len(drawn)]
        of_column[0].set_title(name)
        _agreement(of_column[0], *map(metrics.zero_fraction_per_gene, sides), "zero fraction of a gene")
        _agreement(of_column[1], *map(metrics.coefficient_of_variation, sides), "cv of a gene", log=True)
        _histograms(of_column[2], *map(metrics.library_sizes, sides), "sum of log values")
        _histograms(of_column[3], *map(metrics.detected_genes, sides), "genes detected")
    return plots.to_png(figure_)


def _agreement(axis: Any, real: np.ndarray, made: np.ndarray, label: str, *, log: bool = False) -> None:
    there = np.isfinite(real) & np.isfinite(made) & ((real > 0) & (made > 0) | (not log))
    real, made = real[there], made[there]
    if not len(real):
        return
    ends = [min(real.min(), made.min()), max(real.max(), made.max())]
    axis.plot(ends, ends, color="#888888", linewidth=1, linestyle="--", zorder=1)
    axis.scatter(real, made, s=6, color=plots.SYNTHETIC, alpha=0.4, linewidths=0, zorder=2)
    if log:
        axis.set(xscale="log", yscale="log")
    axis.set(xlabel=f"{label}, real", ylabel="generated", aspect="equal")


def _histograms(axis: Any, real: np.ndarray, made: np.ndarray, label: str) -> None:
    bins = np.histogram_bin_edges(np.concatenate([real, made]), bins=30)
    for side, colour, name in ((real, plots.REAL, "real"), (made, plots.SYNTHETIC, "generated")):
        weights = np.full(len(side), 100 / len(side))
        axis.hist(side, bins=bins, weights=weights, color=colour, alpha=0.3)
        axis.hist(side, bins=bins, weights=weights, color=colour, histtype="step", linewidth=1.4, label=name)
    axis.set(xlabel=label, ylabel="cells, %")
    axis.legend(frameon=False, fontsize=8)
