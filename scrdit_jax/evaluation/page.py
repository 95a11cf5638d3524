"""The report as one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..extras import optional
from .comparison import SYNTHETIC

if TYPE_CHECKING:
    from .report import Report

TEMPLATES = Path(__file__).parent / "templates"
CAPTIONS = {
    "tsne.png": "Real and synthetic cells in one t-SNE. Good cells lie among the real ones, in every group.",
    "violins.png": "Coefficient of variation and zero proportion of every gene, real beside synthetic.",
    "gene_means.png": "Each dot is a gene. On the dashed line real and synthetic cells agree.",
    "library_sizes.png": "How much cells differ in size: summed log values and number of genes detected.",
}


def html_page(report: Report, pictures: Mapping[str, bytes]) -> str:
    """The whole page; `pictures` are PNG bytes by file name and go inside. All text is escaped."""
    jinja2 = optional("jinja2")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    comparison = report.comparison
    settings = {
        "held-out real cells": f"{report.real_cells:,}",
        "synthetic cells": f"{report.synthetic_cells:,}",
        "genes": f"{comparison.genes:,}",
        "cells a side in each comparison": f"{comparison.cells_per_side:,}",
        "repeats": comparison.repeats,
        "seed": comparison.seed,
    }
    figures = [(CAPTIONS.get(n, n), base64.b64encode(content).decode("ascii")) for n, content in pictures.items()]
    return environment.get_template("report.html").render(
        report=report,
        synthetic=SYNTHETIC,
        figures=figures,
        settings=[*settings.items(), *report.versions.items()],
    )
