"""What a mechanism spends, by Google's dp-accounting: privacy loss distributions, add or remove one unit."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ...extras import optional

ACCOUNTANT = "accounted for by privacy loss distributions (Poisson-sampled Gaussian, add or remove one)"
LIBRARIES = ("dp-accounting", "jax-privacy")
# Of the noise multiplier, to the safe side.
TOLERANCE = 1e-4
# Of epsilon, what the marginals that training begins at would spend alone.
MARGINALS_SHARE = 0.25


class Mechanism(NamedTuple):
    """A step: every unit is drawn with `probability` by itself, and normal noise of deviation `multiplier` * clip is
    added to the sum of what the drawn ones give, each of norm clip at most. Before the first, `marginals` are a sum
    over all units with noise of so many clips; None where there is no such sum."""

    multiplier: float
    probability: float
    marginals: float | None = None

    def epsilon(self, steps: int, delta: float) -> float:
        """What so many steps spend at `delta`; infinite without noise."""
        return _accountant().compose(self._event(steps)).get_epsilon(delta)

    def _event(self, steps: int) -> Any:
        library = optional("dp_accounting", extra="privacy")
        one = library.PoissonSampledDpEvent(self.probability, library.GaussianDpEvent(self.multiplier))
        events = [library.SelfComposedDpEvent(one, steps)]
        if self.marginals is not None:
            events.append(library.GaussianDpEvent(self.marginals))
        return library.ComposedDpEvent(events)


def calibrated(epsilon: float, delta: float, probability: float, steps: int, *, marginals: bool) -> Mechanism:
    """The mechanism of least noise of which so many steps spend `epsilon` at most, those `marginals` with them."""
    if epsilon == math.inf:
        return Mechanism(0.0, probability, 0.0 if marginals else None)
    library, of_marginals = optional("dp_accounting", extra="privacy"), None
    if marginals:
        share = MARGINALS_SHARE * epsilon
        of_marginals = library.calibrate_dp_mechanism(_accountant, library.GaussianDpEvent, share, delta, tol=TOLERANCE)
    multiplier = library.calibrate_dp_mechanism(
        _accountant,
        lambda found: Mechanism(found, probability, of_marginals)._event(steps),
        epsilon,
        delta,
        tol=TOLERANCE,
    )
    return Mechanism(float(multiplier), probability, of_marginals)


def _accountant() -> Any:
    relation = optional("dp_accounting", extra="privacy").NeighboringRelation.ADD_OR_REMOVE_ONE
    return optional("dp_accounting.pld", extra="privacy").PLDAccountant(relation)
