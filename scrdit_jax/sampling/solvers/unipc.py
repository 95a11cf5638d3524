"""UniPC: a second-order predictor, corrected at no further evaluation (Zhao et al. 2023)."""

from __future__ import annotations

import numpy as np

from ._tables import Coefficients, NoiseLevels, Solver, log_levels, make_table
from .dpmpp_2m import dpm_solver_2m


def unipc(levels: NoiseLevels) -> Coefficients:
    """UniPC of second order with B(h) = exp(-h) - 1 (Zhao et al. 2023, "bh2"), data prediction; third-order accurate.

    Each step predicts as 2M does; the clean cell seen there then corrects the step, at no further evaluation:
    x_c = (sigma' / sigma) x - alpha' B [m0 + rho_1 (m1 - m0) / r1 + rho_2 (m' - m0)], r1 = -h_before / h, with rho from
    the order conditions. The network is evaluated at predicted cells, so those are what is carried: a correction is
    the predicted cell plus multiples of m', m0 and m1, and what the next row does to it is part of that row.
    """
    predictor, log = dpm_solver_2m(levels), log_levels(levels)
    b, c, d = predictor.b.copy(), predictor.c.copy(), np.zeros_like(predictor.c)
    # The step to t = 0 is not corrected: nothing is evaluated there.
    corrected = log.alpha[:-1] * unipc_weights(log.h[:-1], log.before[:-1])
    changes = corrected - np.stack([np.zeros(len(log.h) - 1), predictor.b[:-1], predictor.c[:-1]])
    b[1:], c[1:], d[1:] = np.stack([b[1:], c[1:], d[1:]]) + predictor.a[1:] * changes
    return make_table(levels, predictor.a, b, c, d)


def unipc_weights(h: np.ndarray, before: np.ndarray) -> np.ndarray:
    """What a corrected step of UniPC weighs m', m0 and m1 with, over alpha': (3, ...) for steps `h` after `before`.

    A step `before` that is not finite is none: then the correction is of lower order.
    """
    first, second = 1 / -h - 1 / np.expm1(-h), 2 * ((np.expm1(-h) / -h - 1) / -h - 0.5) / np.expm1(-h)
    # phi_k of -h, as they stand in the order conditions over B(h): rho_1 + rho_2 = first, r1 rho_1 + rho_2 = second.
    known = np.isfinite(before)
    r1 = np.where(known, -before / h, -1.0)
    rho_1 = np.where(known, (second - first) / (r1 - 1), 0.0)
    rho_2 = np.where(known, first - rho_1, 0.5)
    return -np.expm1(-h) * np.stack([rho_2, 1 - rho_1 / r1 - rho_2, rho_1 / r1])


SOLVER = Solver(table=unipc, order=3, benchmark_steps=(5, 8, 10, 15, 20))
