"""What a mechanism spends, by Google's dp-accounting: privacy loss distributions, add or remove one unit."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ...extras import optional

ACCOUNTANT = "accounted for by privacy loss distributions (Poisson-sampled Gaussian, add or remove one)"
LIBRARIES = ("dp-accounting", "jax-privacy")
# Of the noise multiplier, to the safe side.
TOLERANCE = 1e-4


class Mechanism(NamedTuple):
    """A step: every unit is drawn with `probability` by itself, and normal noise of deviation `multiplier` * clip is
    added to the sum of what the drawn ones give, each of norm clip at most."""

    multiplier: float
    probability: float

    def epsilon(self, steps: int, delta: float) -> float:
        """What so many steps spend at `delta`; infinite without noise."""
        return 0.0 if steps == 0 else _accountant().compose(self._event(steps)).get_epsilon(delta)

    def _event(self, steps: int) -> Any:
        library = optional("dp_accounting", extra="privacy")
        one = library.PoissonSampledDpEvent(self.probability, library.GaussianDpEvent(self.multiplier))
        return library.SelfComposedDpEvent(one, steps)


def calibrated(epsilon: float, delta: float, probability: float, steps: int) -> Mechanism:
    """The mechanism of least noise of which so many steps spend `epsilon` at most."""
    if epsilon == math.inf:
        return Mechanism(0.0, probability)
    multiplier = optional("dp_accounting", extra="privacy").calibrate_dp_mechanism(
        _accountant, lambda found: Mechanism(found, probability)._event(steps), epsilon, delta, tol=TOLERANCE
    )
    return Mechanism(float(multiplier), probability)


def _accountant() -> Any:
    relation = optional("dp_accounting", extra="privacy").NeighboringRelation.ADD_OR_REMOVE_ONE
    return optional("dp_accounting.pld", extra="privacy").PLDAccountant(relation)
