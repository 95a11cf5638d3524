"""The figures as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.simulate.differential import EDGES, LEVEL, TESTS, power
from scrdit_jax.evaluation.tables import markdown_table

SHOWN = ((1, "0.5 to 0.75"), (3, "1 to 1.5"), (4, "1.5 to 2"))


def table(results: Mapping[str, Any]) -> str:
    """All tables of a file of results."""
    parts = [_differential(results), _calibration(results), _zeros(results), _integration(results)]
    found = results["doublets"]
    parts.append(f"Doublets, {found['share']:.0%} of droplets: AUC of Scrublet's score {found['auc']:.3f}.\n")
    return "\n".join(parts)


def _differential(results: Mapping[str, Any]) -> str:
    """Power by strength, and false discoveries, for each test and number of cells."""
    rows, lines = results["differential"], []
    for test, title in TESTS.items():
        for size in sorted({row["cells"] for row in rows}):
            chosen = [row for row in rows if (row["test"], row["cells"]) == (test, size)]
            found, false = (sum(row[name] for row in chosen) for name in ("found", "false"))
            shown = [f"{power(chosen, EDGES[place], True):.2f}" for place, _ in SHOWN]
            rate = f"{false / found:.3f}" if found else ""
            lines.append([title, f"{size:,}", *shown, rate])
    names = [f"log2 fold change {name}" for _, name in SHOWN]
    return markdown_table(["test", "cells a group", *names, f"false discoveries (asked: {LEVEL:g})"], lines)


def _calibration(results: Mapping[str, Any]) -> str:
    kinds = results["calibration"]
    lines = [
        [title, *(f"{kinds[kind][test]['below_level']:.3f} ({kinds[kind][test]['ks']:.3f})" for kind in kinds)]
        for test, title in TESTS.items()
    ]
    said = f"Share of null genes with p < {LEVEL:g}, in brackets the distance of their p values from uniform ones."
    return f"{said}\n\n{markdown_table(['test', *kinds], lines)}"


def _zeros(results: Mapping[str, Any]) -> str:
    lines = [[name, f"{row['median']:+.3f}", f"{row['median_size']:.3f}"] for name, row in results["zeros"].items()]
    return markdown_table(["share of zeros, off that of real genes of the same mean", "median", "of its size"], lines)


def _integration(results: Mapping[str, Any]) -> str:
    names = ("ilisi", "batch_silhouette", "clisi", "type_silhouette", "type_accuracy")
    lines = [[way, *(f"{row[name]:.3f}" for name in names)] for way, row in results["integration"].items()]
    return markdown_table(["cells", *names], lines)
