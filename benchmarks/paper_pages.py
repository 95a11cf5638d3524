"""Tables and figures of `benchmarks.paper`, from its rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.panels import tsne_panels
from benchmarks.published import TABLE_1, TABLE_2, TABLE_3, published_type
from benchmarks.rows import Row, markdown, put, slug
from scrdit_jax.evaluation import metrics, plots
from scrdit_jax.extras import optional

LABELS = {"dit-zn": "DiT with zero-negation", "dit": "DiT", "unet": "UNet", "dit-zn-standardised": "standardised"}
SHOWN = {
    "zero_fraction": "zeros",
    "kl": "KL",
    "wasserstein": "Wasserstein",
    "mmd": "MMD",
    "mmd_held_out": "MMD, held out",
    "mmd_pca_held_out": "PCA-50 MMD, held out",
}
PICTURED_CELLS = 400


def write(rows: list[Row], about: dict[str, Any], out: Path) -> None:
    """results.json, tables.md and the figures, into the folder `out`; each whole or as it was."""
    put(out / "results.json", (json.dumps({**about, "rows": rows}, indent=1) + "\n").encode())
    put(out / "tables.md", tables(rows, about).encode())
    names = list(dict.fromkeys(row["cells"] for row in rows))
    work = out / "work"
    kept = [row for row in rows if "kept" in row]
    for name in names:
        of_name = [row for row in kept if row["cells"] == name]
        main = _main_rows(of_name)
        tag = "" if len(names) == 1 else f"_{names.index(name) + 1}"
        pictured = [*main["dit-zn"], main["dit"][-1]]
        if not all(path.is_file() for path in (_real_path(work, name), *(_kept(row, work) for row in pictured))):
            continue  # the cells were deleted, or the rows measured elsewhere
        put(out / f"figure_3a{tag}.png", fitting(main["dit-zn"], name, work))
        put(out / f"figure_3c{tag}.png", fitting(main["dit-zn"][-1:], name, work))
        put(out / f"figure_4b{tag}.png", violins([main["dit"][-1], main["dit-zn"][-1]], name, work))
    put(out / "figure_3b.png", curves(rows, names, ("dit-zn",), "epochs", _main_rows))
    put(out / "figure_4a.png", curves(rows, names, ("dit-zn", "dit", "unet"), "epochs", _main_rows))
    put(out / "figure_4c.png", curves(rows, names, (1, 0), "acceleration", _accelerated))


def tables(rows: list[Row], about: dict[str, Any]) -> str:
    """The three tables and what explains the collapse, as Markdown."""
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
        parts += _table_1(name, of_name, floor), _table_2(name, of_name, floor), _table_3(name, of_name, floor)
        parts += [_collapse(of_name)]
    return "\n".join(parts)


def _main_rows(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """By system, the rows of its epochs, each with the sampler of tables 1 and 2."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if "system" in row and row["schedule"] == "paper" and row["eta"] == 1 and not row.get("from_real"):
            stages = found.setdefault(row["system"], [])
            if row["epochs"] not in [stage["epochs"] for stage in stages]:
                stages.append(row)
    return found


def _accelerated(rows: Iterable[Row]) -> dict[float, list[Row]]:
    """By eta, table 3's rows with the paper's own timesteps, by acceleration."""
    of = [r for r in rows if r.get("system") == "dit-zn" and r["schedule"] == "paper" and not r.get("from_real")]
    last = max(row["epochs"] for row in of)
    of = sorted((row for row in of if row["epochs"] == last), key=lambda row: row["acceleration"])
    return {eta: [row for row in of if row["eta"] == eta] for eta in {row["eta"] for row in of}}


def _seconds(rows: list[Row]) -> float:
    trained = {(r["cells"], r["system"], r["epochs"]): r["training_seconds"] for r in rows if "system" in r}
    return sum(trained.values()) + sum(sum(row.get("sampling_seconds", ())) for row in rows)


def _kept(row: Row, work: Path) -> Path:
    return work / f"{row['kept']}.0.npz"


def _mean(row: Row, score: str) -> float:
    return float(np.mean([scores[score] for scores in row["scores"]]))


def _cell(row: Row, score: str) -> str:
    values = [scores[score] for scores in row["scores"]]
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1 if len(values) > 1 else 0):.3f}"


def _markdown(title: str, header: list[str], lines: list[list[str]]) -> str:
    return f"### {title}\n\n" + markdown(header, lines)


def _paper(values: tuple[float, ...] | None) -> str:
    return " / ".join(f"{value:.3f}" for value in values) if values else "-"


def _real(floor: Row, *first: str) -> list[str]:
    return [*first, *(_cell(floor, score) for score in SHOWN), "-"]


def _table_1(name: str, rows: list[Row], floor: Row) -> str:
    printed = TABLE_1.get(published_type(name) or "", {})
    lines = [
        [str(row["epochs"]), *(_cell(row, score) for score in SHOWN), _paper(printed.get(row["epochs"]))]
        for row in _main_rows(rows)["dit-zn"]
    ]
    header = ["epochs", *SHOWN.values(), "paper: KL / Wasserstein / MMD"]
    return _markdown("Table 1: epochs", header, [*lines, _real(floor, "*real*")])


def _table_2(name: str, rows: list[Row], floor: Row) -> str:
    printed = TABLE_2.get(published_type(name) or "", {})
    main = _main_rows(rows)
    shared = min(stages[-1]["epochs"] for system, stages in main.items() if system in ("unet", "dit", "dit-zn"))
    lines = []
    for system in ("unet", "dit", "dit-zn"):
        for row in main[system]:
            if row["epochs"] in (shared, main[system][-1]["epochs"]):
                beside = printed.get(system) if row is main[system][-1] else None
                seconds = sum(stage["training_seconds"] for stage in main[system] if stage["epochs"] <= row["epochs"])
                first = [
                    LABELS[system],
                    str(row["epochs"]),
                    f"{seconds:.0f}",
                    f"{np.mean(row['sampling_seconds']):.1f}",
                ]
                lines.append([*first, *(_cell(row, score) for score in SHOWN), _paper(beside and (beside,))])
    header = ["model", "epochs", "training, s", "sampling, s", *SHOWN.values(), "paper: MMD"]
    return _markdown("Table 2: networks", header, [*lines, _real(floor, "*real*", "", "", "")])


def _table_3(name: str, rows: list[Row], floor: Row) -> str:
    printed = TABLE_3.get(published_type(name) or "", {})
    last = _main_rows(rows)["dit-zn"][-1]["epochs"]
    chosen = [r for r in rows if (r["system"], r["epochs"]) == ("dit-zn", last) and r["schedule"] != "uniform"]
    chosen = [row for row in chosen if not row.get("from_real")]
    chosen.sort(key=lambda row: (row["acceleration"], row["schedule"], row["eta"]))
    lines = [
        [
            f"{row['acceleration']}x", row["schedule"] if row["acceleration"] > 1 else "every", f"{row['eta']:g}",
            *(_cell(row, score) for score in SHOWN), f"{np.mean(row['sampling_seconds']):.1f}",
            _paper(printed.get(row["acceleration"]) if row["eta"] == 1 and row["schedule"] == "paper" else None),
        ]
        for row in chosen
    ]  # fmt: skip
    header = ["acceleration", "timesteps", "eta", *SHOWN.values(), "seconds", "paper: KL / Wasserstein / MMD"]
    real = _real(floor, "*real*", "", "")
    return _markdown("Table 3: acceleration", header, [*lines, [*real[:-1], "", real[-1]]])


def _collapse(rows: list[Row]) -> str:
    lines = []
    for system in ("dit-zn", "dit-zn-standardised"):
        of = [row for row in rows if row["system"] == system and row["acceleration"] == 100]
        of = [row for row in of if row["schedule"] in ("paper", "uniform")]
        for row in sorted(of, key=lambda row: (row["eta"], row["schedule"], row.get("from_real", False))):
            begins = "noisy real cells" if row.get("from_real") else "pure noise"
            first = [LABELS[system], f"{row['eta']:g}", str(row["starts_at"]), f"{row['start_error']:.2f}", begins]
            lines.append([*first, *(_cell(row, score) for score in SHOWN)])
    header = ["model", "eta", "first t", "mean of noisy cells there, in deviations", "begins with", *SHOWN.values()]
    return _markdown("Why 100x collapses: 10 evaluations of the same models", header, lines)


def curves(
    rows: list[Row], names: list[str], lines: tuple[Any, ...], along: str, choose: Callable[[list[Row]], Any]
) -> bytes:
    """MMD as the paper computes it along epochs or acceleration: a colour for each set of cells, a style for each line.

    `choose` gives the rows of every one of `lines`, which are systems or values of eta.
    """
    figure, (axis,) = plots.blank_figure(1, 1, width=6.4, height=4.2)
    for colour, name in zip(plots.TYPE_COLOURS, names, strict=False):
        chosen = choose([row for row in rows if row["cells"] == name])
        for style, line in zip(("-", "--", ":"), lines, strict=False):
            label = LABELS.get(line, f"eta = {line}")
            places = [stage[along] for stage in chosen[line]]
            means = [_mean(stage, "mmd") for stage in chosen[line]]
            axis.plot(places, means, style, marker="o", markersize=4, color=colour, label=f"{name}, {label}")
        floor = next(row for row in rows if row["cells"] == name and "system" not in row)
        axis.axhline(_mean(floor, "mmd"), color=colour, linewidth=0.8, label=f"{name}, real against real")
    ticker = optional("matplotlib.ticker")
    axis.set(xlabel=along, ylabel="MMD", yscale="log")
    if along == "acceleration":
        axis.set_xscale("log")
        axis.set_xticks(sorted({row[along] for row in rows if along in row}))
    for scale in (axis.xaxis, axis.yaxis):
        scale.set_major_formatter(ticker.FormatStrFormatter("%g"))
        scale.set_minor_formatter(ticker.NullFormatter() if scale is axis.xaxis else ticker.FormatStrFormatter("%g"))
    axis.legend(frameon=False, fontsize=8)
    return plots.to_png(figure)


def fitting(stages: list[Row], name: str, work: Path) -> bytes:
    """t-SNE of real cells and those of a stage, a panel each (scRDiT fig. 3a; one stage: 3c)."""
    real = _load(_real_path(work, name))[:PICTURED_CELLS]
    drawn = [_load(_kept(stage, work))[:PICTURED_CELLS] for stage in stages]
    titles = [f"{name}, {stage['epochs']} epochs" for stage in stages]
    return tsne_panels(real, list(zip(titles, drawn, strict=True)), columns=len(stages))


def violins(stages: list[Row], name: str, work: Path) -> bytes:
    """Coefficient of variation and zero proportion of every gene, real and without and with zero-negation (fig. 4b)."""
    sides = [("real", _load(_real_path(work, name)), plots.REAL)]
    colours = (plots.GREY, plots.SYNTHETIC)
    for stage, colour in zip(stages, colours, strict=True):
        sides.append((LABELS[stage["system"]], _load(_kept(stage, work)), colour))
    cells = min(len(values) for _, values, _ in sides)  # the coefficient of variation grows with the number of cells
    figure, axes = plots.blank_figure(1, 2, width=10.0, height=4.2)
    for axis, measure, title in (
        (axes[0], metrics.coefficient_of_variation, "Coefficient of variation per gene"),
        (axes[1], metrics.zero_fraction_per_gene, "Zero proportion per gene"),
    ):
        axis.set_title(f"{title}, {name}")
        of_genes = [(label, measure(values[:cells]), colour) for label, values, colour in sides]
        plots.add_violins(axis, [(label, found[np.isfinite(found)], colour) for label, found, colour in of_genes])
    return plots.to_png(figure)


def _real_path(work: Path, name: str) -> Path:
    return work / f"{slug(name)}.real.npz"


def _load(path: Path) -> np.ndarray:
    with np.load(path, allow_pickle=False) as file:
        return file["cells"]
