"""What a benchmark leaves in its folder: results.json, which grows row by row, a table and two pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import OutputExists, writing
from ..evaluation.tables import markdown_table
from ..io.atomic import atomic_write
from .cases import baseline
from .store import ResultStore

SCHEMA_PATH = Path(__file__).parent / "schema.json"
RESULTS, TABLE = "results.json", "table.md"
READING = (
    "Cells/s is that of the median batch, with the quartiles; the matrix share is the floating-point rate of the "
    "network's dense layers over the best that a plain matrix product reached on the same devices."
)
SPEED = (
    "sampler", "evaluations", "cells/s", "× DDPM", "cell-evaluations/s", "matrix share", "compile s", "memory",
)  # fmt: skip
# Metrics in the table: name, title, decimals.
SHOWN = (("mmd_pca", "PCA-50 MMD", 4), ("random_forest_auc", "AUC", 3), ("mmd_blocks", "block MMD", 4))


def open_results(folder: Path, conditions: Mapping[str, Any]) -> ResultStore:
    """The results in `folder` (their form is in schema.json), or new ones.

    OutputExists where other things, or results under other conditions, are there.
    """
    path = folder / RESULTS
    if not path.is_file() and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputExists(f"{folder} is there already and holds no benchmark; choose another --out")
    return ResultStore(path, conditions)


def write_report(results: ResultStore) -> str:
    """table.md and the pictures beside the results; returns the table."""
    from .pictures import quality_against_time, throughput_against_batch

    text, folder = results_table(results.values), results.path.parent
    files: dict[str, bytes] = {TABLE: text.encode()}
    if results.found("batch_sweep"):
        files["throughput.png"] = throughput_against_batch(results.values)
    if any(row["quality"] for row in results.rows):
        files["quality.png"] = quality_against_time(results.values)
    for name, content in files.items():
        with writing(folder), atomic_write(folder / name) as partial:
            partial.write_bytes(content)
    return text


def results_table(values: Mapping[str, Any]) -> str:
    """Markdown: where and what was measured, one line a sampler, and how to read it."""
    device, rows = values["device"], values["rows"]
    scored = any(row["quality"] for row in rows)
    base = next((row for row in rows if row["name"] == baseline(values["diffusion"]["timesteps"]).name), None)
    titles = [title for _, title, _ in SHOWN] if scored else []
    lines = [
        [row["name"], row["steps"], *_speed(row, base), *(_quality(row["quality"]) if scored else [])] for row in rows
    ]
    for name, quality in (values["found"].get("floors") or {}).items() if scored else ():
        lines.append([f"*{name}*", *[""] * (len(SPEED) - 1), *_quality(quality)])
    about = (
        f"{device['kind']}, {device['devices']} devices ({device['platform']}), {values['settings']['dtype']}; "
        f"{values['parameters'] / 1e6:.2f} M parameters ({values['weights']} weights), {values['genes']} genes; "
        f"JAX {values['versions']['jax']}, Python {values['versions']['python']}."
    )
    parts = [about, "", markdown_table([*SPEED, *titles], lines, numbers=True), READING]
    if scored:
        half = values["held_out_cells"] // 2
        parts.append(
            f"Scores: {half} synthetic cells against {half} held-out ones, mean ± deviation of "
            f"{values['settings']['seeds']} seeds; the last lines are what other held-out cells reach, and those with "
            "their genes shuffled."
        )
    parts += [f"{row['name']}: {row['note']}" for row in rows if row["note"]]
    return "\n".join(parts) + "\n"


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
        return [""] * len(SHOWN)
    shown = ((quality[name], digits) for name, _, digits in SHOWN)
    return [
        "n/a" if figures["mean"] is None else f"{figures['mean']:.{digits}f} ± {figures['sd']:.{digits}f}"
        for figures, digits in shown
    ]


def _three(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
