"""DPM-Solver++ of second order along the reverse diffusion (Lu et al. 2022b)."""

from __future__ import annotations

import numpy as np

from ._tables import Coefficients, NoiseLevels, Solver, log_levels, make_table, slope


def dpm_solver_2m_sde(levels: NoiseLevels) -> Coefficients:
    """SDE-DPM-Solver++(2M) (Lu et al. 2022b, eq. 18): the reverse diffusion instead of the flow, so that errors decay.

    x' = (sigma' / sigma) exp(-h) x + alpha' (1 - exp(-2h)) [(1 + 1/2r) m0 - (1/2r) m1] + sigma' sqrt(1 - exp(-2h)) z.
    """
    log = log_levels(levels)
    weight = 0.5 * slope(log)
    decay = -np.expm1(-2 * log.h)
    growth = log.alpha * decay
    return make_table(
        levels, log.ratio * np.exp(-log.h), growth * (1 + weight), -growth * weight, s=log.sigma * np.sqrt(decay)
    )


SOLVER = Solver(table=dpm_solver_2m_sde, order=2, benchmark_steps=(5, 8, 10, 15, 20))
