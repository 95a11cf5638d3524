"""UMAPs of real and synthetic cells after scanpy's workflow, as PNG bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from anndata import AnnData

from scrdit_jax.evaluation import plots
from scrdit_jax.evaluation.metrics import dense

# Brewer's "Paired" but for its yellow and with its dark colours first: Leiden finds more clusters than there are types.
CLUSTER_COLOURS = (
    "#1f78b4", "#33a02c", "#e31a1c", "#ff7f00", "#6a3d9a", "#b15928", "#a6cee3", "#b2df8a", "#fb9a99", "#fdbf6f",
    "#cab2d6", "#d9b38c",
)  # fmt: skip
# Okabe & Ito's, but for the grey that cells without any marker have.
MARKER_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
FAINT = (0.88, 0.88, 0.88)
HIGH = 99


def workflow_picture(real: AnnData, synthetic: AnnData, markers: Sequence[str]) -> bytes:
    """Real cells above, synthetic ones below; by Leiden cluster, by type, and by the strongest of some markers.

    Both have X_umap, `obs.leiden` with names that agree, `obs.type`, and log expression in X.
    """
    figure, axes = plots.blank_figure(2, 3, width=11.0, height=7.4)
    types = colours_of_types(real.obs["type"].to_numpy(str))
    tops = [max(float(np.percentile(_expression(real, gene), HIGH)), 1e-9) for gene in markers]
    for row, (title, cells) in enumerate((("real", real), ("synthetic", synthetic))):
        places, order = cells.obsm["X_umap"], np.random.default_rng(0).permutation(cells.n_obs)
        clusters, names = (cells.obs[column].to_numpy(str) for column in ("leiden", "type"))
        panels = (
            [CLUSTER_COLOURS[int(name) % len(CLUSTER_COLOURS)] for name in clusters],
            [types.get(name, "#888888") for name in names],
            _by_marker(cells, markers, tops),
        )
        for axis, colours in zip(axes[3 * row : 3 * row + 3], panels, strict=True):
            axis.scatter(*places[order].T, s=5, c=np.asarray(colours)[order], linewidths=0)
            _plain(axis, real.obsm["X_umap"], synthetic.obsm["X_umap"])
        _number(axes[3 * row], places, clusters)
        axes[3 * row].set_ylabel(f"{title}\n{cells.n_obs:,} cells", fontsize=15)
    for axis, title in zip(axes, ("Leiden clusters", "Cell types", "Markers"), strict=False):
        axis.set_title(title, fontsize=15)
    _legend(axes[4], types, ncols=2)
    _legend(axes[5], dict(zip(markers, MARKER_COLOURS, strict=False)), ncols=3)
    axes[3].text(
        0.5, -0.04, "same number: most similar real cluster", transform=axes[3].transAxes, ha="center", va="top",
        fontsize=11, color="#444444",
    )  # fmt: skip
    return plots.to_png(figure)


def joint_picture(cells: AnnData, real_types: np.ndarray) -> bytes:
    """One UMAP of both sides together: by side, by type, by Leiden cluster."""
    figure, axes = plots.blank_figure(1, 3, width=11.0, height=4.4)
    order, places = np.random.default_rng(0).permutation(cells.n_obs), cells.obsm["X_umap"]
    sides = dict(zip(dict.fromkeys(cells.obs["side"]), (plots.REAL, plots.SYNTHETIC), strict=True))
    types = colours_of_types(real_types)
    clusters = cells.obs["leiden"].to_numpy(str)
    panels = (
        ("Real and synthetic", [sides[name] for name in cells.obs["side"]]),
        ("Cell types", [types.get(name, "#888888") for name in cells.obs["type"]]),
        ("Leiden clusters", [CLUSTER_COLOURS[int(name) % len(CLUSTER_COLOURS)] for name in clusters]),
    )
    for axis, (title, colours) in zip(axes, panels, strict=True):
        axis.scatter(*places[order].T, s=8, c=np.asarray(colours)[order], linewidths=0)
        axis.set_title(title, fontsize=15)
        _plain(axis, places)
    named = {("real" if colour == plots.REAL else name): colour for name, colour in sides.items()}
    _legend(axes[0], named, ncols=2)
    _legend(axes[1], types, ncols=2)
    _number(axes[2], places, clusters)
    return plots.to_png(figure)


def colours_of_types(types: np.ndarray) -> dict[str, str]:
    """A colour for each of the nine most frequent types, those first."""
    names, counts = np.unique(types, return_counts=True)
    frequent = names[np.argsort(-counts, kind="stable")]
    return dict(zip(map(str, frequent), plots.TYPE_COLOURS, strict=False))


def _expression(cells: AnnData, gene: str) -> np.ndarray:
    return dense(cells[:, [gene]].X).ravel()


def _by_marker(cells: AnnData, markers: Sequence[str], tops: Sequence[float]) -> np.ndarray:
    """The colour of each cell's strongest marker, as far from grey as it is strong; (cell, 3)."""
    if not markers:
        return np.tile(FAINT, (cells.n_obs, 1))
    from matplotlib.colors import to_rgb

    levels = np.stack([_expression(cells, gene) / top for gene, top in zip(markers, tops, strict=True)])
    strongest, level = levels.argmax(axis=0), np.clip(levels.max(axis=0), 0, 1)[:, None]
    colours = np.array([to_rgb(colour) for colour in MARKER_COLOURS])[strongest % len(MARKER_COLOURS)]
    return level * colours + (1 - level) * np.array(FAINT)


def _number(axis: Any, places: np.ndarray, clusters: np.ndarray) -> None:
    for name in np.unique(clusters):
        box = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "boxstyle": "round,pad=0.15"}
        axis.text(*np.median(places[clusters == name], axis=0), name, ha="center", va="center", fontsize=12, bbox=box)


def _legend(axis: Any, colours: Mapping[str, str], *, ncols: int) -> None:
    if not colours:
        return
    for name, colour in colours.items():
        axis.scatter([], [], s=60, c=colour, label=name, linewidths=0)
    axis.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=ncols, frameon=False, handletextpad=0.1, fontsize=9.5,
        columnspacing=0.6,
    )  # fmt: skip


def _plain(axis: Any, *shown: np.ndarray) -> None:
    """No numbers, which mean nothing in a UMAP; room for all the places (cell, 2) that are `shown` in the picture."""
    every = np.concatenate(shown)
    room = 0.04 * np.ptp(every, axis=0)
    ends = zip(every.min(axis=0) - room, every.max(axis=0) + room, strict=True)
    axis.set(xticks=[], yticks=[], **dict(zip(("xlim", "ylim"), ends, strict=True)))
    axis.spines[:].set_visible(True)
    axis.spines[:].set_color(plots.GREY)
