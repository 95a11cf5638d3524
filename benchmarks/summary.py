"""One page of what `benchmarks.everything` has measured so far: a table for each file of results that is there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any

from scrdit_jax.evaluation.tables import markdown_table

Values = Mapping[str, Any]
Table = tuple[list[str], list[list[object]]]


def summary(folder: Path, about: Values) -> str:
    """Markdown: the device, a table for each result, and what came of each part."""
    device = about["device"]
    text = [
        f"# {device['devices']} × {device['kind']} ({device['platform']}), JAX {device['jax']}",
        *(["A rehearsal with tiny sizes: these figures mean nothing."] if about["tiny"] else []),
    ]
    for pattern, (title, table) in SECTIONS.items():
        for path in sorted(folder.glob(pattern)):
            name = path.parent.name if path.name == "results.json" else path.stem
            header, rows = table(json.loads(path.read_text()))
            if rows:
                text += [f"## {title} ({name})", markdown_table(header, rows).rstrip()]
    parts = [[part["part"], part["outcome"], f"{part['seconds']:.0f}"] for part in about["parts"]]
    text += ["## Parts", markdown_table(["part", "outcome", "seconds"], parts).rstrip()]
    return "\n\n".join(text) + "\n"


def _number(value: float | None) -> str:
    """Three digits, without an exponent."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _columns(rows: Iterable[Values], columns: Mapping[str, Callable[[Values], object]]) -> Table:
    return list(columns), [[column(row) for column in columns.values()] for row in rows]


def _parity(values: Values) -> Table:
    allowed = values["allowed"]
    rows = [[name, f"{share:.2%}", _share(allowed.get(name))] for name, share in values["share_far"].items()]
    return [f"values that differ by more than {values['near']}", "share", "allowed"], rows


def _speeds(values: Values, named: Mapping[str, str]) -> Table:
    """Columns that are `named` after what a row holds, its cells/s and its share of the device's peak."""
    return _columns(
        values["rows"],
        {
            **{title: itemgetter(name) for title, name in named.items()},
            "cells/s": lambda row: _number(row["cells_per_second"]),
            "share of peak": lambda row: _share(row["share_of_peak"]),
        },
    )


def _sampling(values: Values) -> Table:
    named = {"dtype": "dtype", "evaluations": "evaluations", "batch": "batch_size", "attention": "attention"}
    return _speeds(values, named)


def _samplers(values: Values) -> Table:
    base = next((row for row in values["rows"] if row["name"].startswith("ddpm-")), None)

    def faster(row: Values) -> str:
        if base is None:
            return ""
        return _number(row["cells_per_second"]["median"] / base["cells_per_second"]["median"])

    return _columns(
        values["rows"],
        {
            "sampler": lambda row: row["name"],
            "cells/s": lambda row: _number(row["cells_per_second"]["median"]),
            "× DDPM": faster,
            "share of a matrix product": lambda row: _share(row["share_of_matrix_product"]),
        },
    )


def _training(values: Values) -> Table:
    return _speeds(values, {"preset": "preset", "dtype": "dtype", "batch": "batch_size", "devices": "devices"})


def _end_to_end(values: Values) -> Table:
    return _columns(
        values["rows"],
        {
            "into": lambda row: row["name"],
            "cells": lambda row: row["cells"],
            "cells/s": lambda row: _number(row["cells_per_second"]),
            "device waited": lambda row: _share(row["device_waited"]),
            "GB": lambda row: _number(row["bytes"] / 1e9),
        },
    )


def _attention(values: Values) -> Table:
    def milliseconds(row: Values, what: str) -> str:
        seconds = row[f"{what}_seconds"]
        return "none such" if seconds is None else _number(1e3 * seconds)

    return _columns(
        values["rows"],
        {
            "network, dtype, attention": lambda row: row["name"],
            "tokens": lambda row: row["tokens"],
            "forward, ms": lambda row: milliseconds(row, "forward"),
            "with gradient, ms": lambda row: milliseconds(row, "forward_and_backward"),
        },
    )


def _peer(values: Values) -> Table:
    rows: list[list[object]] = [[f"× PyTorch {name}", _number(r["median"])] for name, r in values["ratios"].items()]
    if values["by_default"] is not None:
        rows.append(["× its own DDIM", _number(values["by_default"]["ratio"]["median"])])
    return ["ours", values["dtype"]], rows


def _linearity(values: Values) -> Table:
    cells = list(values["seconds_per_cell"])
    return [f"seconds a cell at {cells[1]} over those at {cells[0]}"], [[f"{values['ratio']['median']:.3f}"]]


# Which files are tables, under which title, and how; in the order of the page.
SECTIONS: dict[str, tuple[str, Callable[[Values], Table]]] = {
    "accuracy.json": ("Parity", _parity),
    "sampling.json": ("The paper's network as a sampler", _sampling),
    "demo-*/results.json": ("Samplers of RUN", _samplers),
    "training.json": ("Training steps", _training),
    "end-to-end.json": ("From end to end", _end_to_end),
    "million.json": ("From end to end", _end_to_end),
    "attention.json": ("Attention", _attention),
    "peer-*.json": ("PyTorch", _peer),
    "linearity.json": ("Linearity", _linearity),
    "paper-*/results.json": ("Samplers with the paper's network", _samplers),
}
