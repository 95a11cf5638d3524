"""Pictures that several benchmarks share, as PNG bytes."""

from __future__ import annotations

import numpy as np

from scrdit_jax.evaluation import metrics, plots
from scrdit_jax.extras import optional


def tsne_panels(real: np.ndarray, drawn: list[tuple[str, np.ndarray]], *, columns: int = 4) -> bytes:
    """t-SNE of real cells with the (title, synthetic cells) of each panel, in their 50 principal components.

    Each panel is by itself: generators that begin with the same noise make nearly the same cells, and three of a cell
    push each other and the real cells apart, and take the components for themselves.
    """
    columns = min(columns, len(drawn))
    rows = -(-len(drawn) // columns)
    figure, axes = plots.blank_figure(rows, columns, width=4.2 * columns, height=4.6 * rows)
    for axis, (title, cells) in zip(axes, drawn, strict=False):
        pcs = np.concatenate(metrics.joint_pcs(real, cells))
        embedding = optional("sklearn.manifold").TSNE(random_state=0, init="pca", max_iter=plots.TSNE_ITERATIONS)
        with optional("threadpoolctl").threadpool_limits(1):
            places = embedding.fit_transform(pcs)
        sides = ((places[: len(real)], plots.REAL, "real"), (places[len(real) :], plots.SYNTHETIC, "synthetic"))
        for side, colour, label in sides:
            axis.scatter(*side.T, s=9, c=colour, alpha=0.6, linewidths=0, label=f"{label} ({len(side)})")
        axis.spines[:].set_color(plots.GREY)
        axis.set(xticks=[], yticks=[], title=title)
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=2, frameon=False)
    for axis in axes[len(drawn) :]:
        axis.set_axis_off()
    return plots.to_png(figure)
