"""Denoising diffusion implicit models: deterministic, or as random as asked (scRDiT section 2.5; Song et al. 2021)."""

from __future__ import annotations

import numpy as np

from ...errors import BadConfig
from ._tables import Coefficients, NoiseLevels, Option, Solver, make_table


def ddim(levels: NoiseLevels, eta: float = 0.0) -> Coefficients:
    """Eq. 13 and 14, with eps eliminated by eps = (x - sqrt(abar) m0) / sqrt(1 - abar).

    eta in [0, 1]: 0 is deterministic; 1 over all timesteps is DDPM with the posterior variance.
    """
    if not 0 <= eta <= 1:
        raise BadConfig(f"eta is {eta:g}; it must be within 0..1 (0 deterministic, 1 as random as DDPM)")
    _, abar, following = levels
    s = eta * np.sqrt((1 - following) / (1 - abar)) * np.sqrt(1 - abar / following)
    a = np.sqrt(1 - following - s**2) / np.sqrt(1 - abar)
    return make_table(levels, a, np.sqrt(following) - a * np.sqrt(abar), s=s)


SOLVER = Solver(table=ddim, options={"eta": Option(0.0)}, schedule="uniform")
