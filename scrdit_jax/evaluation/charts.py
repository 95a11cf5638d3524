"""What the page draws: dots and bars in the units of an SVG, and the numbers that it says of each, as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..extras import optional
from . import metrics
from .comparison import MINIMUM_CELLS
from .markers import Markers

# Units of a panel, and what is left around what is drawn for ticks and labels.
SIZE, LEFT, BOTTOM, EDGE = 400, 52, 44, 12
TOP = LEFT + EDGE - BOTTOM  # so that what is as high as it is wide is a square
MAP = 1000
# Types beyond so many share a colour; no more genes are drawn than so many, the highest.
COLOURS, MOST_GENES = 9, 4000
# Dots of one colour are drawn in so many turns, so that no colour hides another.
TURNS = 6
BINS = 40


@dataclass(frozen=True, kw_only=True)
class Shown:
    """The cells of the pictures, real ones first: where each is drawn, (cell, 2), and what it is.

    `types` are None where the real cells have none; for synthetic cells that were `given` none, they are transferred,
    and `transferred` has labels from real cells for all synthetic ones. `names` are the synthetic cells'.
    """

    points: np.ndarray
    real: np.ndarray
    synthetic: np.ndarray
    genes: Sequence[str]
    names: Sequence[str]
    types: np.ndarray | None = None
    transferred: np.ndarray | None = None
    given: bool = False


def charts(shown: Shown) -> dict[str, Any]:
    """Everything the page draws."""
    names: list[str] = []
    if shown.types is not None:
        names = ordered_types(shown.types[: len(shown.real)], np.concatenate([shown.types, shown.transferred]))
    return {
        "types": names,
        "cells": cell_map(shown, names),
        "genes": gene_panels(shown, names),
        "histograms": histograms(shown.real, shown.synthetic),
    }


def ordered_types(of_real: np.ndarray, of_all: np.ndarray) -> list[str]:
    """All names, the most frequent among the real cells first."""
    names, counts = np.unique(of_real, return_counts=True)
    first = names[np.argsort(-counts, kind="stable")]
    return [str(name) for name in (*first, *np.setdiff1d(of_all, first))]


def dots(x: np.ndarray, y: np.ndarray) -> str:
    """A path of dots: strokes without length, which round caps make visible."""
    return "".join(f"M{a:g} {b:g}h0" for a, b in zip(x.tolist(), y.tolist(), strict=True))


def cell_map(shown: Shown, names: Sequence[str]) -> dict[str, Any]:
    """The cells: `paths` by side and type, and of each cell what is said of it."""
    low, high = shown.points.min(axis=0), shown.points.max(axis=0)
    room = 0.02 * MAP
    scale = (MAP - 2 * room) / max(float((high - low).max()), 1e-9)
    middle = MAP / 2 - scale * (low + high) / 2
    x, y = np.round(scale * shown.points + middle).astype(int).T
    y = MAP - y
    side = np.repeat([0, 1], [len(shown.real), len(shown.synthetic)])
    code = np.zeros(len(x), int) if shown.types is None else codes(shown.types, names)
    turn = np.random.default_rng(0).integers(0, TURNS, len(x))
    paths = []
    for t in range(TURNS):
        for type_code in range(max(len(names), 1)):
            for which in (0, 1):
                rows = (turn == t) & (code == type_code) & (side == which)
                if rows.any():
                    paths.append(
                        {"side": which, "type": type_code, "colour": colour(type_code), "d": dots(x[rows], y[rows])}
                    )
    both = np.concatenate([metrics.detected_genes(cells) for cells in (shown.real, shown.synthetic)])
    looks = None if shown.transferred is None else codes(shown.transferred, names)
    return {
        "size": MAP, "paths": paths, "given": shown.given,
        "counts": [[int(np.sum((side == s) & (code == t))) for s in (0, 1)] for t in range(len(names))],
        "data": {
            "x": x.tolist(), "y": y.tolist(), "side": side.tolist(), "type": code.tolist(), "given": shown.given,
            "detected": both.tolist(), "names": list(map(str, shown.names)),
            "looks": None if looks is None else looks.tolist(),
        },
    }  # fmt: skip


def codes(types: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """The number of each type among `names`."""
    places = {name: place for place, name in enumerate(names)}
    return np.array([places[str(name)] for name in types])


def colour(code: int) -> str:
    """The class that colours a type."""
    return f"t{code}" if code < COLOURS else "tx"


def gene_panels(shown: Shown, names: Sequence[str]) -> dict[str, Any]:
    """Means and zero fractions of each gene, synthetic over real; and which genes mark which types."""
    means = [metrics.gene_means(cells) for cells in (shown.real, shown.synthetic)]
    zeros = [metrics.zero_fraction_per_gene(cells) for cells in (shown.real, shown.synthetic)]
    chosen = np.sort(np.argsort(-np.maximum(*means), kind="stable")[:MOST_GENES])
    panels, places = [], {}
    for title, (real, synthetic) in (("Mean log value", means), ("Zero fraction", zeros)):
        ends = limits(np.concatenate([real[chosen], synthetic[chosen]]))
        x, y = across(real[chosen], ends), upwards(synthetic[chosen], ends)
        ticks = ticks_of(*ends)
        panels.append(
            {
                "title": title, "d": dots(x, y), "r": f"{metrics.pearson(real, synthetic):.4f}",
                "ticks": [(text, across(at, ends), upwards(at, ends)) for at, text in ticks],
            }
        )  # fmt: skip
        places[title] = {"x": x.tolist(), "y": y.tolist()}
    return {
        "panels": panels, "drawn": len(chosen), "there": len(means[0]),
        "data": {
            "names": [str(shown.genes[gene]) for gene in chosen], "places": list(places.values()),
            "means": [np.round(side[chosen], 3).tolist() for side in means],
            "zeros": [np.round(side[chosen], 3).tolist() for side in zeros],
            "markers": markers_among(shown, names, chosen),
        },
    }  # fmt: skip


def markers_among(shown: Shown, names: Sequence[str], chosen: np.ndarray) -> dict[str, list[int]]:
    """By the number of a type with enough real cells the places of its 20 markers among the chosen genes."""
    if shown.types is None:
        return {}
    of_real = shown.types[: len(shown.real)]
    enough = [name for name in names if np.sum(of_real == name) >= MINIMUM_CELLS]
    if len(enough) < 2:
        return {}
    found, place = Markers.find(shown.real, of_real, enough), {gene: k for k, gene in enumerate(chosen.tolist())}
    return {
        str(names.index(name)): [place[gene] for gene in genes.tolist() if gene in place]
        for name, genes in zip(found.names, found.genes, strict=True)
    }


def limits(values: np.ndarray) -> tuple[float, float]:
    """The ends of an axis: a little beyond the values."""
    low, high = float(values.min()), float(values.max())
    room = 0.03 * (high - low) or 0.5
    return low - room, high + room


def across(values: Any, ends: tuple[float, float]) -> Any:
    """Where values lie along a panel's axis from left to right."""
    width = SIZE - LEFT - EDGE
    return np.round(LEFT + width * (np.asarray(values) - ends[0]) / (ends[1] - ends[0]), 1)


def upwards(values: Any, ends: tuple[float, float]) -> Any:
    """And from the bottom to TOP."""
    return np.round(SIZE - BOTTOM + LEFT - across(values, ends), 1)


def ticks_of(low: float, high: float) -> list[tuple[float, str]]:
    """A few round numbers within, and how they are written."""
    found = optional("matplotlib.ticker").MaxNLocator(5).tick_values(low, high)
    return [(float(at), f"{at:g}") for at in np.round(found, 10) if low <= at <= high]


def histograms(real: np.ndarray, synthetic: np.ndarray) -> list[dict[str, Any]]:
    """Over cells their sums and detected genes, over genes their variation and zeros, in per cent of either side."""
    size = min(len(real), len(synthetic))  # a coefficient of variation depends on how many cells it is taken over
    found = []
    for title, what, summary in (
        ("Sum of a cell's log values", "cells", metrics.library_sizes),
        ("Genes detected in a cell", "cells", metrics.detected_genes),
        ("Coefficient of variation of a gene", "genes", metrics.coefficient_of_variation),
        ("Zero proportion of a gene", "genes", metrics.zero_fraction_per_gene),
    ):
        sides = [np.asarray(summary(cells[:size]), float) for cells in (real, synthetic)]
        sides = [side[np.isfinite(side)] for side in sides]
        if all(map(len, sides)):
            found.append({"title": title, "what": what, **histogram(*sides)})
    return found


def histogram(real: np.ndarray, synthetic: np.ndarray) -> dict[str, Any]:
    """Steps of both sides over the same bins."""
    edges = np.histogram_bin_edges(np.concatenate([real, synthetic]), bins=BINS)
    shares = [100 * np.histogram(side, edges)[0] / len(side) for side in (real, synthetic)]
    top = float(max(map(np.max, shares))) * 1.06
    ends = (float(edges[0]), float(edges[-1]))
    x, height = across(edges, ends), SIZE * 0.75 - BOTTOM - EDGE
    bottom = EDGE + height
    areas = []
    for side in shares:
        tops = np.round(bottom - height * side / top, 1)
        steps = "".join(f"V{y:g}H{to:g}" for y, to in zip(tops.tolist(), x[1:].tolist(), strict=True))
        areas.append(f"M{x[0]:g} {bottom:g}{steps}V{bottom:g}")
    return {
        "areas": areas,
        "ticks": [(text, across(at, ends)) for at, text in ticks_of(*ends)],
        "heights": [(text, round(bottom - height * at / top, 1)) for at, text in ticks_of(0, top)],
        "data": {
            "x": np.round((x[1:] + x[:-1]) / 2, 1).tolist(),
            "edges": [float(f"{edge:.4g}") for edge in edges],
            "shares": [np.round(side, 2).tolist() for side in shares],
        },
    }
