"""What a model's training with differential privacy has come to: the record that goes with it everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .records import checked


def key_path(run: Path) -> Path:
    """The file in the folder of a run that its noise and draws follow from; deleted after the last step."""
    return run / "privacy_key_DO_NOT_PUBLISH.json"


@dataclass(frozen=True, kw_only=True)
class PrivacyRecord:
    """The (`epsilon`, `delta`)-differential privacy of a model's weights, add or remove one `unit` ("cell" or
    "donor"), after `steps` steps; an epsilon of None is infinite: there was no noise.

    A step draws each of `units` with probability `sampling_probability`, at most `cells_a_unit` of its cells; clips
    its gradient to the norm `clip`; and adds normal noise of deviation `noise_multiplier` * `clip` to their sum.
    Before, `marginals_noise_multiplier` is that of the sums which training began at (None: at none of the cells').
    `accountant` and `libraries` say what worked epsilon out. `not_covered` names what else of the training cells is in
    the model or goes with it, and that the noise does not hide.
    """

    epsilon: float | None
    delta: float
    unit: str
    units: int
    cells_a_unit: int
    clip: float
    noise_multiplier: float
    sampling_probability: float
    marginals_noise_multiplier: float | None
    steps: int
    accountant: str
    libraries: Mapping[str, str]
    not_covered: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PrivacyRecord:
        """The inverse of `to_dict`, also after a trip through JSON."""
        return checked(cls(**{**values, "not_covered": tuple(values["not_covered"])}))

    def sentences(self) -> list[str]:
        """For the user."""
        epsilon = "infinite" if self.epsilon is None else f"{self.epsilon:.4g}"
        spent = f"epsilon {epsilon} at delta {self.delta:.2g}"
        drawn = f"each of {self.units} {self.unit}s is drawn with probability {self.sampling_probability:.4g} a step"
        return [
            f"differential privacy of the weights, for each {self.unit}: {spent} after {self.steps} steps",
            f"clip {self.clip:g}, noise multiplier {self.noise_multiplier:.4g}; {drawn}; {self.accountant}",
            *(f"not covered by it: {what}" for what in self.not_covered),
        ]
