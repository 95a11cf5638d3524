"""What a mechanism spends, by Google's dp-accounting: privacy loss distributions, add or remove one unit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ...config import NO_NOISE
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
        """What so many steps spend at `delta`; infinity without noise."""
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
    if epsilon == NO_NOISE:
        return Mechanism(0.0, probability, 0.0 if marginals else None)
    of_marginals = None
    if marginals:
        event = optional("dp_accounting", extra="privacy").GaussianDpEvent
        of_marginals = _least(event, MARGINALS_SHARE * epsilon, delta)
    multiplier = _least(lambda found: Mechanism(found, probability, of_marginals)._event(steps), epsilon, delta)
    return Mechanism(multiplier, probability, of_marginals)


def _least(event: Callable[[float], Any], epsilon: float, delta: float) -> float:
    """The least noise multiplier of which the `event` spends `epsilon` at most."""

    def is_enough(multiplier: float) -> bool:
        return _accountant().compose(event(multiplier)).get_epsilon(delta) <= epsilon

    library, upper = optional("dp_accounting", extra="privacy"), 1.0
    # From above, by factors of two: the less the noise, the longer the distributions.
    while not is_enough(upper):
        upper *= 2
    while is_enough(upper / 2):
        upper /= 2
    bracket = library.ExplicitBracketInterval(upper / 2, upper)
    return float(library.calibrate_dp_mechanism(_accountant, event, epsilon, delta, bracket, tol=TOLERANCE))


def _accountant() -> Any:
    relation = optional("dp_accounting", extra="privacy").NeighboringRelation.ADD_OR_REMOVE_ONE
    return optional("dp_accounting.pld", extra="privacy").PLDAccountant(relation)
