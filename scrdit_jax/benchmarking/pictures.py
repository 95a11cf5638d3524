"""The two pictures of a benchmark, as PNG bytes."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import Any

from ..evaluation.comparison import REAL
from ..evaluation.plots import TYPE_COLOURS, blank_figure, to_png

MARKERS = "os^Dv*PX<"


def throughput_against_batch(values: Mapping[str, Any]) -> bytes:
    """Cell-evaluations a second over batch size; on the right, the same as a share of the matrix product's rate."""
    figure, (axis,) = blank_figure(1, 1, width=6.4, height=4.2)
    sizes, found = zip(*values["found"]["batch_sweep"], strict=True)
    axis.plot(sizes, found, color="#0072B2", marker="o")
    axis.set_xscale("log", base=2)
    axis.set_xticks(sizes, [str(int(size)) for size in sizes])
    axis.minorticks_off()
    axis.set(xlabel="cells in a batch", ylabel="cell-evaluations a second", ylim=(0, 1.15 * max(found)))
    axis.set_title(
        f"{values['parameters'] / 1e6:.1f} M parameters, {values['settings']['dtype']}, {values['device']['kind']}"
    )
    if values["rows"]:
        limit = values["found"]["matrix"] / values["rows"][0]["flops_per_cell_evaluation"]
        right = axis.secondary_yaxis("right", functions=(lambda y: 100 * y / limit, lambda y: y * limit / 100))
        right.set_ylabel("% of the matrix product's rate")
    return to_png(figure)


def quality_against_time(values: Mapping[str, Any]) -> bytes:
    """PCA-50 MMD over seconds for a thousand cells, one line a solver, beside what real cells reach."""
    figure, (axis,) = blank_figure(1, 1, width=8.2, height=5.0)
    lines: dict[str, list[tuple[float, float, float, int]]] = {}
    for row in values["rows"]:
        if row["quality"] and row["quality"]["mmd_pca"]["mean"] is not None:
            score = row["quality"]["mmd_pca"]
            seconds = 1000 / row["cells_per_second"]["median"]
            name = row["solver"] + (", fitted timesteps" if row["fitted"] else "")
            lines.setdefault(name, []).append((seconds, score["mean"], score["sd"], row["steps"]))
    for (name, points), colour, marker in zip(lines.items(), cycle(TYPE_COLOURS), cycle(MARKERS), strict=False):
        seconds, means, deviations, steps = zip(*sorted(points), strict=True)
        # On a logarithmic scale a bar must not reach zero.
        below = [min(sd, 0.9 * mean) for mean, sd in zip(means, deviations, strict=True)]
        axis.errorbar(seconds, means, yerr=[below, deviations], color=colour, marker=marker, label=name, capsize=2)
        for at, mean, count in zip(seconds, means, steps, strict=True):
            axis.annotate(str(count), (at, mean), (3, 4), textcoords="offset points", fontsize=7, color=colour)
    floor = values["found"].get("floors", {}).get(REAL)
    if floor:
        axis.axhline(floor["mmd_pca"]["mean"], color="#888888", linestyle="--", linewidth=1, label=REAL)
    axis.set(xscale="log", yscale="log", xlabel="seconds for 1,000 cells", ylabel="PCA-50 MMD (lower is better)")
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    axis.set_title("What speed costs; numbers are network evaluations a cell")
    return to_png(figure)
