"""What state a new cell has: drawn from a distribution that was learnt, or taken from a training cell.

`mixture.py` is the learnt one, a mixture of Gaussians that holds no training cell; `bootstrap.py` keeps the training
cells' own states and draws among them. Each has an array container that can be saved, a function `given` that makes of
it what a request's combinations of categories need, and `draw`, for the jitted sampler.
"""

from __future__ import annotations

from .bootstrap import Bootstrap, draw_bootstrap
from .choice import Prior, draw_states, fit_prior, given, prior_from_arrays
from .mixture import Mixture, draw_mixture, fit_mixture

__all__ = [
    "Bootstrap",
    "Mixture",
    "Prior",
    "draw_bootstrap",
    "draw_mixture",
    "draw_states",
    "fit_mixture",
    "fit_prior",
    "given",
    "prior_from_arrays",
]
