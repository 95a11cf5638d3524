"""Ancestral sampling, the paper's baseline (scRDiT section 2.4; Ho et al. 2020)."""

from __future__ import annotations

import numpy as np

from ._tables import Coefficients, NoiseLevels, Option, Solver, make_table


def ddpm(levels: NoiseLevels, variance: str = "beta") -> Coefficients:
    """Ancestral sampling (eq. 6 to 8) along tau, with alpha = abar / next and beta = 1 - alpha.

    The mean is the posterior's: sqrt(next) beta / (1 - abar) m0 + sqrt(alpha) (1 - next) / (1 - abar) x. The variance
    is beta (the paper's choice) or the posterior's beta (1 - next) / (1 - abar). The last step adds no noise.
    """
    _, abar, following = levels
    alpha = abar / following
    beta = 1 - alpha
    s2 = {"beta": beta, "posterior": beta * (1 - following) / (1 - abar)}[variance]
    a = np.sqrt(alpha) * (1 - following) / (1 - abar)
    b = np.sqrt(following) * beta / (1 - abar)
    return make_table(levels, a, b, s=np.sqrt(np.where(following < 1, s2, 0)))


SOLVER = Solver(table=ddpm, options={"variance": Option("beta", ("beta", "posterior"))}, schedule="uniform", steps=None)
