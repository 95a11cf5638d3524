"""What synthetic cells are good for: to train classifiers, to fill up rare types, to find types and markers again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..extras import optional
from .comparison import CANDIDATES, REAL, SHUFFLED, SYNTHETIC, Estimate
from .memorisation import taken
from .pools import Pools, require_finite_rows
from .real_split import OVERLAP, Augmentation, RealSplit, TypedCells, real_splits

if TYPE_CHECKING:
    from anndata import AnnData

    from .cells import ComparedCells

# Of more cells so many are used, drawn at random: of the training cells, of the synthetic ones, repeats of it all.
MOST_TRAINING, MOST_SYNTHETIC, MOST_REPEATS = 3000, 10_000, 3
ON_TRAINING, ON_HELD_OUT = "training cells", "held-out cells"
NO_TYPES = "the real cells have no column of cell types"
FEW_TYPES = "under two cell types have enough real cells"


@dataclass(frozen=True, kw_only=True)
class TypeUtility:
    """One cell type: its share of the real cells and of the synthetic ones, by the types they were given (None: none)
    and by those that are `transferred` to them; how far both agree, and in real cells; the share of its 20 markers that
    are markers in synthetic cells, and in real ones. None where there are too few cells."""

    name: str
    real: float
    given: float | None
    transferred: float
    agreement: float | None
    agreement_real: float | None
    markers: float | None
    markers_real: float | None


@dataclass(frozen=True, kw_only=True)
class UtilityScores:
    """What classifiers and label transfer learn, from `learnt_from` (ON_TRAINING or ON_HELD_OUT).

    `classifiers[classifier][score][candidate]` are trained on a candidate's cells and tried on real ones;
    `recognised[score][candidate]` and `markers[score][candidate]` are RealSplit's. `augmentation[score][augmentation]`
    is of `added` cells of rare types, empty where there are none. `given` says whether the synthetic cells came with
    types; else those of `transfer` stand in their place.
    """

    column: str
    learnt_from: str
    given: bool
    types: tuple[str, ...]
    trained_cells: int
    learnt_cells: int
    test_cells: int
    repeats: int
    classifiers: Mapping[str, Mapping[str, Mapping[str, Estimate]]]
    recognised: Mapping[str, Mapping[str, Estimate]]
    markers: Mapping[str, Mapping[str, Estimate]]
    augmentation: Mapping[str, Mapping[str, Estimate]]
    added: Mapping[str, int]
    by_type: tuple[TypeUtility, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        about = ("column", "learnt_from", "given", "trained_cells", "learnt_cells", "test_cells", "repeats")
        return {
            **{name: getattr(self, name) for name in about},
            "types": list(self.types),
            "classifiers": {name: _plain(scores) for name, scores in self.classifiers.items()},
            "recognised": _plain(self.recognised),
            "markers": _plain(self.markers),
            "augmentation": _plain(self.augmentation),
            "added": dict(self.added),
            "by_type": [asdict(one) for one in self.by_type],
        }


def _plain(values: Mapping[str, Mapping[str, Estimate]]) -> dict[str, Any]:
    return {score: {name: e.to_dict() for name, e in by_name.items()} for score, by_name in values.items()}


def score_utility(
    cells: ComparedCells, pools: Pools, column: str | None, *, seed: int, repeats: int
) -> tuple[UtilityScores | None, str]:
    """The scores, or None and the reason why there are none; `column` of obs holds the real cells' types.

    What is learnt from are the training cells, where they are known with their types, else half the held-out ones.
    """
    if column is None:
        return None, NO_TYPES
    held_out = _typed(cells.held_out.obs[column].iloc[pools.real_rows], pools.real)
    rng = np.random.default_rng([seed, 20])
    training, synthetic = _training(cells, column, rng), _synthetic(cells.synthetic, column, rng)
    repeats = min(repeats, MOST_REPEATS)
    found: list[_Found] = []
    with optional("threadpoolctl").threadpool_limits(1):
        most = len(pools.real) if training is None else MOST_TRAINING
        for split, draws in real_splits(training, held_out, seed=seed, repeats=repeats, max_cells=most):
            if len(split.names) < 2:
                return None, FEW_TYPES
            found.append(_Found.of(split, synthetic, draws))
    first = found[0]
    augmented = [one.augmentation for one in found if one.augmentation is not None]
    return UtilityScores(
        column=column,
        learnt_from=ON_HELD_OUT if training is None else ON_TRAINING,
        given=synthetic.types is not None,
        types=tuple(first.split.names),
        trained_cells=first.trained,
        learnt_cells=len(first.split.fit),
        test_cells=len(first.split.test),
        repeats=repeats,
        classifiers={
            name: _estimates([{c: one.classified[c][name] for c in CANDIDATES} for one in found])
            for name in first.classified[REAL]
        },
        recognised=_estimates([one.recognised for one in found]),
        markers=_estimates([_means(one.markers) for one in found]),
        augmentation=_estimates([one.values for one in augmented]),
        added=augmented[0].added if augmented else {},
        by_type=tuple(_by_type(found)),
    ), ""


@dataclass(frozen=True, eq=False)
class _Found:
    """What one split has shown."""

    split: RealSplit
    trained: int
    classified: dict[str, Any]
    recognised: dict[str, dict[str, float]]
    transferred: dict[str, np.ndarray]
    given: dict[str, np.ndarray | None]
    markers: dict[str, dict[str, dict[str, float]]]
    augmentation: Augmentation | None

    @classmethod
    def of(cls, split: RealSplit, synthetic: TypedCells, rng: np.random.Generator) -> _Found:
        """As many cells of each candidate: to train classifiers on, and to be recognised."""
        trained, tried = (min(len(side), len(synthetic)) for side in (split.fit, split.test))
        labelled = synthetic.labelled(split.transfer)
        learnt = {SYNTHETIC: labelled.drawn(trained, rng), REAL: split.fit.drawn(trained, rng)}
        seen = {SYNTHETIC: labelled.drawn(tried, rng), REAL: split.test.drawn(tried, rng)}
        for side in (learnt, seen):
            side[SHUFFLED] = side[REAL].shuffled(rng)
        own = synthetic.types is not None
        given = {c: seen[c].types if own or c != SYNTHETIC else None for c in CANDIDATES}
        scores, transferred, markers = {}, {}, {}
        for candidate, cells in seen.items():
            scores[candidate], transferred[candidate] = split.recognised(cells, given[candidate])
            # Cells without types of their own are compared with real ones that have theirs transferred, too.
            typed = cells if own else TypedCells(cells.x, transferred[candidate])
            markers[candidate] = split.markers_found(typed)
        return cls(
            split, trained, {c: split.classified(of) for c, of in learnt.items()}, scores, transferred, given, markers,
            split.augmented(labelled, rng),
        )  # fmt: skip


def _estimates(found: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, Estimate]]:
    """`[candidate][score]` of every repeat as `[score][candidate]` of all."""
    scores = dict.fromkeys(score for one in found for by_name in one.values() for score in by_name)
    estimates: dict[str, dict[str, Estimate]] = {}
    for score in scores:
        values = {c: [one[c][score] for one in found if score in one[c]] for c in (found[0] if found else ())}
        estimates[score] = {c: Estimate.of(of) for c, of in values.items() if of}
    return estimates


def _means(markers: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Of the scores by type the means over types."""
    return {
        c: {score: float(np.mean(list(of.values()))) for score, of in scores.items()} for c, scores in markers.items()
    }


def _by_type(found: Sequence[_Found]) -> Iterable[TypeUtility]:
    def mean(values: Iterable[float | None]) -> float | None:
        there = [value for value in values if value is not None]
        return float(np.mean(there)) if there else None

    def agreement(one: _Found, candidate: str, name: str) -> float | None:
        given = one.given[candidate]
        if given is None or not (of := given == name).any():
            return None
        return float(np.mean(one.transferred[candidate][of] == name))

    def markers(one: _Found, candidate: str, name: str) -> float | None:
        return one.markers[candidate].get(OVERLAP, {}).get(name)

    names = {str(name) for one in found for name in (*one.split.fit.types, *one.split.test.types)}
    for name in sorted(names):
        given = [None if one.given[SYNTHETIC] is None else np.mean(one.given[SYNTHETIC] == name) for one in found]
        yield TypeUtility(
            name=name,
            real=mean(np.mean(one.split.test.types == name) for one in found) or 0.0,
            given=mean(given),
            transferred=mean(np.mean(one.transferred[SYNTHETIC] == name) for one in found) or 0.0,
            agreement=mean(agreement(one, SYNTHETIC, name) for one in found),
            agreement_real=mean(agreement(one, REAL, name) for one in found),
            markers=mean(markers(one, SYNTHETIC, name) for one in found),
            markers_real=mean(markers(one, REAL, name) for one in found),
        )


def _typed(column: Any, x: Any) -> TypedCells:
    """Cells with their types; those without one are left out."""
    typed = column.notna().to_numpy()
    return TypedCells(x[typed], column[typed].astype(str).to_numpy().astype(str))


def _training(cells: ComparedCells, column: str, rng: np.random.Generator) -> TypedCells | None:
    """Training cells in the synthetic cells' order of genes, MOST_TRAINING at most; None where they are not known."""
    training = cells.training
    if training is None or column not in training.obs:
        return None
    genes = training.var_names.get_indexer(cells.synthetic.var_names)
    if (genes < 0).any():
        return None
    rows = np.sort(rng.permutation(training.n_obs)[:MOST_TRAINING])
    return _typed(training.obs[column].iloc[rows], taken(training.X, rows)[:, genes])


def _synthetic(synthetic: AnnData, column: str, rng: np.random.Generator) -> TypedCells:
    """Synthetic cells with the types they were given, where they were; MOST_SYNTHETIC at most."""
    given = column in synthetic.obs and synthetic.obs[column].notna().any()
    there = np.flatnonzero(synthetic.obs[column].notna()) if given else np.arange(synthetic.n_obs)
    rows = np.sort(rng.permutation(there)[:MOST_SYNTHETIC])
    x = require_finite_rows(synthetic, rows, "synthetic")
    return _typed(synthetic.obs[column].iloc[rows], x) if given else TypedCells(x, None)
