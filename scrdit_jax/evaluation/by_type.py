"""How good the cells of each type are: are they of the type that was requested, and do they vary as that type does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..extras import optional
from . import metrics
from .comparison import MINIMUM_CELLS, halves
from .tables import Table

if TYPE_CHECKING:
    from anndata import AnnData

FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class TypeScores:
    """One cell type, and how many of its cells were `requested` (None: not recorded), `generated` and `held_out`.

    `classified` is the share of synthetic cells that a logistic classifier, trained on the held-out real ones, gives
    the type they were requested as; `classified_real` is that of held-out cells it was not trained on (five-fold): no
    more can be expected of faithful cells. `mmd` is the PCA-50 MMD against half the type's held-out cells, `floor` that
    of the other half; None with fewer than 20 held-out cells, or 10 synthetic ones: halves of those say nothing.
    """

    name: str
    requested: int | None
    generated: int
    held_out: int
    classified: float | None
    classified_real: float | None
    mmd: float | None
    floor: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def score_types(
    real: AnnData,
    synthetic: AnnData,
    column: str,
    *,
    requested: Mapping[str, int] | None = None,
    seed: int = 0,
    repeats: int = 5,
    max_cells: int = 5000,
) -> tuple[TypeScores, ...]:
    """Scores of every type that either side has in obs[`column`], by name; both sides have the same genes.

    At most `max_cells` cells a side, drawn at random, enter anything but the numbers generated.
    """
    rng = np.random.default_rng([seed, 3])
    typed = synthetic.obs[column].notna().to_numpy()
    # Cells whose type was left out of the request are of none.
    synthetic = synthetic if typed.all() else synthetic[typed]
    columns = real.var_names.get_indexer(synthetic.var_names)
    real_types, synthetic_types = (side.obs[column].astype(str).to_numpy() for side in (real, synthetic))
    generated = dict(zip(*np.unique(synthetic_types, return_counts=True), strict=True))
    real_rows, synthetic_rows = (_draw(rng, len(types), max_cells) for types in (real_types, synthetic_types))
    x, y = metrics.dense(real.X[real_rows])[:, columns], metrics.dense(synthetic.X[synthetic_rows])
    real_types, synthetic_types = real_types[real_rows], synthetic_types[synthetic_rows]
    with optional("threadpoolctl").threadpool_limits(1):
        classes, real_classes = _classify(x, real_types, y, seed)
        x_pcs, y_pcs = metrics.joint_pcs(x, y, seed=seed)
        scores = []
        for name in sorted({*generated, *real_types, *(requested or {})}):
            of_real, of_synthetic = real_types == name, synthetic_types == name
            mmd, floor = _spread(x_pcs[of_real], y_pcs[of_synthetic], rng, repeats)
            scores.append(
                TypeScores(
                    name=str(name),
                    requested=None if requested is None else int(requested.get(name, 0)),
                    generated=int(generated.get(name, 0)),
                    held_out=int(of_real.sum()),
                    classified=_share(classes[of_synthetic] == name),
                    classified_real=_share(real_classes[of_real] == name),
                    mmd=mmd,
                    floor=floor,
                )
            )
    return tuple(scores)


def _draw(rng: np.random.Generator, there: int, most: int) -> np.ndarray:
    return np.arange(there) if there <= most else np.sort(rng.permutation(there)[:most])


def _share(hits: np.ndarray) -> float | None:
    return float(hits.mean()) if len(hits) else None


def _classify(x: np.ndarray, types: np.ndarray, y: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The type that a classifier gives each synthetic cell, and each held-out one when left out of its training."""
    if len(set(types)) < 2:
        return np.full(len(y), types[0]), types
    model = optional("sklearn.linear_model").LogisticRegression(max_iter=2000)
    real_classes = types.copy()
    folds = np.random.default_rng([seed, 4]).permutation(len(x)) % FOLDS
    for fold in range(FOLDS):
        left_out = folds == fold
        if left_out.any() and len(set(types[~left_out])) > 1:
            real_classes[left_out] = model.fit(x[~left_out], types[~left_out]).predict(x[left_out])
    return model.fit(x, types).predict(y), real_classes


def _spread(
    real: np.ndarray, synthetic: np.ndarray, rng: np.random.Generator, repeats: int
) -> tuple[float | None, float | None]:
    """Mean MMD of synthetic cells, and of the other half of the real ones, against half the real ones."""
    size = min(len(real) // 2, len(synthetic))
    if len(real) < MINIMUM_CELLS or len(synthetic) < MINIMUM_CELLS // 2:
        return None, None
    found = []
    for _ in range(repeats):
        reference, other = halves(real, rng, size=size)
        drawn = synthetic[rng.permutation(len(synthetic))[:size]]
        found.append((metrics.gaussian_mmd(reference, drawn), metrics.gaussian_mmd(reference, other)))
    mmd, floor = np.mean(found, axis=0)
    return float(mmd), float(floor)


HEADER = (
    "cell type", "requested", "generated", "classified as requested", "real cells so classified", "PCA-50 MMD",
    "real vs real",
)  # fmt: skip


TITLE = "By cell type"
TYPES_NOTE = (
    "'classified as requested' is the share of a type's synthetic cells that a logistic classifier trained on the "
    "held-out real ones takes for that type, 'real cells so classified' that of held-out cells it was not trained on."
)


def type_table(scores: Sequence[TypeScores]) -> Table:
    """A row for each type."""
    return Table(title=TITLE, introduction=TYPES_NOTE, header=HEADER, rows=type_rows(scores))


def type_rows(scores: Sequence[TypeScores]) -> list[list[str]]:
    """The table's rows under HEADER, as text."""

    def number(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    return [
        [s.name, number(s.requested, ","), f"{s.generated:,}", number(s.classified, ".1%"),
         number(s.classified_real, ".1%"), number(s.mmd, ".3f"), number(s.floor, ".3f")]
        for s in scores
    ]  # fmt: skip
