"""The tables of a report: which scores stand together, and how each is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .comparison import CANDIDATES, REAL, Comparison, Estimate
from .markers import CORRELATION, ERROR, MARKERS, MarkerScores
from .memorisation import COPIED, NEAR_HELD_OUT, NEAREST, MemorisationScores
from .metrics import LEADING, PAPER

MARKER_TITLE, MEMORISATION_TITLE = "Markers of cell types", "Memorisation"
HEADER = ("metric", *CANDIDATES, "better is")
INTRODUCTIONS = {
    LEADING: "Read each score between its floor (real vs real) and its control (genes shuffled).",
    PAPER: "Computed as the scRDiT paper's evaluation does, for comparison with its tables. They are weak: see what "
    "each cannot see, and how close shuffled genes come to the floor.",
}


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    """One score of every candidate, which way is better, and in a sentence each what it sees and what it cannot."""

    title: str
    values: Mapping[str, Estimate]
    better: str
    sees: str
    blind: str

    def texts(self) -> list[str]:
        """The row under HEADER."""
        return [self.title, *(str(self.values.get(name, "")) for name in CANDIDATES), self.better]


@dataclass(frozen=True, kw_only=True)
class Section:
    """A table with its title and what is to be said before it."""

    title: str
    introduction: str = ""
    rows: Sequence[ScoreRow] = ()


def metric_sections(comparison: Comparison) -> list[Section]:
    """A table of metrics for each title they have."""
    return [
        Section(
            title=title,
            introduction=INTRODUCTIONS.get(title, ""),
            rows=[
                ScoreRow(title=m.title, values=comparison.values[m.name], better=m.better, sees=m.sees, blind=m.blind)
                for m in comparison.metrics
                if m.table == title
            ],
        )
        for title in dict.fromkeys(metric.table for metric in comparison.metrics)
    ]


def marker_section(markers: MarkerScores) -> Section:
    """Log fold changes of every type's markers."""
    sees = "Whether the genes that set each type apart in half the held-out cells "
    return Section(
        title=MARKER_TITLE,
        introduction=f"The {MARKERS} genes of the largest log fold change of each of {len(markers.types)} cell types "
        f"with enough held-out cells, found in one half of those; every side has {markers.cells_per_side:,} cells.",
        rows=[
            ScoreRow(
                title="Log fold changes of markers (r)",
                values=markers.values[CORRELATION],
                better="1",
                sees=sees + "are ranked alike.",
                blind="The size of the changes, and everything about single cells.",
            ),
            ScoreRow(
                title="Log fold changes of markers (error)",
                values=markers.values[ERROR],
                better="lower",
                sees=sees + "do so as much (mean absolute difference).",
                blind="Other genes, and everything about single cells.",
            ),
        ],
    )


def memorisation_section(scores: MemorisationScores | None, reason: str) -> Section:
    """How near the training cells synthetic cells lie; without scores, the `reason`."""
    if scores is None:
        return Section(title=MEMORISATION_TITLE, introduction=f"Not scored: {reason}.")
    texts = {
        COPIED: (
            "Nearer to a training cell than 95 % of held-out cells",
            "0.05",
            "Whether training cells are copied: copies score 1.",
            "Copies from cells that are too average, which lie near to all real ones: see the last row.",
        ),
        NEAREST: (
            "Nearest real cell is a training cell",
            REAL,
            "Whether cells lie nearer to training cells than to as many held-out ones. The components fit training "
            "cells best, which sets those apart: even new cells score below 0.5, so what counts is the floor.",
            "A few copies among many cells; with many training cells, copies altogether.",
        ),
        NEAR_HELD_OUT: (
            "Nearer to a held-out cell than 95 % of the others",
            "0.05",
            "Whether cells lie too near to real cells that were never trained on. Where this is as high as the first "
            "row, cells are too average, and not copied.",
            "Copying.",
        ),
    }
    return Section(
        title=MEMORISATION_TITLE,
        introduction=f"Distances in the first 50 principal components of the {scores.training_cells:,} training cells "
        f"alone; {scores.held_out_cells:,} held-out cells, halved.",
        rows=[
            ScoreRow(title=title, values=scores.values[name], better=better, sees=sees, blind=blind)
            for name, (title, better, sees, blind) in texts.items()
        ],
    )
