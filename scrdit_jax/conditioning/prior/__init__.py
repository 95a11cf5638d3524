"""What state a new cell has: drawn from a distribution that was learnt, or taken from a training cell.

`mixture.py` is the learnt one, a mixture of Gaussians that holds no training cell; `bootstrap.py` keeps the training
cells' own states and draws among them. Each is a tuple of arrays that can be saved; `given` makes of it what a
request's combinations of categories need, and `draw_states` draws in the jitted sampler.
"""

from __future__ import annotations

from .choice import Prior, draw_states, fit_prior, given, joined, prior_from_arrays
from .mixture import LEAST_CELLS, Mixture, draw_mixture, fit_mixture, log_prob, mixed_weights

__all__ = [
    "LEAST_CELLS",
    "Mixture",
    "Prior",
    "draw_mixture",
    "draw_states",
    "fit_mixture",
    "fit_prior",
    "given",
    "joined",
    "log_prob",
    "mixed_weights",
    "prior_from_arrays",
]
