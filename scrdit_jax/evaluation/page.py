"""The report as one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from html import escape
from typing import TYPE_CHECKING

from .by_type import HEADER, type_rows
from .scores import CANDIDATES, FURTHER, LEADING, METRICS, PAPER, estimate_text

if TYPE_CHECKING:
    from .report import Report

CAPTIONS = {
    "tsne.png": "Real and synthetic cells in one t-SNE. Good cells lie among the real ones, in every group.",
    "violins.png": "Coefficient of variation and zero proportion of every gene, real beside synthetic.",
    "gene_means.png": "Each dot is a gene. On the dashed line real and synthetic cells agree.",
    "library_sizes.png": "How much cells differ in size: summed log values and number of genes detected.",
}

INTRODUCTIONS = {
    LEADING: "Read each score between its floor (real vs real) and its control (genes shuffled).",
    PAPER: "Computed as the scRDiT paper's evaluation does, for comparison with its tables. They are weak: see what "
    "each cannot see, and how close shuffled genes come to the floor.",
    FURTHER: "",
}

STYLE = """
:root { color-scheme: light dark; --ink: #1d2330; --soft: #5b6475; --line: #d9dee7; --paper: #fff; --card: #f5f7fa;
  --accent: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #a3acbc; --line: #39414f; --paper: #14171d;
  --card: #1d222b; --accent: #5eb3e6; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 66rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 1rem; } h2 { font-size: 1.15rem; margin: 2.4rem 0 .4rem; }
p { margin: .4rem 0 .8rem; } .soft, figcaption, li { color: var(--soft); font-size: .92rem; }
.summary { background: var(--card); border-left: 4px solid var(--accent); border-radius: 6px; padding: .9rem 1.1rem;
  font-size: 1.08rem; margin: 0 0 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .93rem; }
th, td { padding: .5rem .7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
thead th { color: var(--soft); font-weight: 600; white-space: nowrap; } tbody th { font-weight: 600; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.synthetic { font-weight: 700; color: var(--accent); }
.about { min-width: 17rem; color: var(--soft); font-size: .86rem; }
.plain { width: auto; } .plain td { overflow-wrap: anywhere; }
figure { margin: 1.2rem 0; } figcaption { margin-top: .4rem; }
img { display: block; max-width: 100%; height: auto; background: #fff; border: 1px solid var(--line);
  border-radius: 8px; padding: .5rem; }
"""


def html_page(report: Report, pictures: Mapping[str, bytes]) -> str:
    """The whole page; `pictures` are PNG bytes by file name and go inside. All text is escaped."""
    scores = report.scores
    tables = "".join(_score_table(report, title) for title in (LEADING, PAPER, FURTHER))
    figures = "".join(_figure(name, picture) for name, picture in pictures.items())
    settings = {
        "held-out real cells": f"{scores.real_cells:,}",
        "synthetic cells": f"{scores.synthetic_cells:,}",
        "genes": f"{scores.genes:,}",
        "cells a side in each comparison": f"{scores.cells_per_side:,}",
        "repeats": scores.repeats,
        "seed": scores.seed,
    }
    provenance = ""
    if report.provenance:
        provenance = f"<h2>How the synthetic cells were made</h2>{_plain_table(report.provenance.items())}"
    notes = "".join(f"<li>{escape(note)}</li>" for note in report.notes())
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Synthetic cells beside real ones</title>
<style>{STYLE}</style>
</head>
<body>
<h1>Synthetic cells beside real ones</h1>
<p class="summary">{escape(report.summary())}</p>
{tables}{_type_table(report)}
<ul>{notes}</ul>
<h2>Pictures</h2>
{figures}
{provenance}
<h2>Settings and versions</h2>
{_plain_table([*settings.items(), *report.versions.items()])}
</body>
</html>
"""


def _score_table(report: Report, title: str) -> str:
    rows = []
    for metric in METRICS:
        if metric.table != title:
            continue
        numbers = "".join(
            f'<td class="number{" synthetic" if candidate == "synthetic" else ""}">'
            f"{escape(estimate_text(report.scores.values[metric.name][candidate]))}</td>"
            for candidate in CANDIDATES
        )
        rows.append(
            f'<tr><th scope="row">{escape(metric.title)}</th>{numbers}<td>{escape(metric.better)}</td>'
            f'<td class="about">{escape(metric.sees)} <em>Cannot see:</em> {escape(metric.blind)}</td></tr>'
        )
    header = "".join(f'<th scope="col" class="number">{escape(candidate)}</th>' for candidate in CANDIDATES)
    introduction = f'<p class="soft">{escape(INTRODUCTIONS[title])}</p>' if INTRODUCTIONS[title] else ""
    return (
        f'<h2>{escape(title)}</h2>{introduction}<div class="wide"><table><thead><tr><th scope="col">metric</th>{header}'
        f'<th scope="col">better is</th><th scope="col">what it sees</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>\n"
    )


def _type_table(report: Report) -> str:
    if not report.types:
        return ""
    header = "".join(
        f'<th scope="col"{" class=number" if i else ""}>{escape(name)}</th>' for i, name in enumerate(HEADER)
    )
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(f"<td class=number>{escape(v)}</td>" for v in values)}</tr>'
        for name, *values in type_rows(report.types)
    )
    return (
        f'<h2>By cell type</h2><div class="wide"><table><thead><tr>{header}</tr></thead><tbody>{rows}</tbody></table>'
        "</div>\n"
    )


def _plain_table(rows: Iterable[tuple[str, object]]) -> str:
    body = "".join(
        f'<tr><th scope="row">{escape(str(name))}</th><td>{escape(str(value))}</td></tr>' for name, value in rows
    )
    return f'<div class="wide"><table class="plain"><tbody>{body}</tbody></table></div>'


def _figure(name: str, picture: bytes) -> str:
    encoded = base64.b64encode(picture).decode("ascii")
    caption = escape(CAPTIONS.get(name, name))
    return (
        f'<figure><img alt="{caption}" src="data:image/png;base64,{encoded}">'
        f"<figcaption>{caption}</figcaption></figure>\n"
    )
