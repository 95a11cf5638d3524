"""The training cells' conditions: labels and states, the same in every process and after every restart."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..checkpoint import Checkpoints, Model, Run
from ..conditioning.state import StateSpace
from ..conditioning.table import ConditionTable
from ..conditioning.variables import encode
from ..config import RunConfig
from ..data.metadata import DatasetMetadata
from ..data.preparing import Prepared
from ..data.reordering import reordered
from ..diffusion.predictions import Prediction
from ..errors import RunMismatch
from .multihost import broadcast, broadcast_text, is_primary
from .run_directory import raise_everywhere, require_same_origin


class Conditions(NamedTuple):
    """`labels` (cell, column) int32 and `states` (cell, number) float32 that a network is given, and `log_sizes`
    (cell,) float32, log(library size / target sum), that its prediction needs; None for none."""

    labels: np.ndarray | None
    states: np.ndarray | None
    log_sizes: np.ndarray | None


def conditions_of(obs: pd.DataFrame, metadata: DatasetMetadata, prediction: Prediction) -> Conditions:
    """Those of prepared cells, whose table is `obs`, for a network whose numbers mean this `prediction`."""
    labels = encode(obs, metadata.variables) if metadata.variables else None
    names = [column.name for column in metadata.state if column.conditioned]
    sizes, known = None, metadata.normalization
    if prediction.needs_library_size and known.were_counts and known.target_sum:
        sizes = np.log(obs["library_size"].to_numpy(np.float64) / known.target_sum).astype(np.float32)
    return Conditions(labels, obs[names].to_numpy(np.float32) if names else None, sizes)


def known_origin(
    run: Run, config: RunConfig, metadata: DatasetMetadata
) -> tuple[ConditionTable | None, tuple[int, ...] | None]:
    """(conditions, order of the genes) of the newest checkpoint of the run; None in a new run, and in processes that
    write no checkpoints."""
    if not is_primary() or not run.checkpoints_path.is_dir():
        return None, None
    with Checkpoints(run) as checkpoints:
        if checkpoints.latest() is None:
            return None, None
        require_same_origin(checkpoints, config, metadata)
        return checkpoints.conditions(), checkpoints.origin()[1].gene_order


def in_shared_order(prepared: Prepared, known: tuple[int, ...] | None) -> Prepared:
    """`prepared` with its genes in the order of the run's checkpoint (`known`), or else of the first process."""
    order = prepared.metadata.gene_order if known is None else known
    if not order:
        return prepared
    return reordered(prepared, tuple(np.asarray(broadcast(np.asarray(order, np.int32))).tolist()))


def in_shared_space(prepared: Prepared, known: ConditionTable | None) -> Prepared:
    """`prepared` with its states in the space of the run's checkpoint, or else of the first process.

    Principal axes are found by linear algebra whose last bits differ between machines; found once, they are kept.
    RunMismatch where processes would still train on different conditions.
    """
    space = prepared.space.alone
    first = known.space.alone if known is not None and known.space is not None else space
    numbers = np.array([[column.center, column.scale] for column in first.columns], np.float32).reshape(-1, 2)
    axes, numbers = map(np.asarray, broadcast((first.axes, numbers)))
    columns = tuple(
        replace(column, center=float(center), scale=float(scale))
        for column, (center, scale) in zip(space.columns, numbers, strict=True)
    )
    shared = StateSpace(columns, axes)
    if shared.digest != space.digest:
        prepared = prepared.in_space(shared)
    obs, metadata = prepared.train.obs, prepared.metadata
    digest = hashlib.sha256(encode(obs, metadata.variables).tobytes())
    for column in metadata.state:
        digest.update(obs[column.name].to_numpy(np.float32).tobytes())
    found = digest.hexdigest()
    with raise_everywhere():
        if broadcast_text(found) != found:
            raise RunMismatch(
                "the processes were not given the same labels or found other states; give each the same data"
            )
    return prepared


def fit_table(prepared: Prepared, config: RunConfig, *, base: Model | None = None) -> ConditionTable:
    """What a new run's training cells say of the conditions of new cells, and the model `base` that it trains further
    of combinations that these cells do not have. With differential privacy the cells are not asked where a base is
    there, which says it all."""
    if config.privacy.on and base is not None and base.conditions is not None:
        return base.conditions
    obs, metadata = prepared.train.obs, prepared.metadata
    table = ConditionTable.fit(
        metadata.variables,
        encode(obs, metadata.variables),
        prepared.training_states(apart=config.training.conditions != "bootstrap"),
        type_variable=metadata.type_variable,
        space=prepared.space,
        conditions=config.training.conditions,
        seed=metadata.settings.seed,
    )
    return table if base is None else table.after(base.conditions)
