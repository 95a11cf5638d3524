"""Ancestral sampling of drawn clean cells: few steps for a prediction that is a distribution."""

from __future__ import annotations

from ._tables import Coefficients, NoiseLevels, Solver
from .ddpm import ddpm


def distributional(levels: NoiseLevels) -> Coefficients:
    """Ancestral sampling with a sampled x_0: m0 is no mean but a draw from p(x_0 | x_t), and the step is the exact
    bridge q(x_s | x_t, x_0) (Ho et al. 2020, eq. 6 and 7): x_s ~ sum over x_0 of q(x_s | x_t, x_0) p(x_0 | x_t).

    Exact at any number of steps where genes are independent given what the network sees; in general a step misses the
    correlations of genes that x_t and the conditions leave open, and more steps miss less. The table is that of `ddpm`
    with the posterior's variance. De Bortoli et al. 2025 (distributional diffusion models); Xiao et al. 2022.
    """
    return ddpm(levels, "posterior")


SOLVER = Solver(
    table=distributional,
    schedule="interior",
    steps=4,
    draws=True,
    benchmark_steps=(1, 2, 3, 4, 6, 8),
    benchmark_accelerations=False,
)
