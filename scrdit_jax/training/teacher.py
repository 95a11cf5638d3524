"""The frozen model that an objective learns from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import flax.linen as nn

from ..checkpoint import load_model
from ..config import RunConfig
from ..data.metadata import DatasetMetadata
from ..diffusion.predictions import Prediction, make_prediction
from ..errors import RunMismatch
from ..networks import make_network


class TeacherModel(NamedTuple):
    """Its network, what its outputs mean, and its params (averaged ones where there are)."""

    network: nn.Module
    prediction: Prediction
    params: Any


def load_teacher(config: RunConfig, metadata: DatasetMetadata) -> TeacherModel | None:
    """The teacher that `config` names, for cells of this `metadata`; None where it names none.

    Raises RunMismatch where there is no such run, or where its cells, conditions or noise levels are others.
    """
    path = config.training.teacher
    if path is None:
        return None
    model = load_model(path)
    same = {
        "genes": model.metadata.genes == metadata.genes,
        "a scaling": model.metadata.scaling == metadata.scaling,
        "conditions": _conditions(model.metadata) == _conditions(metadata),
        "noise levels": replace(model.config.diffusion, prediction=config.diffusion.prediction) == config.diffusion,
    }
    for what, is_same in same.items():
        if not is_same:
            raise RunMismatch(f"the teacher {path} has {what} other than this run's; train it on the same cells")
    prediction = make_prediction(model.config.diffusion.prediction, metadata.scaling)
    sizes = {"labels": metadata.categories, "states": metadata.conditioned_states}
    network = make_network(model.config.network, len(metadata.genes), prediction.outputs, **sizes)
    return TeacherModel(network, prediction, model.params)


def _conditions(metadata: DatasetMetadata) -> tuple[object, ...]:
    return metadata.categories, [column.name for column in metadata.state if column.conditioned]
