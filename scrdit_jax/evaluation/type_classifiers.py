"""Classifiers of cell types, trained on one set of cells and tried on another. Matrices are (cell, gene) log values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..extras import optional
from .memorisation import TrainingComponents
from .metrics import Matrix

LOGISTIC, CENTROID = CLASSIFIERS = ("logistic", "nearest_centroid")
ACCURACY, MACRO_F1 = SCORES = ("accuracy", "macro_f1")
# Real cells' own types are found again best with so few components: noise takes part in distances.
NEIGHBOURS, COMPONENTS = 5, 20


def classifier_of(name: str) -> Any:
    """A new one of CLASSIFIERS."""
    if name == LOGISTIC:
        return optional("sklearn.linear_model").LogisticRegression(max_iter=1000)
    return optional("sklearn.neighbors").NearestCentroid()


def predicted_types(
    training: Matrix, types: np.ndarray, test: Matrix, *, names: Sequence[str] = CLASSIFIERS, seed: int = 0
) -> Iterator[tuple[str, np.ndarray]]:
    """(name, the type it gives each cell of `test`) of each classifier trained on `training` and its `types`.

    They see 50 principal components of their training cells: test cells have no part in any of it. Trained on a single
    type, a classifier knows no other.
    """
    if len(set(types)) < 2:
        yield from ((name, np.full(test.shape[0], types[0] if len(types) else "")) for name in names)
        return
    space = TrainingComponents.fit(training, seed=seed)
    x, y = space.project(training), space.project(test)
    for name in names:
        yield name, classifier_of(name).fit(x, types).predict(y).astype(str)


def f1_of_types(true: np.ndarray, predicted: np.ndarray, types: Sequence[str]) -> dict[str, float]:
    """2 TP / (2 TP + FP + FN) of each type, 0 where none of its cells is found."""
    found = optional("sklearn.metrics").f1_score(true, predicted, labels=list(types), average=None, zero_division=0)
    return {name: float(value) for name, value in zip(types, found, strict=True)}


def train_and_test(
    training: Matrix, types: np.ndarray, test: Matrix, test_types: np.ndarray, *, seed: int = 0
) -> Mapping[str, Mapping[str, float]]:
    """`[classifier][score]`, of CLASSIFIERS and SCORES; macro-F1 is the mean over the types of the test cells."""
    known, found = sorted(set(test_types)), {}
    for name, predicted in predicted_types(training, types, test, seed=seed):
        f1 = f1_of_types(test_types, predicted, known)
        found[name] = {
            ACCURACY: float(np.mean(predicted == test_types)), MACRO_F1: float(np.mean(list(f1.values())))
        }  # fmt: skip
    return found


class LabelTransfer:
    """The types of cells, transferred to others by the nearest of them: a vote of the 5 nearest by 1 / distance.

    In the first 20 principal components of the cells that have types.
    """

    def __init__(self, cells: Matrix, types: np.ndarray, *, seed: int = 0) -> None:
        self._space = TrainingComponents.fit(cells, components=COMPONENTS, seed=seed)
        classifier = optional("sklearn.neighbors").KNeighborsClassifier
        votes = classifier(min(NEIGHBOURS, len(types)), weights="distance", algorithm="brute")
        self._votes = votes.fit(self._space.project(cells), types)

    def __call__(self, cells: Matrix) -> np.ndarray:
        """A type for each cell (cell, gene)."""
        return self._votes.predict(self._space.project(cells)).astype(str)
