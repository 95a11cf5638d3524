"""The report as one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..extras import optional
from .charts import BOTTOM, EDGE, LEFT, SIZE, TOP, colour
from .comparison import SYNTHETIC
from .real_split import WITH_SYNTHETIC

if TYPE_CHECKING:
    from .report import Report

TEMPLATES = Path(__file__).parent / "templates"
TITLES = {
    "cells": "Cells", "genes": "Genes", "histograms": "Sizes and zeros", "notes": "How the numbers were come by",
    "provenance": "How the synthetic cells were made", "settings": "Settings and versions",
}  # fmt: skip


def html_page(report: Report, charts: Mapping[str, Any] | None = None) -> str:
    """The whole page, with the pictures of `charts.charts`. All text is escaped, and no other script may run."""
    jinja2 = optional("jinja2")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    safe = optional("markupsafe").Markup
    # Only what the package itself brings is taken as it is; the names in the data have no "<", ">" or "&" left.
    script = (TEMPLATES / "report.js").read_text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("report.html").render(
        report=report,
        charts=charts,
        counts=[] if charts is None else [charts["cells"]["data"]["side"].count(side) for side in (0, 1)],
        colour=colour,
        titles=TITLES,
        anchors=_anchors(report, charts is not None),
        marked=(SYNTHETIC, WITH_SYNTHETIC),
        settings=[*_settings(report).items(), *report.versions.items()],
        data=optional("jinja2.utils").htmlsafe_json_dumps(None if charts is None else _data(charts)),
        script=safe(script),
        script_digest=safe(f"sha256-{digest}"),
        style=safe(environment.get_template("report.css").render()),
        size=SIZE,
        left=LEFT,
        bottom=BOTTOM,
        edge=EDGE,
        top=TOP,
    )


def _anchors(report: Report, drawn: bool) -> dict[str, str]:
    """The title of every heading, in their order, and what links lead to it."""
    pictures = [TITLES[name] for name in ("cells", "genes", "histograms")] if drawn else []
    rest = ["notes", *(["provenance"] if report.provenance else []), "settings"]
    titles = [one.title for one in (*report.sections(), *report.tables())]
    return {title: f"section-{k}" for k, title in enumerate([*pictures, *titles, *(TITLES[name] for name in rest)])}


def _settings(report: Report) -> dict[str, Any]:
    comparison = report.comparison
    return {
        "held-out real cells": f"{report.real_cells:,}",
        "synthetic cells": f"{report.synthetic_cells:,}",
        "genes": f"{comparison.genes:,}",
        "cells a side in each comparison": f"{comparison.cells_per_side:,}",
        "repeats": comparison.repeats,
        "seed": comparison.seed,
    }


def _data(charts: Mapping[str, Any]) -> dict[str, Any]:
    """What the script needs of the pictures."""
    bars = [{**bars["data"], "what": bars["what"]} for bars in charts["histograms"]]
    return {
        "types": charts["types"], "cells": charts["cells"]["data"], "genes": charts["genes"]["data"], "histograms": bars
    }  # fmt: skip
