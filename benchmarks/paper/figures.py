"""Figures 3a-c and 4a-c, from the rows and the cells that were kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.commands import slug
from benchmarks.panels import tsne_panels
from benchmarks.paper.tables import LABELS, accelerated_rows, drawn_rows, main_rows, mean_score
from scrdit_jax.benchmarking.store import Row
from scrdit_jax.evaluation import metrics, plots
from scrdit_jax.extras import optional

PICTURED_CELLS = 400


def pictures(rows: list[Row], work: Path) -> dict[str, bytes]:
    """By file name; those of cells only where `work` has them still."""
    found: dict[str, bytes] = {}
    names = list(dict.fromkeys(row["cells"] for row in rows))
    kept = [row for row in rows if "system" in row]
    if any(row["system"] == "unet" for row in kept):
        found = _of_training(rows, names, work)
    found["figure_4c.png"] = curves(rows, names, (1, 0), "acceleration", accelerated_rows)
    found["evaluations.png"] = evaluations(rows, names)
    return found


def _of_training(rows: list[Row], names: list[str], work: Path) -> dict[str, bytes]:
    """Figures 3a-c, 4a and 4b."""
    found: dict[str, bytes] = {}
    kept = [row for row in rows if "system" in row]
    for name in names:
        main = main_rows([row for row in kept if row["cells"] == name])
        tag = "" if len(names) == 1 else f"_{names.index(name) + 1}"
        pictured = [*main["dit-zn"], main["dit"][-1]]
        if not all(path.is_file() for path in (_real_path(work, name), *(_kept(row, work) for row in pictured))):
            continue  # the cells were deleted, or the rows measured elsewhere
        found[f"figure_3a{tag}.png"] = fitting(main["dit-zn"], name, work)
        found[f"figure_3c{tag}.png"] = fitting(main["dit-zn"][-1:], name, work)
        found[f"figure_4b{tag}.png"] = violins([main["dit"][-1], main["dit-zn"][-1]], name, work)
    found["figure_3b.png"] = curves(rows, names, ("dit-zn",), "epochs", main_rows)
    found["figure_4a.png"] = curves(rows, names, ("dit-zn", "dit", "unet"), "epochs", main_rows)
    return found


def _kept(row: Row, work: Path) -> Path:
    return work / f"{row['name']}.0.npz"


def curves(
    rows: list[Row], names: list[str], lines: tuple[Any, ...], along: str, choose: Callable[[list[Row]], Any]
) -> bytes:
    """MMD as the paper computes it along epochs or acceleration: a colour for each set of cells, a style for each line.

    `choose` gives the rows of every one of `lines`, which are systems or values of eta.
    """
    figure, (axis,) = plots.blank_figure(1, 1, width=6.4, height=4.2)
    for colour, name in zip(plots.TYPE_COLOURS, names, strict=False):
        chosen = choose([row for row in rows if row["cells"] == name])
        for style, line in zip(("-", "--", ":"), lines, strict=False):
            label = LABELS.get(line, f"eta = {line}")
            places = [stage[along] for stage in chosen[line]]
            means = [mean_score(stage, "mmd") for stage in chosen[line]]
            axis.plot(places, means, style, marker="o", markersize=4, color=colour, label=f"{name}, {label}")
        floor = next(row for row in rows if row["cells"] == name and "system" not in row)
        axis.axhline(mean_score(floor, "mmd"), color=colour, linewidth=0.8, label=f"{name}, real against real")
    ticker = optional("matplotlib.ticker")
    axis.set(xlabel=along, ylabel="MMD", yscale="log")
    if along == "acceleration":
        axis.set_xscale("log")
        axis.set_xticks(sorted({row[along] for row in rows if along in row}))
    for scale in (axis.xaxis, axis.yaxis):
        scale.set_major_formatter(ticker.FormatStrFormatter("%g"))
        scale.set_minor_formatter(ticker.NullFormatter() if scale is axis.xaxis else ticker.FormatStrFormatter("%g"))
    axis.legend(frameon=False, fontsize=8)
    return plots.to_png(figure)


def evaluations(rows: list[Row], names: list[str]) -> bytes:
    """Distance to held-out cells against network evaluations a cell: DDIM on the paper's timesteps, and drawn genes."""
    figure, axes = plots.blank_figure(1, len(names), width=4.6 * len(names) + 0.8, height=3.6)
    for axis, name in zip(axes, names, strict=True):
        of = [row for row in rows if row["cells"] == name]
        ddim = accelerated_rows(of)
        lines = [
            (f"DDPM and DDIM, eta = {eta:g}", ddim[eta], plots.GREY, style) for eta, style in ((1, "-"), (0, "--"))
        ]
        for label, stages, colour, style in [*lines, ("genes drawn", drawn_rows(of), plots.SYNTHETIC, "-")]:
            places = [stage["evaluations"] for stage in stages]
            means = [mean_score(stage, "mmd_pca_held_out") for stage in stages]
            axis.plot(places, means, style, marker="o", markersize=4, color=colour, label=label)
        floor = next(row for row in of if "system" not in row)
        axis.axhline(mean_score(floor, "mmd_pca_held_out"), color=plots.REAL, linewidth=0.8, label="training cells")
        ticker = optional("matplotlib.ticker")
        axis.set(title=name, xlabel="network evaluations a cell", xscale="log", yscale="log")
        axis.set_xticks(sorted({stage["evaluations"] for stages in ddim.values() for stage in stages}))
        axis.xaxis.set_minor_formatter(ticker.NullFormatter())
        for scale in (axis.xaxis, axis.yaxis):
            scale.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axes[0].set_ylabel("MMD to held-out cells")
    axes[0].legend(frameon=False, fontsize=8)
    return plots.to_png(figure)


def fitting(stages: list[Row], name: str, work: Path) -> bytes:
    """t-SNE of real cells and those of a stage, a panel each (scRDiT fig. 3a; one stage: 3c)."""
    real = _load(_real_path(work, name))[:PICTURED_CELLS]
    drawn = [_load(_kept(stage, work))[:PICTURED_CELLS] for stage in stages]
    titles = [f"{name}, {stage['epochs']} epochs" for stage in stages]
    return tsne_panels(real, list(zip(titles, drawn, strict=True)), columns=len(stages))


def violins(stages: list[Row], name: str, work: Path) -> bytes:
    """Coefficient of variation and zero proportion of every gene, real and without and with zero-negation (fig. 4b)."""
    sides = [("real", _load(_real_path(work, name)), plots.REAL)]
    colours = (plots.GREY, plots.SYNTHETIC)
    for stage, colour in zip(stages, colours, strict=True):
        sides.append((LABELS[stage["system"]], _load(_kept(stage, work)), colour))
    cells = min(len(values) for _, values, _ in sides)  # the coefficient of variation grows with the number of cells
    figure, axes = plots.blank_figure(1, 2, width=10.0, height=4.2)
    for axis, measure, title in (
        (axes[0], metrics.coefficient_of_variation, "Coefficient of variation per gene"),
        (axes[1], metrics.zero_fraction_per_gene, "Zero proportion per gene"),
    ):
        axis.set_title(f"{title}, {name}")
        of_genes = [(label, measure(values[:cells]), colour) for label, values, colour in sides]
        plots.add_violins(axis, [(label, found[np.isfinite(found)], colour) for label, found, colour in of_genes])
    return plots.to_png(figure)


def _real_path(work: Path, name: str) -> Path:
    return work / f"{slug(name)}.real.npz"


def _load(path: Path) -> np.ndarray:
    with np.load(path, allow_pickle=False) as file:
        return file["cells"]
