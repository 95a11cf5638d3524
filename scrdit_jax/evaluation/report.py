"""Scores and pictures as one report: an object, a table, a folder with report.json and report.html."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import BadInput, OutputExists, writing
from ..extras import optional, versions
from ..provenance import Provenance
from . import plots
from .by_type import HEADER, TypeScores, score_types, type_rows
from .page import html_page
from .scores import CANDIDATES, FURTHER, LEADING, METRICS, PAPER, Scores, draw_pools, estimate_text, figure, score_pools

if TYPE_CHECKING:
    from anndata import AnnData

    from .scores import Pools

SCHEMA = 1
LIBRARIES = ("scrdit_jax", "anndata", "numpy", "scipy", "scikit-learn", "matplotlib")
MAX_CELLS = 2000
PROVENANCE_KEY = "scrdit"
PROVENANCE_TEXT = 200
TYPES_NOTE = (
    "'called so' is the share of a type's synthetic cells that a logistic classifier trained on the held-out real ones "
    "calls by its name, 'real called so' that of held-out cells it was not trained on."
)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What `evaluate` found. `provenance` is how the synthetic cells were made, as far as their file says.

    `types` are scores of every cell type, where both sides name them.
    """

    scores: Scores
    types: tuple[TypeScores, ...] = ()
    provenance: Mapping[str, str | int | float | bool | None]
    versions: Mapping[str, str]

    def summary(self) -> str:
        """The result in plain words."""
        auc, mmd = self.scores.values["random_forest_auc"], self.scores.values["mmd_pca"]
        return (
            f"A random forest tells these cells from real ones with AUC {auc['synthetic'].mean:.2f} "
            f"(0.50 would be chance; real vs real {auc['real vs real'].mean:.2f}). "
            f"Their PCA-50 MMD is {figure(mmd['synthetic'].mean)}; real cells score "
            f"{figure(mmd['real vs real'].mean)} against each other, and "
            f"{figure(mmd['genes shuffled'].mean)} with their genes shuffled."
        )

    def notes(self) -> tuple[str, ...]:
        """Sentences on how the numbers were come by, then anything out of the ordinary."""
        scores = self.scores
        return (
            f"Every comparison is between {scores.cells_per_side:,} held-out real cells and {scores.cells_per_side:,} "
            f"others over {scores.genes:,} genes; mean ± standard deviation of {scores.repeats} random splits.",
            "'real vs real' compares with other held-out cells: nothing can be expected to do better. 'genes shuffled' "
            "are real cells with every gene permuted on its own: right genes, no cells.",
            "KL divergence pairs row i with row i, although nothing pairs them.",
            *([TYPES_NOTE] if self.types else []),
            *scores.notes,
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain values ready for JSON; numbers that are not finite become None."""
        scores = self.scores
        return {
            "schema": SCHEMA,
            "summary": self.summary(),
            "settings": {"seed": scores.seed, "repeats": scores.repeats, "max_cells": scores.max_cells},
            "sizes": {
                "real_cells": scores.real_cells,
                "synthetic_cells": scores.synthetic_cells,
                "genes": scores.genes,
                "cells_per_side": scores.cells_per_side,
            },
            "metrics": {
                metric.name: {
                    "title": metric.title,
                    "table": metric.table,
                    "better": metric.better,
                    "sees": metric.sees,
                    "blind": metric.blind,
                    **{
                        candidate: {"mean": _finite(estimate.mean), "sd": _finite(estimate.sd)}
                        for candidate, estimate in scores.values[metric.name].items()
                    },
                }
                for metric in METRICS
            },
            "cell_types": [scores.to_dict() for scores in self.types],
            "notes": list(self.notes()),
            "provenance": dict(self.provenance),
            "versions": dict(self.versions),
        }

    def __str__(self) -> str:
        header = ["metric", *CANDIDATES, "better is"]
        tables = {
            title: [
                [m.title, *(estimate_text(self.scores.values[m.name][c]) for c in CANDIDATES), m.better]
                for m in METRICS
                if m.table == title
            ]
            for title in (LEADING, PAPER, FURTHER)
        }
        everything = [header, *(row for rows in tables.values() for row in rows)]
        widths = [max(len(row[column]) for row in everything) for column in range(len(header))]

        def line(row: list[str]) -> str:
            cells = [row[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)]
            return "  ".join(cells).rstrip()

        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        parts = [self.summary(), ""]
        for title, rows in tables.items():
            parts += [title, line(header), rule, *map(line, rows), ""]
        if self.types:
            parts += [*self._type_table(), ""]
        return "\n".join([*parts, *self.notes()])

    def _type_table(self) -> list[str]:
        rows = [list(HEADER), *type_rows(self.types)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
        return [
            "  ".join([row[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)])
            for row in rows
        ]


def evaluate(
    real: AnnData,
    synthetic: AnnData,
    *,
    out: Path | str | None = None,
    seed: int = 0,
    repeats: int = 5,
    max_cells: int = MAX_CELLS,
    cell_type_key: str | None = None,
) -> Report:
    """Score synthetic cells against held-out real ones on the same scale and genes; write the report to `out`.

    `out` becomes a folder of report.json, report.html (self-contained) and the pictures; a report that is there is
    replaced, anything else raises OutputExists. `cell_type_key` names the column of `real.obs` that colours the t-SNE
    ("cell_type" where there is one). See `score` for the method and the other errors.
    """
    folder = None if out is None else Path(out)
    if folder is not None:
        _check_output(folder)
        optional("matplotlib.figure")  # before the work, not after it
    types = _cell_types(real, cell_type_key)
    pools = draw_pools(real, synthetic, seed=seed, max_cells=max_cells)
    scores = score_pools(pools, seed, repeats, max_cells)
    report = Report(
        scores=scores,
        types=_type_scores(real, synthetic, cell_type_key, seed, repeats),
        provenance=_provenance(synthetic),
        versions=versions(LIBRARIES),
    )
    if folder is not None:
        with writing(folder):
            _write(folder, report, _pictures(pools, types, seed))
    return report


def _cell_types(real: AnnData, key: str | None) -> np.ndarray | None:
    if key is None:
        key = "cell_type"
        if key not in real.obs:
            return None
    if key not in real.obs:
        there = ", ".join(map(str, real.obs.columns)) or "none"
        raise BadInput(f"the real cells have no column {key!r}; their columns: {there}")
    return real.obs[key].astype(str).to_numpy()


def _type_scores(real: AnnData, synthetic: AnnData, key: str | None, seed: int, repeats: int) -> tuple[TypeScores, ...]:
    """Of the column that holds types on both sides: the one named, that of the model, or "cell_type"."""
    record = Provenance.from_uns(synthetic.uns)
    known = () if record is None else (record.metadata.cell_type_key, *(v.name for v in record.variables))
    candidates = (key, *known, "cell_type")
    column = next((c for c in candidates if c is not None and c in real.obs and c in synthetic.obs), None)
    if column is None:
        return ()
    asked = None if record is None else record.requested(column)
    return score_types(real, synthetic, column, asked=asked, seed=seed, repeats=repeats)


def _pictures(pools: Pools, types: np.ndarray | None, seed: int) -> dict[str, bytes]:
    # Equally many of both: a coefficient of variation depends on how many cells it is taken over.
    cells = min(len(pools.real), len(pools.synthetic))
    real, synthetic = pools.real[:cells], pools.synthetic[:cells]
    shown_types = None if types is None else types[pools.real_rows[:cells]]
    return {
        "tsne.png": plots.tsne(real, synthetic, cell_types=shown_types, seed=seed),
        "violins.png": plots.violins(real, synthetic),
        "gene_means.png": plots.gene_means(real, synthetic),
        "library_sizes.png": plots.library_sizes(real, synthetic),
    }


def _check_output(folder: Path) -> None:
    if folder.is_dir():
        if any(folder.iterdir()) and not (folder / "report.json").is_file():
            raise OutputExists(f"{folder} holds other things than a report; choose another --out")
    elif folder.exists() or folder.is_symlink():
        raise OutputExists(f"{folder} exists and is not a folder; choose another --out")
    above = next((parent for parent in folder.absolute().parents if parent.exists()), None)
    if above is not None and not above.is_dir():
        raise OutputExists(f"{above} is a file, so {folder} cannot be a folder in it; choose another --out")


def _write(folder: Path, report: Report, pictures: Mapping[str, bytes]) -> None:
    """Into a sibling first, so that an interruption leaves either the old report or the new one's missing."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.parent / f".{folder.name}.{os.getpid()}.tmp"
    temporary.mkdir()
    try:
        for name, picture in pictures.items():
            (temporary / name).write_bytes(picture)
        (temporary / "report.html").write_text(html_page(report, pictures), encoding="utf-8")
        text = json.dumps(report.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        (temporary / "report.json").write_text(text + "\n", encoding="utf-8")
        folder.mkdir(exist_ok=True)
        for name in (*pictures, "report.html", "report.json"):
            os.replace(temporary / name, folder / name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _provenance(synthetic: AnnData) -> dict[str, str | int | float | bool | None]:
    recorded = synthetic.uns.get(PROVENANCE_KEY, {})
    return dict(_plain(recorded)) if isinstance(recorded, Mapping) else {}


def _plain(values: Mapping[Any, Any], prefix: str = "") -> Any:
    """Yield (dotted name, plain value); nested mappings are flattened, long text (records for programs) is left out."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _plain(value, f"{prefix}{name}.")
            continue
        if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
            value = value.item()
        if isinstance(value, float):
            value = _finite(value)
        if not isinstance(value, bool | int | float | None):
            value = str(value)
        if isinstance(value, str) and len(value) > PROVENANCE_TEXT:
            continue
        yield f"{prefix}{name}", value


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
