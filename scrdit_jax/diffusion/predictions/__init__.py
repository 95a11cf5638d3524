"""What a network predicts, and what that says about the clean cells.

A prediction is a frozen value with `outputs`, how many numbers the network gives a gene; `clean`, the clean cells that
those numbers mean; and `error`, whose mean square is a training loss. One that `is_distribution` says how each clean
gene is distributed, and has `draw`, `guide` and `log_likelihood` too. Noisy and clean cells are (cell, gene),
`alpha_bar` is (cell, 1) or (1, 1), `predicted` is what the network gave. Sampling sees `clean` or `draw`, no more.

Each module here whose name has no underscore in front is a prediction, its `PREDICTION` the class.
"""

from __future__ import annotations

from ...registry import PREDICTIONS
from ._prediction import PointPrediction, Prediction, Scale, guided
from ._zero_inflation import FARTHEST, LARGEST_LOG_SPREAD, Numbers
from .epsilon import Epsilon
from .v import Velocity
from .zero_inflated import Posterior, ZeroInflated

__all__ = [
    "FARTHEST",
    "LARGEST_LOG_SPREAD",
    "PREDICTIONS",
    "Epsilon",
    "Numbers",
    "PointPrediction",
    "Posterior",
    "Prediction",
    "Scale",
    "Velocity",
    "ZeroInflated",
    "guided",
    "is_distribution",
    "make_prediction",
]


def is_distribution(name: str) -> bool:
    """Whether the prediction called `name` (see PREDICTIONS) can be drawn from."""
    return PREDICTIONS[name].is_distribution


def make_prediction(name: str, scale: Scale) -> Prediction:
    """The prediction called `name` (see PREDICTIONS) for cells that were scaled so."""
    return PREDICTIONS[name].for_scale(scale)
