"""A model as it is sampled from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import numpy as np

from ..conditioning.table import ConditionTable
from ..config import RunConfig
from ..data.metadata import DatasetMetadata
from ..privacy import PrivacyRecord


@dataclass(frozen=True)
class Model:
    """What sampling needs: settings, what was found about the data, and params (averaged ones where there are).

    `conditions` is None for a model that was not trained here. `fitted` are timesteps fitted to it, by their number,
    for solvers that draw clean cells. `privacy` is None for one that was trained without differential privacy.
    """

    config: RunConfig
    metadata: DatasetMetadata
    params: Any
    step: int
    conditions: ConditionTable | None = None
    fitted: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    privacy: PrivacyRecord | None = None

    @cached_property
    def digest(self) -> str:
        """sha256 over the weights, with their names and shapes, the settings and what was found about the data."""
        digest = hashlib.sha256()
        digest.update(arrays_digest(self.params).encode())
        known = {"config": self.config.to_dict(), "metadata": self.metadata.to_dict(), "step": self.step}
        digest.update(json.dumps(known, sort_keys=True).encode())
        return digest.hexdigest()


def arrays_digest(tree: Any) -> str:
    """sha256 over the arrays of a pytree, with their names, dtypes and shapes."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        leaf = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape} ".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()
