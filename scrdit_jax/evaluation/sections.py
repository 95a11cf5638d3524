"""The tables of a report: which scores stand together, and how each is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .comparison import CANDIDATES, REAL, SYNTHETIC, Comparison, Estimate
from .donors import AGGREGATES, MEAN, SHARE, DonorScores
from .markers import CORRELATION, ERROR, MARKERS, MarkerScores
from .membership import ATTACKS, CALIBRATED, CONTROL, FLOOR, PLAIN, RELEASES, MembershipScores
from .memorisation import COPIED, NEAR_HELD_OUT, NEAREST, MemorisationScores
from .metrics import LEADING, PAPER
from .privacy import PrivacyScores
from .tables import text_table

MARKER_TITLE = "Markers of cell types"
PRIVACY_TITLE, COPYING_TITLE = "Privacy", "Privacy: copies of training cells"
MEMBERSHIP_TITLE, DONORS_TITLE = "Privacy: which cells were trained on", "Privacy: which donors were trained on"
RESAMPLED, CHANCE = "95 % of draws of donors", "95 % by chance"
INTRODUCTIONS = {
    LEADING: "Read each score between its floor (real vs real) and its control (genes shuffled).",
    PAPER: "Computed as the scRDiT paper's evaluation does, for comparison with its tables. They are weak: see what "
    "each cannot see, and how close shuffled genes come to the floor.",
}


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    """One score of every candidate, which way is better, and in a sentence each what it sees and what it cannot."""

    title: str
    values: Mapping[str, Estimate | str]
    better: str
    sees: str
    blind: str


@dataclass(frozen=True, kw_only=True)
class Section:
    """A table with its title, what is to be said before it, and of what its columns are the scores."""

    title: str
    introduction: str = ""
    rows: Sequence[ScoreRow] = ()
    columns: tuple[str, ...] = CANDIDATES

    def text(self) -> str:
        """The table, aligned for a terminal."""
        lines = [
            [row.title, *(str(row.values.get(name, "")) for name in self.columns), row.better] for row in self.rows
        ]
        return text_table(("metric", *self.columns, "better is"), lines)


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


def privacy_sections(scores: PrivacyScores | None, reason: str) -> list[Section]:
    """What synthetic cells give away of the training cells; without scores, the `reason`."""
    if scores is None:
        return [Section(title=PRIVACY_TITLE, introduction=f"Not scored: {reason}.")]
    sections = [_copying_section(scores.copying), _membership_section(scores.membership)]
    if scores.donors is not None:
        sections.append(_donor_section(scores.donors))
    elif scores.no_donors:
        sections.append(Section(title=DONORS_TITLE, introduction=f"Not scored: {scores.no_donors}."))
    return sections


def _copying_section(scores: MemorisationScores) -> Section:
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
        title=COPYING_TITLE,
        introduction=f"Distances in the first 50 principal components of the {scores.training_cells:,} training cells "
        f"alone; {scores.held_out_cells:,} held-out cells, halved. The floor is what other held-out cells score.",
        rows=[
            ScoreRow(title=title, values=scores.values[name], better=better, sees=sees, blind=blind)
            for name, (title, better, sees, blind) in texts.items()
        ],
        columns=(SYNTHETIC, REAL),
    )


KNOWING = {PLAIN: "without other cells", CALIBRATED: "knowing other cells"}


def _membership_section(scores: Mapping[str, MembershipScores]) -> Section:
    found = scores[SYNTHETIC]
    sees = {
        PLAIN: "Someone has the released cells and a person's cell, and takes it for a training cell the more, the "
        "nearer a released cell lies to it",
        CALIBRATED: "The same, with other cells of the same kind, half the held-out ones, which say how near a cell "
        "lies to others anyway",
    }
    share = "share of training cells that are found where one of a hundred other cells is taken for one"
    rows = []
    for attack in ATTACKS:
        about = {"sees": f"{sees[attack]}.", "blind": "Attacks that look at more than distances."}
        auc = {release: scores[release].auc[attack] for release in RELEASES}
        tpr = {release: scores[release].tpr[attack] for release in RELEASES}
        rows.append(ScoreRow(title=f"AUC, {KNOWING[attack]}", values=auc, better="0.5", **about))
        about["sees"] = f"The {share}. {about['sees']}"
        rows.append(ScoreRow(title=f"Found at 1 % false alarms, {KNOWING[attack]}", values=tpr, better="0.01", **about))
    return Section(
        title=MEMBERSHIP_TITLE,
        introduction=f"From {found.released:,} synthetic cells; {found.candidates:,} cells that were not trained on in "
        f"a draw. '{FLOOR}': the same attack where {scores[FLOOR].released:,} of those are released and no training "
        f"cell, so that what it finds is chance. '{CONTROL}': where {scores[CONTROL].released:,} training cells are "
        f"released as they are, and asked for. 'Found at 1 % false alarms' is the {share}: 0.01 by chance, 1 where "
        "all are found.",
        rows=rows,
        columns=RELEASES,
    )


def _donor_section(scores: DonorScores) -> Section:
    titles = {MEAN: "mean of a donor's cells", SHARE: "share of its cells that are near"}
    rows = []
    for attack in ATTACKS:
        for aggregate in AGGREGATES:
            found = scores.attacks[attack][aggregate]
            values = {
                SYNTHETIC: f"{found.auc:.3f}",
                RESAMPLED: f"{found.low:.2f} to {found.high:.2f}",
                CHANCE: f"{found.chance_low:.2f} to {found.chance_high:.2f}",
                CONTROL: f"{scores.control[attack][aggregate]:.3f}",
            }
            rows.append(
                ScoreRow(
                    title=f"AUC, {titles[aggregate]}, {KNOWING[attack]}",
                    values=values,
                    better="0.5",
                    sees=f"Whether donors that were trained on can be distinguished from others by all their cells; "
                    f"{found.found:.0%} of them are found at {found.false_alarms:.0%} false alarms.",
                    blind="Which cells of a donor give it away, and attacks that look at more than distances.",
                )
            )
    left_out = f" {scores.left_out:,} donors with too few cells were left out." if scores.left_out else ""
    return Section(
        title=DONORS_TITLE,
        introduction=f"{scores.members:,} donors of {scores.key!r} were trained on, {scores.others:,} were held out "
        f"whole.{left_out} The cells of half the others are what an attack knows of other cells. With so few donors an "
        f"AUC within '{CHANCE}' tells nothing; '{CONTROL}' is what the members' own cells would give away.",
        rows=rows,
        columns=(SYNTHETIC, RESAMPLED, CHANCE, CONTROL),
    )
