"""Tables 1 to 3 of the paper with its own figures beside, and why its cells collapse at 100x."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.paper.plan import DRAWN
from scrdit_jax.benchmarking.store import Row
from scrdit_jax.evaluation.comparison import Estimate, estimate_text
from scrdit_jax.evaluation.tables import markdown_table

# What scRDiT prints, by cell type: (KL divergence, Wasserstein distance, MMD) after so many "epochs" (table 1) and at
# each "acceleration" (table 3), MMD of its "networks" (table 2). Its cells are GSE103322 and GSE181297.
PUBLISHED = json.loads((Path(__file__).parent / "published.json").read_text())
LABELS = {
    "dit-zn": "DiT with zero-negation", "dit": "DiT", "unet": "UNet", "dit-zn-standardised": "standardised",
    DRAWN: "DiT, genes drawn",
}  # fmt: skip
SHOWN = {
    "zero_fraction": "zeros",
    "kl": "KL",
    "wasserstein": "Wasserstein",
    "mmd": "MMD",
    "mmd_held_out": "MMD, held out",
    "mmd_pca_held_out": "PCA-50 MMD, held out",
}


def page(rows: list[Row], about: dict[str, Any]) -> str:
    """The three tables, the third alone where only that was measured, and what explains the collapse, as Markdown."""
    kinds = dict.fromkeys(f"{row['device']['devices']} x {row['device']['kind']}" for row in rows if "device" in row)
    parts = [
        f"`{about['command']}`: {', '.join(kinds)}, {about['plan']['seeds']} seeds of "
        f"{about['plan']['cells']} cells; mean ± deviation over seeds; {_seconds(rows) / 60:.0f} minutes of "
        "training and sampling.\n",
        "KL, Wasserstein and MMD as the paper computes them, against the training cells; real: one half of those "
        "against the other, which are fewer cells: its MMD, biased by about 1 / cells on either side, can be undercut. "
        "Held out: against as many cells that were never trained on; real: training cells.\n",
        "The paper's columns are of its own cells of that name (GSE103322, GSE181297), its models trained to the end; "
        "its sampler is not said, and its best rows of table 1 are those of 10x in table 3.\n",
    ]
    for name in dict.fromkeys(row["cells"] for row in rows):
        floor = next(row for row in rows if row["cells"] == name and "floor" not in row and "system" not in row)
        of_name = [row for row in rows if row["cells"] == name and "system" in row]
        parts += [f"## {name}: {floor['training']} training cells, {floor['held_out']} held out\n"]
        if "unet" in main_rows(of_name):
            parts += _table_1(name, of_name, floor), _table_2(name, of_name, floor)
        parts += [_table_3(name, of_name, floor), _collapse(of_name)]
    return "\n".join(parts)


def published(name: str, table: str) -> dict[str, Any]:
    """The figures for the paper's cell type that a set of cells called `name` is of; empty if it is of none."""
    return next((tables[table] for known, tables in PUBLISHED.items() if name.lower().startswith(known)), {})


def main_rows(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """By system, the rows of its epochs, each with the sampler of tables 1 and 2."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if "system" in row and row["schedule"] == "paper" and row["eta"] == 1 and not row.get("from_real"):
            stages = found.setdefault(row["system"], [])
            if row["epochs"] not in [stage["epochs"] for stage in stages]:
                stages.append(row)
    return found


def accelerated_rows(rows: Iterable[Row]) -> dict[float, list[Row]]:
    """By eta, table 3's rows with the paper's own timesteps, by acceleration."""
    of = [r for r in rows if r.get("system") == "dit-zn" and r["schedule"] == "paper" and not r.get("from_real")]
    last = max(row["epochs"] for row in of)
    of = sorted((row for row in of if row["epochs"] == last), key=lambda row: row["acceleration"])
    return {eta: [row for row in of if row["eta"] == eta] for eta in {row["eta"] for row in of}}


def drawn_rows(rows: Iterable[Row]) -> list[Row]:
    """Table 3's rows of the model whose genes are drawn, by acceleration."""
    return sorted((row for row in rows if row.get("system") == DRAWN), key=lambda row: row["acceleration"])


def _seconds(rows: list[Row]) -> float:
    trained = {(r["cells"], r["system"], r["epochs"]): r["training_seconds"] for r in rows if "system" in r}
    return sum(trained.values()) + sum(sum(row.get("sampling_seconds", ())) for row in rows)


def mean_score(row: Row, score: str) -> float:
    """Over the seeds."""
    return float(np.mean([scores[score] for scores in row["scores"]]))


def _score(row: Row, score: str) -> str:
    return estimate_text(Estimate.of([scores[score] for scores in row["scores"]]))


def _titled(title: str, header: list[str], lines: list[list[str]]) -> str:
    return f"### {title}\n\n" + markdown_table(header, lines)


def _paper(values: Sequence[float] | None) -> str:
    return " / ".join(f"{value:.3f}" for value in values) if values else "-"


def _real(floor: Row, *first: str) -> list[str]:
    return [*first, *(_score(floor, score) for score in SHOWN), "-"]


def _table_1(name: str, rows: list[Row], floor: Row) -> str:
    printed = published(name, "epochs")
    lines = [
        [str(row["epochs"]), *(_score(row, score) for score in SHOWN), _paper(printed.get(str(row["epochs"])))]
        for row in main_rows(rows)["dit-zn"]
    ]
    header = ["epochs", *SHOWN.values(), "paper: KL / Wasserstein / MMD"]
    return _titled("Table 1: epochs", header, [*lines, _real(floor, "*real*")])


def _table_2(name: str, rows: list[Row], floor: Row) -> str:
    printed = published(name, "networks")
    main = main_rows(rows)
    shared = min(stages[-1]["epochs"] for system, stages in main.items() if system in ("unet", "dit", "dit-zn"))
    lines = []
    for system in ("unet", "dit", "dit-zn"):
        for row in main[system]:
            if row["epochs"] in (shared, main[system][-1]["epochs"]):
                beside = printed.get(system) if row is main[system][-1] else None
                seconds = sum(stage["training_seconds"] for stage in main[system] if stage["epochs"] <= row["epochs"])
                first = [LABELS[system], row["epochs"], f"{seconds:.0f}", f"{np.mean(row['sampling_seconds']):.1f}"]
                lines.append([*first, *(_score(row, score) for score in SHOWN), _paper(beside and (beside,))])
    header = ["model", "epochs", "training, s", "sampling, s", *SHOWN.values(), "paper: MMD"]
    return _titled("Table 2: networks", header, [*lines, _real(floor, "*real*", "", "", "")])


def _table_3(name: str, rows: list[Row], floor: Row) -> str:
    printed = published(name, "acceleration")
    last = main_rows(rows)["dit-zn"][-1]["epochs"]
    chosen = [
        r for r in rows if r["system"] in ("dit-zn", DRAWN) and r["epochs"] == last and r["schedule"] != "uniform"
    ]
    chosen = [row for row in chosen if not row.get("from_real")]
    chosen.sort(key=lambda row: (row["acceleration"], row["system"] == DRAWN, row["schedule"], row["eta"]))
    lines = [
        [
            f"{row['acceleration']}x", str(row["evaluations"]), *_sampler(row),
            *(_score(row, score) for score in SHOWN), f"{np.mean(row['sampling_seconds']):.1f}",
            _paper(printed.get(str(row["acceleration"])) if row["eta"] == 1 and row["schedule"] == "paper" else None),
        ]
        for row in chosen
    ]  # fmt: skip
    header = ["acceleration", "evaluations", "timesteps", "eta", *SHOWN.values(), "seconds"]
    header += ["paper: KL / Wasserstein / MMD"]
    real = _real(floor, "*real*", "", "", "")
    return _titled("Table 3: acceleration", header, [*lines, [*real[:-1], "", real[-1]]])


def _sampler(row: Row) -> tuple[str, str]:
    """(timesteps, eta) of a row of table 3, in words."""
    if row["system"] == DRAWN:
        return LABELS[DRAWN], ""
    return row["schedule"] if row["acceleration"] > 1 else "every", f"{row['eta']:g}"


def _collapse(rows: list[Row]) -> str:
    lines = []
    for system in ("dit-zn", "dit-zn-standardised"):
        of = [row for row in rows if row["system"] == system and row["acceleration"] == 100]
        of = [row for row in of if row["schedule"] in ("paper", "uniform")]
        for row in sorted(of, key=lambda row: (row["eta"], row["schedule"], row.get("from_real", False))):
            begins = "noisy real cells" if row.get("from_real") else "pure noise"
            first = [LABELS[system], f"{row['eta']:g}", str(row["starts_at"]), f"{row['start_error']:.2f}", begins]
            lines.append([*first, *(_score(row, score) for score in SHOWN)])
    header = ["model", "eta", "first t", "mean of noisy cells there, in deviations", "begins with", *SHOWN.values()]
    return _titled("Why 100x collapses: 10 evaluations of the same models", header, lines)
