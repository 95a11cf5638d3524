"""Whether an idea is kept, and the table of all of them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.fidelity.tables import difference_text, mean_over_types
from scrdit_jax.benchmarking.store import Row
from scrdit_jax.evaluation.comparison import REAL, Estimate, estimate_text
from scrdit_jax.evaluation.tables import markdown_table

if TYPE_CHECKING:
    from benchmarks.fidelity.recipes import Idea

BASELINE = "baseline"
# These decide whether an idea is kept; the others are shown.
DECIDING = {"random_forest_auc": "AUC to 0.5", "mmd_pca": "PCA-50 MMD"}
SHOWN = {"gene_correlation_error": "gene-gene error", "zero_fraction_difference": "zero fraction, difference",
         "library_size_spread": "library size, sd ratio"}  # fmt: skip
RULE = (
    "The rule: over the seeds, paired, an idea is kept if its mean difference from the baseline is better by more than "
    "the differences' standard deviation in its AUC's distance to 0.5 or in PCA-50 MMD, and in neither worse by more "
    "than that; else it is dropped. One seed decides nothing."
)


def deciding_score(row: Row, score: str) -> float:
    """Lower is better."""
    value = row["whole"][score]
    return abs(value - 0.5) if score == "random_forest_auc" else value


def verdict(rows: Sequence[Row], baseline: Sequence[Row]) -> tuple[str, dict[str, Estimate]]:
    """("kept", "dropped" or "undecided", the difference of each deciding score from the baseline's).

    Paired by seed; below 0 the idea is better. See RULE.
    """
    there = {row["seed"]: row for row in baseline}
    pairs = [(row, there[row["seed"]]) for row in rows if row["seed"] in there]
    if not pairs:
        return "undecided", dict.fromkeys(DECIDING, Estimate(math.nan, math.nan))
    found = {
        score: Estimate.of([deciding_score(row, score) - deciding_score(base, score) for row, base in pairs])
        for score in DECIDING
    }
    if len(pairs) < 2:
        return "undecided", found
    better = any(difference.mean < -difference.sd for difference in found.values())
    worse = any(difference.mean > difference.sd for difference in found.values())
    return ("kept" if better and not worse else "dropped"), found


def page(rows: Sequence[Row], ideas: Sequence[Idea], about: Mapping[str, Any]) -> str:
    """The table, one row an idea, for every data set."""
    parts = [f"`{about['command']}`: {about['devices']} x {about['kind']}, {about['seeds']} seeds, validation cells.\n"]
    parts.append(RULE + "\n")
    for name in dict.fromkeys(row["data"] for row in rows):
        of = [row for row in rows if row["data"] == name]
        by_idea = {idea.name: [row for row in of if row["generator"] == idea.name] for idea in ideas}
        lines = [_line(idea, by_idea[idea.name], by_idea[BASELINE]) for idea in ideas]
        real = [row for row in of if row["generator"] == REAL]
        lines.append([f"*{REAL}*", "", "", "", *_scores(real), "", ""])
        header = ["idea", "change", "steps", "training, s", "AUC", "PCA-50 MMD", "MMD by type", *SHOWN.values(),
                  "difference in " + " / ".join(DECIDING.values()), "verdict"]  # fmt: skip
        parts.append(f"## {name}\n\n" + markdown_table(header, lines))
    reasons = [f"- {idea.name}: {idea.why}" for idea in ideas if idea.why]
    return "\n".join([*parts, "Why each was tried:\n", *reasons]) + "\n"


def _line(idea: Idea, rows: Sequence[Row], baseline: Sequence[Row]) -> list[str]:
    changes = ", ".join(f"{name} {json.dumps(value)}" for name, value in {**idea.settings, **idea.sampling}.items())
    steps = rows[0]["made_by"]["settings"]["training"]["steps"]
    seconds = f"{np.mean([row['fit_seconds'] for row in rows]):.0f}"
    first = [idea.name, changes, f"{steps:,}", seconds, *_scores(rows)]
    if idea.name == BASELINE:
        return [*first, "", ""]
    said, differences = verdict(rows, baseline)
    return [*first, " / ".join(map(difference_text, differences.values())), said]


def _scores(rows: Sequence[Row]) -> list[str]:
    whole = [_text([row["whole"][score] for row in rows]) for score in (*DECIDING, *SHOWN)]
    by_type = [value for row in rows if (value := mean_over_types(row, "mmd_pca")) is not None]
    return [*whole[: len(DECIDING)], _text(by_type), *whole[len(DECIDING) :]]


def _text(values: Sequence[float]) -> str:
    return estimate_text(Estimate.of(values)) if values else "-"
