"""The tables of a comparison, from its rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.fidelity.cell_sets import SIDES, CellSet
from benchmarks.fidelity.comparing import CLASSIFIER, learnt_types
from scrdit_jax.benchmarking.store import Row
from scrdit_jax.evaluation.comparison import REAL, SHUFFLED, Estimate, estimate_text, figure
from scrdit_jax.evaluation.membership import ATTACKS
from scrdit_jax.evaluation.metrics import Metric, metric_tables
from scrdit_jax.evaluation.tables import markdown_table

PAIRED = {
    "random_forest_auc": "AUC", "mmd_pca": "PCA-50 MMD", "nearest_neighbour_accuracy": "1-NN accuracy",
    "gene_correlation_error": "gene-gene error", "detected_genes_ks": "detected genes, KS",
}  # fmt: skip
NOTES = """\
AUC: of a random forest that tells synthetic from real cells by 50 principal components, 0.5 is best; all errors, MMD
and KS are best low, ratios and correlations near 1. *real vs real* are training cells in the generator's place: nothing
can be expected to do better; *genes shuffled* are those with each gene permuted on its own. By type: mean over types
of at least 100 training cells, as many cells a side as the smaller has; a generator that makes under 10 cells of a type
is not scored there. Markers: log fold changes of the 20 best of each type in the training cells, and what is left of
them. Nearest is a training cell: share of cells whose nearest real neighbour is a training cell rather than a held-out
one, at equal numbers of both. Near training: share of cells nearer to a training cell than 95 % of held-out cells are;
near held-out: the same of held-out cells in the training cells' place. In brackets: held-out cells in the generator's
place. Copies are near to training cells alone; cells that are too average are near to both.
"""


NOVELTY_NOTE = """\
Of many cells of each generator. Membership: how well a cell is told to have been trained on by its distance to the
nearest released cell, AUC (0.5: not at all) and share of training cells found at 1 % false alarms (0.01: none);
calibrated by the distance to the nearest of half the held-out cells. *real vs real* releases the training cells
themselves, so it is what an attack finds at most; *genes shuffled* is what it finds where nothing can be told. Nearer:
Kolmogorov-Smirnov statistic of distances to the nearest training cell, against held-out cells, above 0 where they lie
nearer. Coverage: share of held-out cells with a released cell within the distance to their fifth neighbour, by so many
cells. Recall: the same within the distance from a released cell to its fifth released neighbour. Distinct: different
cells, as a share. States: training cells that are a released cell's nearest, as a share.
"""


def describe(cells: CellSet) -> dict[str, Any]:
    """What the table says of a data set."""
    metadata = cells.prepared.metadata
    return {
        "name": cells.name, "training": metadata.n_train, "held_out": metadata.n_held_out,
        "reference": len(cells.reference),
        "genes": len(cells.genes), "normalization": metadata.normalization.method, "types": learnt_types(cells),
        "classifier_accuracy": cells.space.accuracy,
    }  # fmt: skip


def page(rows: Sequence[Row], about: dict[str, Any]) -> str:
    """Every table, as Markdown."""
    parts = [
        f"`{about['command']}`: {about['devices']} x {about['kind']}; mean ± deviation of {about['seeds']} seeds.\n",
        NOTES,
    ]
    for cells in about["sets"]:
        of = [row for row in rows if row["data"] == cells["name"]]
        skipped = [one for one in about["skipped"] if one["data"] == cells["name"]]
        parts.append(
            f"## {cells['name']}: {cells['training']} training cells, {cells['reference']} {SIDES[about['on']]} cells, "
            f"{cells['genes']} genes\n"
        )
        for title, metrics in metric_tables().items():
            parts.append(f"### {title}\n\n" + _scores(of, metrics, skipped))
        if paired := _paired(of):
            parts.append(paired)
        parts.append("### Types, copying and cost\n\n" + _details(of) + _label_note(of, cells))
        if any(row.get("novelty") for row in of):
            parts.append("### Novelty\n\n" + NOVELTY_NOTE + "\n" + novelty_table(of))
        if cells["types"]:
            parts.append("### AUC (PCA-50 MMD) of each type\n\n" + _types(of, cells["types"]))
    return "\n".join(parts)


def names_of(rows: Sequence[Row]) -> list[str]:
    """Generators in the order of the rows, the controls last."""
    names = list(dict.fromkeys(row["generator"] for row in rows))
    return sorted(names, key=lambda name: (name in (REAL, SHUFFLED), name == SHUFFLED))


def estimate(rows: Sequence[Row], name: str, value: Callable[[Row], float | None]) -> Estimate | None:
    """Over the seeds of a generator; None where there is nothing."""
    found = [value(row) for row in rows if row["generator"] == name]
    found = [number for number in found if number is not None and np.isfinite(number)]
    return Estimate.of(found) if found else None


def _text(rows: Sequence[Row], name: str, value: Callable[[Row], float | None]) -> str:
    found = estimate(rows, name, value)
    return "-" if found is None else estimate_text(found)


def _label(name: str) -> str:
    return f"*{name}*" if name in (REAL, SHUFFLED) else name


def _scores(rows: Sequence[Row], metrics: Sequence[Metric], skipped: Sequence[dict[str, str]]) -> str:
    lines = [
        [_label(name), *(_text(rows, name, lambda row, of=metric.name: row["whole"].get(of)) for metric in metrics)]
        for name in names_of(rows)
    ]
    lines += [[one["generator"], f"skipped: {one['reason']}", *[""] * (len(metrics) - 1)] for one in skipped]
    return markdown_table(["generator", *(metric.title for metric in metrics)], lines)


def _paired(rows: Sequence[Row]) -> str:
    """Of several samplers of ours, the differences from the first, seed by seed; nothing where there are none."""
    ours = [name for name in names_of(rows) if any(row["generator"] == name and _samples(row) for row in rows)]
    if len(ours) < 2:
        return ""
    first, lines = {row["seed"]: row["whole"] for row in rows if row["generator"] == ours[0]}, []
    for name in ours[1:]:
        line = [name]
        for score in PAIRED:
            found = [
                row["whole"][score] - first[row["seed"]][score]
                for row in rows
                if row["generator"] == name and row["seed"] in first
            ]
            line.append(difference_text(Estimate.of(found)))
        lines.append(line)
    heading = f"### Differences from {ours[0]}, seed by seed\n\nAbove 0: worse than it.\n\n"
    return heading + markdown_table(["generator", *PAIRED.values()], lines)


def difference_text(difference: Estimate) -> str:
    """With its sign."""
    return f"{difference.mean:+.4f} ± {difference.sd:.4f}"


def _samples(row: Row) -> bool:
    return "sampling" in row["made_by"]


def mean_over_types(row: Row, score: str) -> float | None:
    """Of the types that had enough cells; None where none had."""
    found = [of_type[score] for of_type in row["types"].values() if score in of_type]
    return float(np.mean(found)) if found else None


def _details(rows: Sequence[Row]) -> str:
    header = [
        "generator", "AUC by type", "MMD by type", "markers, r", "markers, error", "nearest is a training cell",
        "near training", "near held-out", "fit, s", "cells/s",
    ]  # fmt: skip
    return markdown_table(header, [_detail_line(rows, name) for name in names_of(rows)])


def _detail_line(rows: Sequence[Row], name: str) -> list[str]:
    first = next(row for row in rows if row["generator"] == name)

    def copying(score: str) -> str:
        own = estimate(rows, name, lambda row: row["memorisation"][score])
        there = estimate(rows, name, lambda row: row["memorisation"][f"held_out_{score}"])
        return (f"{estimate_text(own)} " if own else "") + (f"({figure(there.mean)})" if there else "-")

    return [
        _label(name) + (" †" if first["markers"] and first["types_by"] == CLASSIFIER else ""),
        _text(rows, name, lambda row: mean_over_types(row, "random_forest_auc")),
        _text(rows, name, lambda row: mean_over_types(row, "mmd_pca")),
        _text(rows, name, lambda row: row["markers"] and row["markers"]["correlation"]),
        _text(rows, name, lambda row: row["markers"] and row["markers"]["error"]),
        copying("nearest_is_training"), copying("copied"),
        _text(rows, name, lambda row: row["memorisation"]["near_held_out"]),
        _plain(estimate(rows, name, lambda row: row["fit_seconds"])),
        _plain(estimate(rows, name, lambda row: row["cells_per_second"])),
    ]  # fmt: skip


def novelty_table(rows: Sequence[Row]) -> str:
    """A line for each generator; "-" where it was not asked for so many cells."""
    rows = [{**row["novelty"], "generator": row["generator"]} for row in rows if row.get("novelty")]
    numbers = sorted({int(number) for row in rows for number in row["coverage"]})
    header = ["generator", "cells"]
    header += [f"{attack} {score}" for attack in ATTACKS for score in ("AUC", "found at 1 %")]
    reached = [(score, str(number)) for score in ("coverage", "recall") for number in numbers]
    header += ["nearer", *(f"{score} by {int(number):,}" for score, number in reached), "distinct", "states"]

    def line(name: str) -> list[str]:
        released = next(row["released"] for row in rows if row["generator"] == name)
        values = [
            *(lambda row, of=of, attack=attack: row[of][attack]["mean"] for attack in ATTACKS for of in ("auc", "tpr")),
            lambda row: row["nearer"],
            *(lambda row, score=score, number=number: row[score].get(number) for score, number in reached),
            lambda row: row["distinct"] / row["released"],
            lambda row: row["states"] / row["training"],
        ]
        return [_label(name), f"{released:,}", *(_text(rows, name, value) for value in values)]

    return markdown_table(header, [line(name) for name in names_of(rows)])


def _plain(found: Estimate | None) -> str:
    if found is None:
        return "-"
    return f"{found.mean:,.0f}" if found.mean >= 10 else f"{found.mean:.2g}"


def _label_note(rows: Sequence[Row], cells: dict[str, Any]) -> str:
    if cells["classifier_accuracy"] is None:
        return "\nThe cells have no types.\n"
    note = (
        f"\n† types are given by a logistic classifier, trained on the real training cells (it is right for "
        f"{cells['classifier_accuracy']:.1%} of the real reference cells)"
    )
    floor = [row["markers"] for row in rows if row["generator"] == REAL and row["markers"]]
    if floor:
        note += (
            f"; real cells so classified keep their markers with r = {floor[0]['correlation_classified']:.3f}, error "
            f"{floor[0]['error_classified']:.3f}"
        )
    return note + ".\n"


def _types(rows: Sequence[Row], types: Sequence[str]) -> str:
    def both(of_type: str, name: str) -> str:
        auc, mmd = (
            estimate(rows, name, lambda row, score=score: row["types"].get(of_type, {}).get(score))
            for score in ("random_forest_auc", "mmd_pca")
        )
        return "too few cells" if auc is None or mmd is None else f"{auc.mean:.2f} ({figure(mmd.mean)})"

    def real(of_type: str) -> str:
        return str(next((row["types"][of_type]["cells"] for row in rows if row["generator"] == REAL), "-"))

    names = names_of(rows)
    lines = [[of_type, real(of_type), *(both(of_type, name) for name in names)] for of_type in types]
    return markdown_table(["type", "real cells", *map(_label, names)], lines)
