"""Log fold changes of generated cells over those of held-out ones, as PNG bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scrdit_jax.evaluation import plots
from scrdit_jax.evaluation.metrics import pearson

LABELLED = 8


def scatter(
    held_out: np.ndarray,
    drawn: Sequence[tuple[str, np.ndarray]],
    genes: Sequence[str],
    most_changed: np.ndarray,
    shown: Sequence[str],
) -> bytes:
    """A panel for each (title, log fold change of every gene); `most_changed` genes in colour, some `shown` named."""
    figure, axes = plots.blank_figure(1, len(drawn), width=3.7 * len(drawn), height=4.2)
    every = np.concatenate([held_out, *(changes for _, changes in drawn)])
    room = np.ptp(every)  # of which the names need most, to the right
    ends = [float(every.min() - 0.06 * room), float(every.max() + 0.16 * room)]
    named = sorted((list(genes).index(name) for name in shown), key=lambda gene: -abs(held_out[gene]))[:LABELLED]
    for axis, (title, changes) in zip(axes, drawn, strict=True):
        axis.plot(ends, ends, color="#888888", linewidth=1, linestyle="--", zorder=1)
        axis.scatter(held_out, changes, s=4, color=plots.GREY, linewidths=0, zorder=2, label="all genes")
        axis.scatter(
            held_out[most_changed], changes[most_changed], s=12, color=plots.SYNTHETIC, alpha=0.7, linewidths=0,
            zorder=3, label=f"the {len(most_changed)} most changed",
        )  # fmt: skip
        # Names stand beside their dots, alternately left and right, so that neighbours do not lie on each other.
        for number, gene in enumerate(sorted(named, key=lambda gene: changes[gene])):
            right = number % 2 == 0
            axis.annotate(
                genes[gene], (held_out[gene], changes[gene]), (8 if right else -8, -3 if right else 3),
                textcoords="offset points", ha="left" if right else "right", fontsize=8, zorder=4,
            )  # fmt: skip
        r = pearson(held_out[most_changed], changes[most_changed])
        axis.text(0.05, 0.95, f"r = {r:.3f}", transform=axis.transAxes, va="top", fontsize=11)
        axis.set(title=title, xlabel="held-out cells", xlim=ends, ylim=ends, aspect="equal")
    axes[0].set_ylabel("log fold change, in the candidate")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, markerscale=2)
    return plots.to_png(figure)
