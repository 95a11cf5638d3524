"""How good the cells of each type are: are they what they were asked to be, and do they vary as that type does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..extras import optional
from . import metrics

if TYPE_CHECKING:
    from anndata import AnnData

# A type with fewer held-out cells is called, but its cloud is not compared: halves of it say nothing.
MINIMUM_CELLS = 20
FOLDS = 5
COMPONENTS = 50


@dataclass(frozen=True, kw_only=True)
class TypeScores:
    """One cell type. `called` is the share of synthetic cells that a logistic classifier, trained on the held-out real
    ones, gives the name they were asked for; `called_real` is that of held-out cells it was not trained on (five-fold):
    no more can be expected of faithful cells. `mmd` is the PCA-50 MMD against half the type's held-out cells, `floor`
    that of the other half; None with fewer than 20 on a side. `asked` is None where no record says so.
    """

    name: str
    asked: int | None
    made: int
    held_out: int
    called: float | None
    called_real: float | None
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
    asked: Mapping[str, int] | None = None,
    seed: int = 0,
    repeats: int = 5,
    max_cells: int = 5000,
) -> tuple[TypeScores, ...]:
    """Scores of every type that either side has in obs[`column`], by name; both sides have the same genes.

    At most `max_cells` cells a side, drawn at random, are looked at for anything but the numbers made.
    """
    rng = np.random.default_rng([seed, 3])
    columns = real.var_names.get_indexer(synthetic.var_names)
    real_types, made_types = (side.obs[column].astype(str).to_numpy() for side in (real, synthetic))
    made = dict(zip(*np.unique(made_types, return_counts=True), strict=True))
    real_rows, made_rows = (_draw(rng, len(types), max_cells) for types in (real_types, made_types))
    x = metrics.dense(real.X[real_rows])[:, columns]
    y = metrics.dense(synthetic.X[made_rows])
    real_types, made_types = real_types[real_rows], made_types[made_rows]
    with optional("threadpoolctl").threadpool_limits(1):
        calls, real_calls = _calls(x, real_types, y, seed)
        x_pcs, y_pcs = metrics.joint_pcs(x, y, components=COMPONENTS, seed=seed)
        scores = []
        for name in sorted({*made, *real_types, *(asked or {})}):
            of_real, of_made = real_types == name, made_types == name
            mmd, floor = _spread(x_pcs[of_real], y_pcs[of_made], rng, repeats)
            scores.append(
                TypeScores(
                    name=str(name),
                    asked=None if asked is None else int(asked.get(name, 0)),
                    made=int(made.get(name, 0)),
                    held_out=int(of_real.sum()),
                    called=_share(calls[of_made] == name),
                    called_real=_share(real_calls[of_real] == name),
                    mmd=mmd,
                    floor=floor,
                )
            )
    return tuple(scores)


def _draw(rng: np.random.Generator, there: int, most: int) -> np.ndarray:
    return np.arange(there) if there <= most else np.sort(rng.permutation(there)[:most])


def _share(hits: np.ndarray) -> float | None:
    return float(hits.mean()) if len(hits) else None


def _calls(x: np.ndarray, types: np.ndarray, y: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The type that the classifier gives each synthetic cell, and each held-out one when left out of its training."""
    if len(set(types)) < 2:
        return np.full(len(y), types[0]), types
    model = optional("sklearn.linear_model").LogisticRegression(max_iter=2000)
    real_calls = types.copy()
    folds = np.random.default_rng([seed, 4]).permutation(len(x)) % FOLDS
    for fold in range(FOLDS):
        left_out = folds == fold
        if left_out.any() and len(set(types[~left_out])) > 1:
            real_calls[left_out] = model.fit(x[~left_out], types[~left_out]).predict(x[left_out])
    return model.fit(x, types).predict(y), real_calls


def _spread(
    real: np.ndarray, made: np.ndarray, rng: np.random.Generator, repeats: int
) -> tuple[float | None, float | None]:
    """Mean MMD of synthetic cells, and of the other half of the real ones, against half the real ones."""
    size = min(len(real) // 2, len(made))
    if len(real) < MINIMUM_CELLS or len(made) < MINIMUM_CELLS // 2:
        return None, None
    found = []
    for _ in range(repeats):
        order = rng.permutation(len(real))
        half, other = real[order[:size]], real[order[size : 2 * size]]
        drawn = made[rng.permutation(len(made))[:size]]
        found.append((metrics.gaussian_mmd(half, drawn), metrics.gaussian_mmd(half, other)))
    mmd, floor = np.mean(found, axis=0)
    return float(mmd), float(floor)


HEADER = ("cell type", "asked", "made", "called so", "real called so", "PCA-50 MMD", "real vs real")


def type_rows(scores: Sequence[TypeScores]) -> list[list[str]]:
    """The table's rows under HEADER, as text."""

    def number(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    return [
        [s.name, number(s.asked, ","), f"{s.made:,}", number(s.called, ".1%"), number(s.called_real, ".1%"),
         number(s.mmd, ".3f"), number(s.floor, ".3f")]
        for s in scores
    ]  # fmt: skip
