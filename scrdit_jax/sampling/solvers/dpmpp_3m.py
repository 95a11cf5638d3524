"""DPM-Solver++ of third order, three steps of history (Lu et al. 2022a and b)."""

from __future__ import annotations

import numpy as np

from ._tables import Coefficients, NoiseLevels, Solver, log_levels, make_table
from .dpmpp_2m import dpm_solver_2m


def dpm_solver_3m(levels: NoiseLevels) -> Coefficients:
    """DPM-Solver++(3M): Lu et al. 2022b, with the third-order exponential integrator of Lu et al. 2022a, appendix B.

    D1 and D2 are the first two derivatives of m in lambda by its divided differences, times h and h^2:
    x' = (sigma' / sigma) x - alpha' (exp(-h) - 1) m0 + alpha' ((exp(-h) - 1) / h + 1) D1
         - alpha' ((exp(-h) - 1 + h) / h^2 - 1/2) D2.
    Rows with less history are of lower order, the last of first. Common implementations halve D2, which leaves a method
    of second order.
    """
    second = dpm_solver_2m(levels)
    log = log_levels(levels)
    a, b, c, d = second.a, second.b.copy(), second.c.copy(), np.zeros_like(second.c)
    for i in np.flatnonzero(np.isfinite(log.earlier) & np.isfinite(log.h)):
        h, r0, r1 = log.h[i], log.before[i] / log.h[i], log.earlier[i] / log.h[i]
        late, early = np.array([1, -1, 0]) / r0, np.array([0, 1, -1]) / r1  # in terms of m0, m1, m2
        d1, d2 = late + r0 / (r0 + r1) * (late - early), 2 * (late - early) / (r0 + r1)
        fall = np.expm1(-h)
        weights = -fall * np.array([1, 0, 0]) + (fall / h + 1) * d1 - ((fall + h) / h**2 - 0.5) * d2
        b[i], c[i], d[i] = log.alpha[i] * weights
    return make_table(levels, a, b, c, d)


SOLVER = Solver(table=dpm_solver_3m, order=3, benchmark_steps=(5, 8, 10, 15, 20))
