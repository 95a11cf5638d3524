"""What was compiled as Markdown and as a picture."""

from __future__ import annotations

from typing import Any

from scrdit_jax.evaluation import plots

from .chips import CHIPS

Row = dict[str, Any]


def name_of(row: Row) -> str:
    """Of a program, such as "paper sampler 16 x 20"."""
    size = f"{row['batch_size']}" + (f" on {row['devices']}" if row["devices"] > 1 else "")
    return f"{row['preset']} {row['kind']} {size}" + (f" x {row['evaluations']}" if row["evaluations"] else "")


def table(rows: list[Row]) -> str:
    """One line a program."""
    head = [
        "chip", "program", "dtype", "attention", "GFLOP a cell", "MB a cell", "temporary MB", "kernels", "copies",
        "scores MB", "products", "cells/s by operation", "by FLOPs", "by cycles",
    ]  # fmt: skip
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in rows:
        if "error" in row:
            lines.append(
                f"| {row['chip']} | {name_of(row)} | {row['dtype']} | {row['error']} |" + " |" * (len(head) - 4)
            )
            continue
        main = next(iter(row["products"].items()), ("", 0))
        speeds = (_speed(row[f"cells_a_second_by_{by}"]) for by in ("operation", "flops", "cycles"))
        cells = [
            row["chip"], name_of(row), row["dtype"], row["attention"]["kernel"] or "XLA's",
            f"{row['gflop_a_cell']:.2f}", f"{row['megabytes_a_cell']:.2f}", f"{row['temporary_megabytes']:,.0f}",
            str(row["kernels"]), str(row["copies"]), f"{row['attention']['scores_megabytes']:.0f}",
            f"{main[1]:.0%} {main[0]}", *speeds,
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _speed(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def faults(rows: list[Row]) -> list[str]:
    """What no program may have: an exchange or a transfer to the host in a sampler, a bias that jax#39336 loses."""
    found = []
    for row in rows:
        if "error" in row:
            found.append(f"{row['chip']} {name_of(row)} does not compile: {row['error']}")
            continue
        for what in ("collectives", "host_transfers") if row["kind"] == "sampler" else ():
            if row[what]:
                found.append(f"{row['chip']} {name_of(row)}: {row[what]} {what.replace('_', ' ')} in sampling")
        if row["scaled_bias"]:
            found.append(f"{row['chip']} {name_of(row)}: {row['scaled_bias']} products with the bias of jax#39336")
    return found


def roofline(rows: list[Row]) -> bytes:
    """Each program of a chip where its operations and bytes put it under the chip's two limits; hollow, where the
    compiler's own cycles do."""
    rows = [row for row in rows if "error" not in row]
    chips = [name for name in CHIPS if any(row["chip"] == name for row in rows)] or list(CHIPS)[:1]
    figure, axes = plots.blank_figure(1, len(chips), width=3.6 * len(chips), height=3.8)
    for axis, name in zip(axes, chips, strict=True):
        chip = CHIPS[name]
        intensities = [10.0, chip.peak / chip.bandwidth, 2e4]
        axis.loglog(intensities, [min(chip.peak, i * chip.bandwidth) / 1e12 for i in intensities], c=plots.GREY)
        for kind, marker, colour in (("sampler", "o", plots.SYNTHETIC), ("step", "s", plots.REAL)):
            shown = [row for row in rows if row["chip"] == name and row["kind"] == kind and row["dtype"] == "bfloat16"]
            for by, face in (("operation", colour), ("cycles", "none")):
                places = [_place(row, by, chip.peak) for row in shown if row[f"cells_a_second_by_{by}"]]
                if places:
                    label = f"{kind}s" if by == "operation" else f"{kind}s, by cycles"
                    axis.scatter(*zip(*places, strict=True), marker=marker, s=24, ec=colour, fc=face, label=label)
        axis.set(title=name, xlabel="FLOP a byte of main memory", ylabel="TFLOP/s at most" if name == chips[0] else "")
        axis.set(xlim=(10, 2e4), ylim=(chip.peak / 1e14, 1.6 * chip.peak / 1e12))
        axis.legend(loc="lower right", frameon=False, fontsize=8)
    return plots.to_png(figure)


def _place(row: Row, by: str, peak: float) -> tuple[float, float]:
    """(FLOP a byte, TFLOP/s)."""
    share = row[f"cells_a_second_by_{by}"] / row["cells_a_second_by_flops"]
    return 1e3 * row["gflop_a_cell"] / max(row["megabytes_a_cell"], 1e-6), share * peak / 1e12
