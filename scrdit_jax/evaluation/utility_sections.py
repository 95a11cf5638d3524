"""The tables of what synthetic cells are good for."""

from __future__ import annotations

from .comparison import REAL, SYNTHETIC
from .real_split import AGREEMENT, AUGMENTATIONS, COMPOSITION, OVERLAP, RANKS
from .sections import ScoreRow, Section
from .tables import Table
from .type_classifiers import ACCURACY, CENTROID, LOGISTIC, MACRO_F1, SCORES
from .utility import ON_TRAINING, UtilityScores

UTILITY_TITLE, TRAINED_TITLE = "Utility", "Utility: classifiers trained on synthetic cells"
RARE_TITLE, FOUND_TITLE = "Utility: rare types filled up", "Utility: types and markers found again"
TYPES_TITLE = "Utility: cell types by transferred labels"
KINDS = {LOGISTIC: "logistic", CENTROID: "nearest centroid"}
NAMES = {ACCURACY: "Accuracy", MACRO_F1: "Macro-F1"}
SEES = {
    ACCURACY: "The share of real cells whose type is recognised by who has seen the candidate's cells alone.",
    MACRO_F1: "The same by type, every type counting as much: the mean of 2 TP / (2 TP + FP + FN).",
}
BLIND = {
    ACCURACY: "Rare types, and whether cells of a type vary as they should.",
    MACRO_F1: "Which types are taken for which; of rare ones a few test cells decide.",
}


def utility_sections(scores: UtilityScores | None, reason: str) -> list[Section]:
    """What is learnt from synthetic cells beside what is learnt from real ones; without scores, the `reason`."""
    if scores is None:
        return [Section(title=UTILITY_TITLE, introduction=f"Not scored: {reason}.")]
    return [_trained(scores), _rare(scores), _found(scores)]


def _labels(scores: UtilityScores) -> str:
    if scores.given:
        return ""
    return " The synthetic cells name no types: each has that of its five nearest among the real cells learnt from."


def _trained(scores: UtilityScores) -> Section:
    real = "training cells of the model" if scores.learnt_from == ON_TRAINING else "held-out cells"
    return Section(
        title=TRAINED_TITLE,
        introduction=f"Train on synthetic cells, test on real ones: classifiers of {len(scores.types)} types in "
        f"{scores.column!r} learn from {scores.trained_cells:,} cells, in 50 principal components of those, and are "
        f"tried on {scores.test_cells:,} held-out cells; '{REAL}' learns from as many {real}. Mean ± standard "
        f"deviation of {scores.repeats} draws of cells to learn from; the test cells are the same.{_labels(scores)}",
        rows=[
            ScoreRow(
                title=f"{NAMES[score]}, {KINDS[classifier]}",
                values=by_score[score],
                better="higher",
                sees=SEES[score],
                blind=BLIND[score],
            )
            for classifier, by_score in scores.classifiers.items()
            for score in SCORES
        ],
    )


def _rare(scores: UtilityScores) -> Section:
    if not scores.augmentation:
        return Section(
            title=RARE_TITLE,
            introduction="Not scored: no type with enough real cells on both sides has under 5 % of them.",
        )
    added = ", ".join(f"{count:,} of {name}" for name, count in scores.added.items())
    titles = {name: f"F1, {name}" for name in scores.added}
    return Section(
        title=RARE_TITLE,
        introduction=f"The logistic classifier learns from {scores.learnt_cells:,} real cells, and again with cells "
        f"of the types that are under 5 % of them added, up to the median type: {added}. '{AUGMENTATIONS[1]}' are as "
        "many copies of the real cells of these types: what synthetic cells bring is what they bring beyond those.",
        columns=AUGMENTATIONS,
        rows=[
            ScoreRow(
                title=titles.get(score, NAMES[MACRO_F1]),
                values=values,
                better="higher",
                sees="Whether synthetic cells of rare types help to recognise real ones.",
                blind="Much: there are few test cells of a rare type.",
            )
            for score, values in scores.augmentation.items()
        ],
    )


def _found(scores: UtilityScores) -> Section:
    about = {
        AGREEMENT: (
            scores.recognised, "Types: given and transferred agree", "higher",
            "Whether cells look like the type they were given: labels are transferred from the five nearest real cells "
            "in 20 principal components.", "Whether a type's cells vary.",
        ),
        COMPOSITION: (
            scores.recognised, "Types: shares differ by", "lower",
            "Whether types are as frequent, by transferred labels, as in the real cells learnt from (total variation).",
            "Nothing is wrong where other shares were requested.",
        ),
        OVERLAP: (
            scores.markers, "Markers: overlap of 20", "higher",
            "Which share of the 20 genes of the largest log fold change of each type are so here, too.",
            "How large the changes are.",
        ),
        RANKS: (
            scores.markers, "Markers: rank correlation", "1",
            "Whether the markers of all types are ranked alike in each (Spearman).", "How large the changes are.",
        ),
    }  # fmt: skip
    cells = min(scores.test_cells, scores.trained_cells)
    return Section(
        title=FOUND_TITLE,
        introduction=f"Of {cells:,} cells of each candidate; real cells learnt from are the same as above, the floor "
        f"is what other held-out cells score.{_labels(scores)}",
        rows=[
            ScoreRow(title=title, values=of[score], better=better, sees=sees, blind=blind)
            for score, (of, title, better, sees, blind) in about.items()
            if SYNTHETIC in of.get(score, {})
        ],
    )


def share(value: float | None) -> str:
    """As the table has it; nothing where there is none."""
    return "" if value is None else f"{value:.1%}"


def utility_table(scores: UtilityScores) -> Table:
    """A row for each cell type."""
    columns = {
        "real cells": "real", "synthetic, as given": "given", "synthetic, transferred": "transferred",
        "given is transferred": "agreement", "the same in real cells": "agreement_real",
        "markers found again": "markers", "in real cells": "markers_real",
    }  # fmt: skip
    if not scores.given:
        columns = {title: name for title, name in columns.items() if name not in ("given", "agreement")}
        columns["real cells given their own"] = columns.pop("the same in real cells")
    as_given = "as given, and by labels transferred from real cells; how often the given type is the transferred one"
    transferred = "by labels transferred from real cells; how often real cells are given their own type so"
    return Table(
        title=TYPES_TITLE,
        introduction=f"Shares of the cells that are of a type: {as_given if scores.given else transferred}; and which "
        "share of a type's 20 markers mark it here, too.",
        header=("cell type", *columns),
        rows=[[one.name, *(share(getattr(one, name)) for name in columns.values())] for one in scores.by_type],
    )
