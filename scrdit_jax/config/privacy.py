"""The settings of training with differential privacy."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Annotated, Any

from ..errors import BadConfig
from .checks import Real, Whole, check_fields, plain
from .data import DataConfig

# An epsilon that promises nothing: all of it but the noise.
NO_NOISE = 1e6
# Less cannot be distinguished from a little less in float64; more takes long to work out and promises nothing.
_EPSILON = Real(0.01, 1000)


def _epsilon(name: str, value: Any) -> float:
    value = plain(value)
    return NO_NOISE if isinstance(value, int | float) and value == NO_NOISE else _EPSILON(name, value)


@dataclass(frozen=True, kw_only=True)
class PrivacyConfig:
    """Training with (`dp_epsilon`, `dp_delta`)-differential privacy by DP-SGD (Abadi et al. 2016); without `dp_epsilon`
    there is none, and the others may not be given.

    The unit of privacy is a cell, or with `data.donor_key` a donor, who gives at most `dp_cells` cells a step. Each
    unit's gradient is clipped to the norm `dp_clip`; `dp_microbatch` units' gradients are in memory at once on a
    device (None: what is fastest there). Without `dp_delta` it is `delta_of` the number of units. With a `dp_epsilon`
    of NO_NOISE there is all of it but the noise: no privacy, to see what the noise costs.
    """

    dp_epsilon: Annotated[float | None, _epsilon] = None
    dp_delta: Annotated[float | None, Real(1e-20, 0.5)] = None
    dp_clip: Annotated[float, Real(0, 1e30, open_low=True)] = 0.1
    dp_cells: Annotated[int, Whole(1, 2**20)] = 16
    dp_microbatch: Annotated[int | None, Whole(1, 2**20)] = None

    def __post_init__(self) -> None:
        check_fields(self)
        given = [field.name for field in fields(self) if getattr(self, field.name) != field.default]
        if self.dp_epsilon is None and given:
            raise BadConfig(f"{given[0]} is of training with differential privacy; say how much of it as --dp-epsilon")

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
