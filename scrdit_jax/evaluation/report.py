"""Scores and pictures as one report: an object, a table, a folder with report.json and report.html."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.cell_types import DEFAULT_KEY
from ..errors import writing
from ..extras import optional, versions
from ..provenance import KEY, Provenance
from . import plots
from .by_type import TypeScores, score_types, type_table
from .cells import require_column
from .charts import Shown, charts
from .comparison import REAL, SHUFFLED, SYNTHETIC, Comparison, Estimate, figure, score_repeats
from .markers import MARKERS, MarkerScores, score_markers
from .membership import CALIBRATED
from .memorisation import COPIED
from .output import RECORD, check_output, write_files
from .page import html_page
from .pools import Pools, draw_pools
from .privacy import PrivacyScores, require_attackable, score_privacy
from .sections import Section, marker_section, metric_sections, privacy_sections
from .tables import Table
from .type_classifiers import ACCURACY, LOGISTIC, LabelTransfer
from .utility import UtilityScores, score_utility
from .utility_sections import utility_sections, utility_table

if TYPE_CHECKING:
    from anndata import AnnData

    from .cells import ComparedCells

SCHEMA = 4
LIBRARIES = ("scrdit_jax", "anndata", "numpy", "scipy", "scikit-learn", "matplotlib")
MAX_CELLS = 2000
UNTYPED = "no type"
# Longer texts of a record are for programs, not for readers.
LONGEST_TEXT = 200


@dataclass(frozen=True, kw_only=True)
class Report:
    """What `evaluate` found. `provenance` is how the synthetic cells were made, as far as their file says.

    `real_cells` and `synthetic_cells` is what there was, of which `max_cells` a side were compared at most.
    `type_column` of obs has what is called a cell type here. `types` are scores of every one, and `markers` of the
    genes that mark them, where both sides name types. `utility` is None where real cells name none, for the reason
    `no_utility`, `privacy` where training cells are not known, for the reason `no_privacy`.
    """

    comparison: Comparison
    real_cells: int
    synthetic_cells: int
    max_cells: int
    pool_notes: tuple[str, ...]
    type_column: str | None
    types: tuple[TypeScores, ...]
    markers: MarkerScores | None
    utility: UtilityScores | None
    no_utility: str
    privacy: PrivacyScores | None
    no_privacy: str
    provenance: Mapping[str, str | int | float | bool | None]
    versions: Mapping[str, str]

    @property
    def kind(self) -> str:
        """What the cells' types are types of, in a reader's words."""
        return "cell type" if self.type_column in (None, DEFAULT_KEY) else str(self.type_column)

    def summary(self) -> str:
        """The result in plain words."""
        auc, mmd = self.comparison.values["random_forest_auc"], self.comparison.values["mmd_pca"]
        use = given_away = ""
        if self.utility is not None:
            accuracy = self.utility.classifiers[LOGISTIC][ACCURACY]
            use = (
                f" A classifier of the {self.kind} that has seen only synthetic cells is right for "
                f"{accuracy[SYNTHETIC].mean:.1%} of real ones (one that has seen as many real cells: "
                f"{accuracy[REAL].mean:.1%})."
            )
        if self.privacy is not None:
            share, found = self.privacy.copying.values[COPIED], self.privacy.membership[SYNTHETIC]
            given_away = (
                f" {share[SYNTHETIC].mean:.1%} of the synthetic cells lie nearer to a training cell than 95 % of "
                f"held-out cells do (other held-out cells: {share[REAL].mean:.1%}). From {found.released:,} of them an "
                f"attack that knows other cells too finds {found.tpr[CALIBRATED].mean:.1%} of the training cells at "
                f"1 % false alarms (AUC {found.auc[CALIBRATED].mean:.2f}; 1 % and 0.50 would be chance)."
            )
        return (
            f"A random forest tells these cells from real ones with AUC {auc[SYNTHETIC].mean:.2f} "
            f"(0.50 would be chance; {REAL} {auc[REAL].mean:.2f}). "
            f"Their PCA-50 MMD is {figure(mmd[SYNTHETIC].mean)}; real cells score "
            f"{figure(mmd[REAL].mean)} against each other, and "
            f"{figure(mmd[SHUFFLED].mean)} with their genes shuffled.{use}{given_away}"
        )

    def sections(self) -> list[Section]:
        """The tables of scores, in their order."""
        markers = [] if self.markers is None else [marker_section(self.markers)]
        utility = utility_sections(self.utility, self.no_utility)
        privacy = privacy_sections(self.privacy, self.no_privacy)
        return [*metric_sections(self.comparison), *markers, *utility, *privacy]

    def tables(self) -> list[Table]:
        """The tables with a row for each cell type."""
        types = [type_table(self.types)] if self.types else []
        return [*types, *([] if self.utility is None else [utility_table(self.utility)])]

    def notes(self) -> tuple[str, ...]:
        """Sentences on how the numbers were come by, then anything out of the ordinary."""
        size = self.comparison.cells_per_side
        return (
            f"Every comparison is between {size:,} held-out real cells and {size:,} others over "
            f"{self.comparison.genes:,} genes; mean ± standard deviation of {self.comparison.repeats} random splits.",
            f"'{REAL}' compares with other held-out cells: nothing can be expected to do better. '{SHUFFLED}' "
            "are real cells with every gene permuted on its own: right genes, no cells.",
            "KL divergence pairs row i with row i, although nothing pairs them.",
            *([] if self.kind == "cell type" else [f"What is called a cell type here is the cells' '{self.kind}'."]),
            *([f"Utility was not scored: {self.no_utility}."] if self.utility is None else []),
            *([f"Privacy was not scored: {self.no_privacy}."] if self.privacy is None else self.privacy.notes),
            *self.pool_notes,
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain values ready for JSON; numbers that are not finite become None."""
        comparison = self.comparison
        about = ("title", "table", "better", "sees", "blind")
        return {
            "schema": SCHEMA,
            "summary": self.summary(),
            "settings": {"seed": comparison.seed, "repeats": comparison.repeats, "max_cells": self.max_cells},
            "type_column": self.type_column,
            "sizes": {
                "real_cells": self.real_cells,
                "synthetic_cells": self.synthetic_cells,
                "genes": comparison.genes,
                "cells_per_side": comparison.cells_per_side,
            },
            "metrics": {
                metric.name: {name: getattr(metric, name) for name in about} | _plain(comparison.values[metric.name])
                for metric in comparison.metrics
            },
            "cell_types": [scores.to_dict() for scores in self.types],
            "markers": None if self.markers is None else _markers(self.markers),
            "utility": None if self.utility is None else self.utility.to_dict(),
            "privacy": None if self.privacy is None else self.privacy.to_dict(),
            "notes": list(self.notes()),
            "provenance": dict(self.provenance),
            "versions": dict(self.versions),
        }

    def __str__(self) -> str:
        parts = [self.summary(), ""]
        for section in self.sections():
            if section.rows:
                parts += [section.title, section.text(), ""]
        for table in self.tables():
            parts += [table.title, table.text(), ""]
        return "\n".join([*parts, *self.notes()])


def _plain(values: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: estimate.to_dict() for name, estimate in values.items()}


def _markers(scores: MarkerScores) -> dict[str, Any]:
    about = {"types": list(scores.types), "per_type": MARKERS, "cells_per_side": scores.cells_per_side}
    return about | {name: _plain(values) for name, values in scores.values.items()}


def evaluate(
    cells: ComparedCells,
    *,
    out: Path | str | None = None,
    seed: int = 0,
    repeats: int = 5,
    max_cells: int = MAX_CELLS,
    cell_type_key: str | None = None,
    donor_key: str | None = None,
) -> Report:
    """Score synthetic cells against held-out real ones on the same scale and genes; write the report to `out`.

    `out` becomes a folder of report.json, report.html (self-contained) and the pictures; a report that is there is
    replaced, anything else raises OutputExists. `cell_type_key` names the column of the real cells' types (that of the
    model, or "cell_type", where there is one), `donor_key` that of donors. See `comparison`, `draw_pools`,
    `score_utility`, `score_privacy` for the method and the other errors.
    """
    folder = None if out is None else Path(out)
    if folder is not None:
        check_output(folder)
        for module in ("matplotlib.figure", "jinja2"):
            optional(module)  # before the work, not after it
    column = _real_type_column(cells, cell_type_key)
    if donor_key is not None:
        require_attackable(cells, donor_key)
    pools = draw_pools(cells.held_out, cells.synthetic, seed=seed, max_cells=max_cells)
    comparison = score_repeats(pools.real, pools.synthetic, seed=seed, repeats=repeats)
    types, markers = _score_types(cells, pools, cell_type_key, seed, repeats)
    utility, no_utility = score_utility(cells, pools, column, seed=seed, repeats=repeats)
    privacy, no_privacy = score_privacy(cells, pools, donor_key=donor_key, seed=seed, repeats=repeats)
    report = Report(
        comparison=comparison,
        real_cells=pools.real_cells,
        synthetic_cells=pools.synthetic_cells,
        max_cells=max_cells,
        pool_notes=pools.notes,
        type_column=column,
        types=types,
        markers=markers,
        utility=utility,
        no_utility=no_utility,
        privacy=privacy,
        no_privacy=no_privacy,
        provenance=dict(_flat(cells.synthetic.uns.get(KEY, {}))),
        versions=versions(LIBRARIES),
    )
    if folder is not None:
        with writing(folder):
            write_files(folder, _files(report, _shown(cells, pools, column, seed), seed))
    return report


def _score_types(
    cells: ComparedCells, pools: Pools, key: str | None, seed: int, repeats: int
) -> tuple[tuple[TypeScores, ...], MarkerScores | None]:
    """Scores of each type and of the markers of all, where both sides name types."""
    real, synthetic = cells.held_out, cells.synthetic
    column = _type_column(real, synthetic, key)
    if column is None:
        return (), None
    record = Provenance.from_uns(synthetic.uns)
    requested = None if record is None else record.requested(column)
    types = score_types(real, synthetic, column, requested=requested, seed=seed, repeats=repeats)
    of_real = real.obs[column].astype(str).to_numpy()[pools.real_rows]
    of_synthetic = synthetic.obs[column].astype(str).to_numpy()[pools.synthetic_rows]
    return types, score_markers(pools.real, of_real, pools.synthetic, of_synthetic, seed=seed, repeats=repeats)


def _type_column(real: AnnData, synthetic: AnnData, key: str | None) -> str | None:
    """The column that holds types on both sides: the one named, that of the model, or "cell_type"; none that was left
    out of all synthetic cells."""
    record = Provenance.from_uns(synthetic.uns)
    of_model = () if record is None else (record.metadata.cell_type_key, *(v.name for v in record.variables))
    there = (column for column in (key, *of_model, DEFAULT_KEY) if column in real.obs and column in synthetic.obs)
    return next((column for column in there if synthetic.obs[column].notna().any()), None)


def _real_type_column(cells: ComparedCells, key: str | None) -> str | None:
    """The column of the real cells' types: the one named, or that both sides have, or that of the model, or
    "cell_type"; BadInput where the one named is not there."""
    real, record = cells.held_out, Provenance.from_uns(cells.synthetic.uns)
    if key is not None:
        require_column(real, key)
        return key
    known = (None if record is None else record.metadata.cell_type_key, DEFAULT_KEY)
    return _type_column(real, cells.synthetic, None) or next((one for one in known if one in real.obs), None)


def _shown(cells: ComparedCells, pools: Pools, column: str | None, seed: int) -> Shown:
    """The cells of the pictures, up to 1,000 a side, equally many: a coefficient of variation depends on how many."""
    count = min(len(pools.real), len(pools.synthetic), plots.MOST_EMBEDDED)
    real, synthetic, rows = pools.real[:count], pools.synthetic[:count], pools.synthetic_rows[:count]
    made, types, transferred, given = cells.synthetic.obs, None, None, False
    typed = np.zeros(0, bool) if column is None else cells.held_out.obs[column].notna().to_numpy()[pools.real_rows]
    if typed.sum() > 1:
        of_real = cells.held_out.obs[column].astype(str).to_numpy()[pools.real_rows].astype(str)
        transferred = LabelTransfer(pools.real[typed], of_real[typed], seed=seed)(synthetic)
        of_real = np.where(typed, of_real, UNTYPED)
        given = column in made and bool(made[column].iloc[rows].notna().all())
        of_synthetic = made[column].astype(str).to_numpy()[rows] if given else transferred
        types = np.concatenate([of_real[:count], of_synthetic]).astype(str)
    return Shown(
        points=_embedded(real, synthetic, seed), real=real, synthetic=synthetic, genes=cells.synthetic.var_names,
        names=made.index[rows], types=types, transferred=transferred, given=given,
    )  # fmt: skip


def _embedded(real: np.ndarray, synthetic: np.ndarray, seed: int) -> np.ndarray:
    return plots.embed(real, synthetic, seed=seed)


def _pictures(shown: Shown, seed: int) -> dict[str, bytes]:
    real, synthetic = shown.real, shown.synthetic
    types = None if shown.types is None else shown.types[: len(real)]
    return {
        "tsne.png": plots.tsne(real, synthetic, cell_types=types, seed=seed, points=shown.points),
        "violins.png": plots.violins(real, synthetic),
        "gene_means.png": plots.gene_means(real, synthetic),
        "library_sizes.png": plots.library_sizes(real, synthetic),
    }


def _files(report: Report, shown: Shown, seed: int) -> dict[str, bytes]:
    record = json.dumps(report.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    page = html_page(report, charts(shown))
    return {**_pictures(shown, seed), "report.html": page.encode(), RECORD: record.encode()}


def _flat(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, plain value) of everything nested in a record; long texts are left out."""
    for name, value in values.items() if isinstance(values, Mapping) else ():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
            continue
        if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
            value = value.item()
        if isinstance(value, float) and not math.isfinite(value):
            value = None
        if not isinstance(value, bool | int | float | None):
            value = str(value)
        if not isinstance(value, str) or len(value) <= LONGEST_TEXT:
            yield f"{prefix}{name}", value
