"""The file a benchmark grows row by row, and what is made of it: a table and two pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import OutputExists, writing
from ..io.atomic import atomic_write, check_parents
from .cases import baseline

SCHEMA = 1
SCHEMA_PATH = Path(__file__).parent / "schema.json"
RESULTS, TABLE = "results.json", "table.md"
READING = (
    "Cells/s is that of the median batch, with the quartiles; the matrix share is the floating-point rate of the "
    "network's dense layers over the best that a plain matrix product reached on the same devices."
)


class Results:
    """`results.json` in a folder (its form is in schema.json): always whole, never behind by more than one row."""

    def __init__(self, folder: Path, conditions: Mapping[str, Any]) -> None:
        """Open or begin; OutputExists where other things, or results under other conditions, are there."""
        self.path = folder / RESULTS
        check_parents(self.path)
        self._values: dict[str, Any] = {"schema": SCHEMA, **conditions, "found": {}, "rows": []}
        if self.path.is_file():
            self._values = self._read(conditions)
        elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise OutputExists(f"{folder} is there already and holds no benchmark; choose another --out")

    def _read(self, conditions: Mapping[str, Any]) -> dict[str, Any]:
        try:
            values = json.loads(self.path.read_text())
            there = {name: values[name] for name in conditions}
        except (ValueError, KeyError, TypeError):
            raise OutputExists(f"{self.path} is no benchmark's; choose another --out, or move it") from None
        for name, wanted in conditions.items():
            if there[name] != wanted:
                raise OutputExists(
                    f"{self.path} was measured under other conditions ({_difference(name, there[name], wanted)}); "
                    "choose another --out, or move it"
                )
        return values

    @property
    def values(self) -> Mapping[str, Any]:
        """Everything, as plain values."""
        return self._values

    def has(self, name: str) -> bool:
        """Whether the row called `name` is finished."""
        return any(row["name"] == name for row in self._values["rows"])

    def add(self, row: Mapping[str, Any]) -> None:
        """One more finished row, on disk when this returns."""
        self._values["rows"].append(dict(row))
        self._write()

    def arrange(self, names: Sequence[str]) -> None:
        """Put the rows in the order of `names`; those that are not named come last."""
        place = {name: number for number, name in enumerate(names)}
        self._values["rows"].sort(key=lambda row: place.get(row["name"], len(place)))
        self._write()

    def begin(self, name: str, measure: Callable[[], Any]) -> None:
        """Measure what all rows share, unless it is there."""
        if name not in self._values["found"]:
            self._values["found"][name] = measure()
            self._write()

    def found(self, name: str) -> Any:
        """What `begin` measured; None where nothing did."""
        return self._values["found"].get(name)

    def _write(self) -> None:
        with atomic_write(self.path) as partial:
            partial.write_text(json.dumps(self._values, indent=1, allow_nan=False) + "\n")

    def write_report(self) -> str:
        """table.md and the pictures beside the results; returns the table."""
        from .pictures import quality_against_time, throughput_against_batch

        text = table(self._values)
        folder = self.path.parent
        files: dict[str, bytes] = {TABLE: text.encode()}
        if self.found("batch_sweep"):
            files["throughput.png"] = throughput_against_batch(self._values)
        if any(row["quality"] for row in self._values["rows"]):
            files["quality.png"] = quality_against_time(self._values)
        for name, content in files.items():
            with writing(folder), atomic_write(folder / name) as partial:
                partial.write_bytes(content)
        return text


def _difference(name: str, there: Any, wanted: Any) -> str:
    if isinstance(there, Mapping) and isinstance(wanted, Mapping):
        key = next(key for key in {**there, **wanted} if there.get(key) != wanted.get(key))
        return _difference(f"{name}.{key}", there.get(key), wanted.get(key))
    return f"{name} {str(there)[:60]}, not {str(wanted)[:60]}"


def table(values: Mapping[str, Any]) -> str:
    """Markdown: where and what was measured, one line a sampler, and how to read it."""
    device, rows = values["device"], values["rows"]
    scored = any(row["quality"] for row in rows)
    base = next((row for row in rows if row["name"] == baseline(values["diffusion"]["timesteps"]).name), None)
    header = [
        "sampler",
        "evaluations",
        "cells/s",
        "× DDPM",
        "cell-evaluations/s",
        "matrix share",
        "compile s",
        "memory",
    ]
    header += ["PCA-50 MMD", "AUC", "block MMD"] if scored else []
    lines = [
        f"{device['kind']}, {device['devices']} devices ({device['platform']}), {values['settings']['dtype']}; "
        f"{values['parameters'] / 1e6:.2f} M parameters ({values['weights']} weights), {values['genes']} genes; "
        f"JAX {values['versions']['jax']}, Python {values['versions']['python']}.",
        "",
        _line(header),
        _line(["---"] + ["---:"] * (len(header) - 1)),
    ]
    for row in rows:
        lines.append(
            _line([row["name"], str(row["steps"]), *_speed(row, base), *(_quality(row["quality"]) if scored else [])])
        )
    for name, quality in (values["found"].get("floors") or {}).items():
        lines.append(_line([f"*{name}*", *[""] * 7, *_quality(quality)]))
    lines += ["", READING]
    if scored:
        half = values["held_out_cells"] // 2
        lines.append(
            f"Scores: {half} synthetic cells against {half} held-out ones, mean ± deviation of "
            f"{values['settings']['seeds']} seeds; the last lines are what other held-out cells reach, and those with "
            "their genes shuffled."
        )
    notes = [f"{row['name']}: {row['note']}" for row in rows if row["note"]]
    return "\n".join([*lines, *notes]) + "\n"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _speed(row: Mapping[str, Any], base: Mapping[str, Any] | None) -> list[str]:
    cells = row["cells_per_second"]
    faster = "" if base is None else f"{cells['median'] / base['cells_per_second']['median']:.1f}"
    return [
        f"{_three(cells['median'])} ({_three(cells['low'])}–{_three(cells['high'])})",
        faster,
        f"{row['cell_evaluations_per_second']:,.0f}",
        f"{row['share_of_matrix_product']:.0%}",
        f"{row['compile_seconds']:.1f}",
        f"{row['program_bytes'] / 1e6:,.0f} MB",
    ]


def _quality(quality: Mapping[str, Any] | None) -> list[str]:
    if quality is None:
        return ["", "", ""]
    shown = []
    for name, digits in (("mmd_pca", 4), ("random_forest_auc", 3), ("mmd_blocks", 4)):
        figures = quality[name]
        shown.append("n/a" if figures["mean"] is None else f"{figures['mean']:.{digits}f} ± {figures['sd']:.{digits}f}")
    return shown


def _three(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
