"""Pictures of what was found again, as PNG bytes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.fidelity.workflow_figures import colours_of_types
from benchmarks.simulate.differential import EDGES, LEVEL, TESTS, power
from scrdit_jax.evaluation import plots

COLOURS = dict(zip(TESTS, ("#0072B2", "#56B4E9", "#D55E00", "#E69F00"), strict=True))
SHADES = ("#CC79A7", "#E69F00", "#009E73", "#0072B2", "#000000")
BATCH_COLOURS = ("#0072B2", "#D55E00", "#009E73")


def power_picture(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Power against strength, a panel a test and a line a number of cells, of genes that are expressed enough."""
    sizes = sorted({row["cells"] for row in rows})
    figure, axes = plots.blank_figure(1, len(TESTS), width=4.0 * len(TESTS), height=4.0)
    middles = [(low + high) / 2 for low, high in itertools.pairwise(EDGES)]
    for axis, (test, title) in zip(axes, TESTS.items(), strict=True):
        for size, colour in zip(sizes, SHADES, strict=False):
            chosen = [row for row in rows if (row["test"], row["cells"]) == (test, size)]
            for enough, line in ((True, "-"), (False, ":")):
                values = [power(chosen, low, enough) for low in EDGES[:-1]]
                label = f"{size:,}" if enough else None
                axis.plot(middles, values, line, color=colour, marker="o", markersize=4, label=label)
        axis.set(title=title, xlabel="|log2 fold change|", ylim=(-0.03, 1.03))
        axis.grid(color="#EEEEEE")
    axes[0].set_ylabel(f"share of planted genes found, FDR {LEVEL:g}")
    axes[-1].legend(title="cells a group", frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return plots.to_png(figure)


def calibration_picture(panels: Mapping[str, Mapping[str, np.ndarray]]) -> bytes:
    """Sorted p values of null genes against those of uniform ones, on a log scale; a panel a kind of null."""
    figure, axes = plots.blank_figure(1, len(panels), width=4.4 * len(panels), height=4.4)
    for axis, (title, tests) in zip(axes, panels.items(), strict=True):
        for test, p in tests.items():
            p = np.sort(p[np.isfinite(p)])
            expected = (np.arange(len(p)) + 0.5) / len(p)
            axis.plot(-np.log10(expected), -np.log10(np.maximum(p, 1e-12)), color=COLOURS[test], label=TESTS[test])
        axis.plot([0, 4], [0, 4], "--", color="#444444", linewidth=1)
        axis.set(title=title, xlabel="expected  -log10 p", xlim=(0, 4), ylim=(0, 8))
        axis.grid(color="#EEEEEE")
    axes[0].set_ylabel("seen  -log10 p")
    axes[0].legend(frameon=False, loc="upper left")
    return plots.to_png(figure)


def zeros_picture(real: tuple[np.ndarray, np.ndarray], panels: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> bytes:
    """Share of zeros against mean count of each gene, over those of real cells."""
    figure, axes = plots.blank_figure(1, len(panels), width=3.6 * len(panels), height=3.9)
    for axis, (title, (mean, share)) in zip(axes, panels.items(), strict=True):
        axis.scatter(*real, s=5, c=plots.GREY, linewidths=0, label="real")
        axis.scatter(mean, share, s=5, c=plots.SYNTHETIC, linewidths=0, alpha=0.7, label="simulated")
        axis.set(title=title, xscale="log", xlim=(2e-3, 100), ylim=(-0.03, 1.03), xlabel="mean count")
    axes[0].set_ylabel("share of zeros")
    axes[0].legend(frameon=False, loc="lower left", markerscale=3)
    return plots.to_png(figure)


def integration_picture(
    panels: Mapping[str, np.ndarray], batch: np.ndarray, types: np.ndarray, scores: Mapping[str, Mapping[str, float]]
) -> bytes:
    """t-SNE of each way, by batch above and by cell type below."""
    figure, axes = plots.blank_figure(2, len(panels), width=4.2 * len(panels), height=8.6)
    by_type = colours_of_types(types)
    names = sorted(set(batch))
    by_batch = dict(zip(names, BATCH_COLOURS, strict=False))
    order = np.random.default_rng(0).permutation(len(batch))
    for column, (title, points) in enumerate(panels.items()):
        for row, colours in enumerate(([by_batch[b] for b in batch], [by_type.get(t, "#888888") for t in types])):
            axis = axes[row * len(panels) + column]
            axis.scatter(*points[order].T, s=6, c=np.asarray(colours)[order], linewidths=0)
            axis.set(xticks=[], yticks=[])
        found = scores[title]
        axes[column].set_title(f"{title}\niLISI {found['ilisi']:.2f}")
        axes[len(panels) + column].set_xlabel(
            f"cLISI {found['clisi']:.2f}, types by neighbours {found['type_accuracy']:.0%}"
        )
    for axis, colours in ((axes[0], by_batch), (axes[len(panels)], by_type)):
        for name, colour in colours.items():
            axis.scatter([], [], s=24, c=colour, label=name)
        axis.legend(frameon=False, fontsize=7, loc="best", handletextpad=0.1)
    axes[0].set_ylabel("batch")
    axes[len(panels)].set_ylabel("cell type")
    return plots.to_png(figure)
