"""Table and pictures of `benchmarks.fidelity`, from its rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from benchmarks.cell_sets import CellSet
from benchmarks.generators import REAL, SHUFFLED
from benchmarks.judging import CALLED, judged_types
from benchmarks.panels import tsne_panels
from benchmarks.rows import Row, markdown, slug
from scrdit_jax.evaluation import metrics, plots
from scrdit_jax.evaluation.scores import Estimate, estimate_text, figure

PICTURED_CELLS = 400
WHOLE = {
    "random_forest_auc": "AUC", "mmd_pca": "PCA-50 MMD", "gene_correlation_error": "gene-gene error",
    "zero_fraction_error": "zero-fraction error", "gene_mean_correlation": "gene means, r",
    "coefficient_of_variation_error": "cv error",
}  # fmt: skip
PAIRED = {"random_forest_auc": "AUC", "mmd_pca": "PCA-50 MMD", "gene_correlation_error": "gene-gene error"}
SIZES = {
    "zero_fraction_difference": "zero fraction, difference", "library_size_spread": "library size, sd ratio",
    "library_size_ks": "library size, KS", "detected_genes_ratio": "detected genes, mean ratio",
    "detected_genes_spread": "detected genes, sd ratio", "detected_genes_ks": "detected genes, KS",
}  # fmt: skip
NOTES = """\
AUC: of a random forest that tells synthetic from real cells by 50 principal components, 0.5 is best; all errors, MMD
and KS are best low, ratios and correlations near 1. *real vs real* are training cells in the generator's place: nothing
can be expected to do better; *genes shuffled* are those with each gene permuted on its own. By type: mean over types
of at least 100 training cells, as many cells a side as the smaller has; a generator that makes under 10 cells of a type
is not scored there. Markers: log fold changes of the 20 best of each type in the training cells, and what is left of
them. Nearest is a training cell: share of cells whose nearest real neighbour is a training cell rather than a held-out
one, at equal numbers of both. Near training: share of cells nearer to a training cell than 95 % of held-out cells are;
near held-out: the same of held-out cells in the training cells' place. In brackets: held-out cells in the generator's
place. Copies are near to training cells alone; cells that are too average are near to both.
"""


def describe(cells: CellSet) -> dict[str, Any]:
    """What the table says of a data set."""
    metadata = cells.prepared.metadata
    return {
        "name": cells.name, "training": metadata.n_train, "held_out": metadata.n_held_out,
        "reference": len(cells.reference),
        "genes": len(metadata.genes), "normalization": metadata.normalization.method, "types": judged_types(cells),
        "classifier_accuracy": cells.space.accuracy,
    }  # fmt: skip


def page(rows: Sequence[Row], about: dict[str, Any]) -> str:
    """Every table, as Markdown."""
    parts = [
        f"`{about['command']}`: {about['devices']} x {about['kind']}; mean ± deviation of {about['seeds']} seeds.\n",
        NOTES,
    ]
    for cells in about["sets"]:
        of = [row for row in rows if row["data"] == cells["name"]]
        skipped = [one for one in about["skipped"] if one["data"] == cells["name"]]
        parts.append(
            f"## {cells['name']}: {cells['training']} training cells, {cells['reference']} {about['on']} cells, "
            f"{cells['genes']} genes\n"
        )
        parts.append("### All cells\n\n" + _table(of, WHOLE, skipped))
        parts.append("### Sizes\n\n" + _table(of, SIZES, []))
        if paired := _paired(of):
            parts.append(paired)
        parts.append("### Types, copying and cost\n\n" + _details(of) + _label_note(of, cells))
        if cells["types"]:
            parts.append("### AUC (PCA-50 MMD) of each type\n\n" + _types(of, cells["types"]))
    return "\n".join(parts)


def names_of(rows: Sequence[Row]) -> list[str]:
    """Generators in the order of the rows, the controls last."""
    names = list(dict.fromkeys(row["generator"] for row in rows))
    return sorted(names, key=lambda name: (name in (REAL, SHUFFLED), name == SHUFFLED))


def estimate(rows: Sequence[Row], name: str, value: Callable[[Row], float | None]) -> Estimate | None:
    """Over the seeds of a generator; None where there is nothing."""
    found = [value(row) for row in rows if row["generator"] == name]
    found = [number for number in found if number is not None and np.isfinite(number)]
    if not found:
        return None
    return Estimate(float(np.mean(found)), float(np.std(found, ddof=1)) if len(found) > 1 else 0.0)


def _text(rows: Sequence[Row], name: str, value: Callable[[Row], float | None]) -> str:
    found = estimate(rows, name, value)
    return "-" if found is None else estimate_text(found)


def _label(name: str) -> str:
    return f"*{name}*" if name in (REAL, SHUFFLED) else name


def _table(rows: Sequence[Row], columns: dict[str, str], skipped: Sequence[dict[str, str]]) -> str:
    lines = [
        [_label(name), *(_text(rows, name, lambda row, score=score: row["whole"][score]) for score in columns)]
        for name in names_of(rows)
    ]
    lines += [[one["generator"], f"skipped: {one['reason']}", *[""] * (len(columns) - 1)] for one in skipped]
    return markdown(["generator", *columns.values()], lines)


def _paired(rows: Sequence[Row]) -> str:
    """Of several samplers of ours, the differences from the first, seed by seed; nothing where there are none."""
    ours = [name for name in names_of(rows) if any(row["generator"] == name and _samples(row) for row in rows)]
    if len(ours) < 2:
        return ""
    first, lines = {row["seed"]: row["whole"] for row in rows if row["generator"] == ours[0]}, []
    for name in ours[1:]:
        line = [name]
        for score in PAIRED:
            found = [
                row["whole"][score] - first[row["seed"]][score]
                for row in rows
                if row["generator"] == name and row["seed"] in first
            ]
            deviation = np.std(found, ddof=1) if len(found) > 1 else 0.0
            line.append(f"{np.mean(found):+.4f} ± {deviation:.4f}")
        lines.append(line)
    heading = f"### Differences from {ours[0]}, seed by seed\n\nAbove 0: worse than it.\n\n"
    return heading + markdown(["generator", *PAIRED.values()], lines)


def _samples(row: Row) -> bool:
    return "sampling" in row["made_by"]


def mean_over_types(row: Row, score: str) -> float | None:
    """Of the types that had enough cells; None where none had."""
    found = [of_type[score] for of_type in row["types"].values() if score in of_type]
    return float(np.mean(found)) if found else None


def _details(rows: Sequence[Row]) -> str:
    header = [
        "generator", "AUC by type", "MMD by type", "markers, r", "markers, error", "nearest is a training cell",
        "near training", "near held-out", "fit, s", "cells/s",
    ]  # fmt: skip
    return markdown(header, [_detail_line(rows, name) for name in names_of(rows)])


def _detail_line(rows: Sequence[Row], name: str) -> list[str]:
    first = next(row for row in rows if row["generator"] == name)

    def copying(score: str) -> str:
        own = estimate(rows, name, lambda row: row["memorisation"][score])
        there = estimate(rows, name, lambda row: row["memorisation"][f"held_out_{score}"])
        return (f"{estimate_text(own)} " if own else "") + (f"({figure(there.mean)})" if there else "-")

    return [
        _label(name) + (" †" if first["markers"] and first["labels"] == CALLED else ""),
        _text(rows, name, lambda row: mean_over_types(row, "random_forest_auc")),
        _text(rows, name, lambda row: mean_over_types(row, "mmd_pca")),
        _text(rows, name, lambda row: row["markers"] and row["markers"]["correlation"]),
        _text(rows, name, lambda row: row["markers"] and row["markers"]["error"]),
        copying("nearest_is_training"), copying("copied"),
        _text(rows, name, lambda row: row["memorisation"]["near_held_out"]),
        _plain(estimate(rows, name, lambda row: row["fit_seconds"])),
        _plain(estimate(rows, name, lambda row: row["cells_per_second"])),
    ]  # fmt: skip


def _plain(found: Estimate | None) -> str:
    if found is None:
        return "-"
    return f"{found.mean:,.0f}" if found.mean >= 10 else f"{found.mean:.2g}"


def _label_note(rows: Sequence[Row], cells: dict[str, Any]) -> str:
    if cells["classifier_accuracy"] is None:
        return "\nThe cells have no types.\n"
    note = (
        f"\n† types are what a logistic classifier, trained on the real training cells, calls them (it is right for "
        f"{cells['classifier_accuracy']:.1%} of the real reference cells)"
    )
    floor = [row["markers"] for row in rows if row["generator"] == REAL and row["markers"]]
    if floor:
        note += (
            f"; real cells so called keep their markers with r = {floor[0]['correlation_called']:.3f}, error "
            f"{floor[0]['error_called']:.3f}"
        )
    return note + ".\n"


def _types(rows: Sequence[Row], types: Sequence[str]) -> str:
    def both(of_type: str, name: str) -> str:
        auc, mmd = (
            estimate(rows, name, lambda row, score=score: row["types"].get(of_type, {}).get(score))
            for score in ("random_forest_auc", "mmd_pca")
        )
        return "too few cells" if auc is None or mmd is None else f"{auc.mean:.2f} ({figure(mmd.mean)})"

    def real(of_type: str) -> str:
        return str(next((row["types"][of_type]["cells"] for row in rows if row["generator"] == REAL), "-"))

    names = names_of(rows)
    lines = [[of_type, real(of_type), *(both(of_type, name) for name in names)] for of_type in types]
    return markdown(["type", "real cells", *map(_label, names)], lines)


def pictures(rows: Sequence[Row], sets: Sequence[CellSet], work: Path) -> dict[str, bytes]:
    """By file name; of generators whose cells are still in `work`."""
    found = {}
    for cells in sets:
        of = [row for row in rows if row["data"] == cells.name]
        found[f"bars-{slug(cells.name)}.png"] = bars(of)
        drawn = []
        for name in names_of(of):
            first = next(row for row in of if row["generator"] == name)
            path = work / f"{first['kept']}.npz"
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
    panels: list[tuple[str, Callable[[Row], float | None]]] = [
        ("Random-forest AUC", lambda row: row["whole"]["random_forest_auc"]),
        ("AUC, mean over types", lambda row: mean_over_types(row, "random_forest_auc")),
        ("PCA-50 MMD", lambda row: row["whole"]["mmd_pca"]),
        ("PCA-50 MMD, mean over types", lambda row: mean_over_types(row, "mmd_pca")),
        ("Gene-gene correlation error", lambda row: row["whole"]["gene_correlation_error"]),
        ("Markers: error of log fold changes", lambda row: row["markers"] and row["markers"]["error"]),
    ]
    names = [name for name in names_of(rows) if name != REAL][::-1]
    figure_, axes = plots.blank_figure(2, 3, width=13.0, height=2.2 + 0.7 * len(names))
    # Pairs that are read together stand above each other.
    order = [axes[0], axes[3], axes[1], axes[4], axes[2], axes[5]]
    for axis, (title, value) in zip(order, panels, strict=True):
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
        if axis not in (axes[0], axes[3]):
            axis.tick_params(labelleft=False)  # the names stand once a line
        if title.startswith(("Random-forest", "AUC")):
            axis.set_xlim(min([0.4, *(one.mean - one.sd - 0.02 for one in found if one)]), 1.02)
    handles, labels = order[0].get_legend_handles_labels()
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
