"""The settings of training with differential privacy."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

from ..errors import BadConfig
from .checks import require, require_real, require_whole
from .data import DataConfig


@dataclass(frozen=True, kw_only=True)
class PrivacyConfig:
    """Training with (`dp_epsilon`, `dp_delta`)-differential privacy by DP-SGD (Abadi et al. 2016); without `dp_epsilon`
    there is none, and the others may not be given.

    The unit of privacy is a cell, or with `data.donor_key` a donor, who gives at most `dp_cells` cells a step. Each
    unit's gradient is clipped to the norm `dp_clip`; `dp_microbatch` units' gradients are in memory at once on a
    device (None: what is fastest there). Without `dp_delta` it is `delta_of` the number of units. An infinite
    `dp_epsilon` is all of it but the noise: no privacy, to see what the noise costs.
    """

    dp_epsilon: float | None = None
    dp_delta: float | None = None
    dp_clip: float = 0.1
    dp_cells: int = 16
    dp_microbatch: int | None = None

    def __post_init__(self) -> None:
        given = [field.name for field in fields(self) if getattr(self, field.name) != field.default]
        if self.dp_epsilon is None and given:
            raise BadConfig(f"{given[0]} is of training with differential privacy; say how much of it as --dp-epsilon")
        if self.dp_epsilon is not None and self.dp_epsilon != math.inf:
            # Below, the noise that gives it cannot be told from that of a little less in float64.
            require_real("dp_epsilon", self.dp_epsilon, 0.01, 1000)
        if self.dp_delta is not None:
            require_real("dp_delta", self.dp_delta, 1e-20, open_low=True)
            require(
                self.dp_delta < 1, "dp_delta", self.dp_delta, "a number below 1, and had better be far below 1/cells"
            )
        require_real("dp_clip", self.dp_clip, 0, open_low=True)
        require_whole("dp_cells", self.dp_cells, 1)
        if self.dp_microbatch is not None:
            require_whole("dp_microbatch", self.dp_microbatch, 1)

    @property
    def on(self) -> bool:
        """Whether training is with differential privacy."""
        return self.dp_epsilon is not None

    def delta_of(self, units: int) -> float:
        """`dp_delta` or, where it is not given, 1e-5 or a tenth of 1 / units, whichever is less."""
        return min(1e-5, 0.1 / units) if self.dp_delta is None else self.dp_delta

    def of_training(self, training: Any, data: DataConfig, origin: str | None) -> Any:
        """The TrainingConfig `training` without what cannot be had with differential privacy: levels are drawn for each
        cell by itself, and it is each unit's gradient that is clipped. BadConfig where that would not do."""
        refused = {
            "teacher": (training.teacher is not None, "whose own training was without it"),
            "evaluate_every": (training.evaluate_every is not None, "held-out cells would decide what is kept"),
            "accumulate": (training.accumulate > 1, "use --dp-microbatch"),
            "conditions": (origin is None and training.conditions == "bootstrap", "the run would hold training cells"),
        }
        for name, (given, why) in refused.items():
            if given:
                value = getattr(training, name)
                raise BadConfig(f"{name} is {value!r}, which --dp-epsilon cannot be had with: {why}; leave one out")
        if data.donor_key is not None and training.batch_size < self.dp_cells:
            raise BadConfig(
                f"a batch of {training.batch_size} cells is less than the {self.dp_cells} of one donor; raise "
                "--batch-size or lower --dp-cells"
            )
        return replace(training, stratified_levels=False, gradient_clip=None)
