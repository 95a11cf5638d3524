"""DPM-Solver++ of second order, two steps of history (Lu et al. 2022b)."""

from __future__ import annotations

import numpy as np

from ._tables import Coefficients, NoiseLevels, Solver, log_levels, make_table, slope


def dpm_solver_2m(levels: NoiseLevels) -> Coefficients:
    """DPM-Solver++(2M) (Lu et al. 2022b, algorithm 2), data prediction.

    x' = (sigma' / sigma) x - alpha' (exp(-h) - 1) [(1 + 1/2r) m0 - (1/2r) m1], h = lambda' - lambda, r = h_before / h.
    The first step has no history and the last ends at lambda = infinity: both are of first order.
    """
    log = log_levels(levels)
    weight = 0.5 * slope(log)
    growth = -log.alpha * np.expm1(-log.h)
    return make_table(levels, log.ratio, growth * (1 + weight), -growth * weight)


SOLVER = Solver(table=dpm_solver_2m, order=2, benchmark_steps=(5, 8, 10, 15, 20))
