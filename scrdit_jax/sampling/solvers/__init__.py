"""Solvers as tables of coefficients: x' = a x + b m0 + c m1 + d m2 + s z, computed on the host in float64.

m0 is the clean cell predicted at x (for solvers that draw, one drawn from its predicted distribution), m1 and m2 those
predicted one and two steps before, z fresh noise. Row i leads from tau_i to tau_{i+1}; the last row lands on t = 0,
where abar = 1 and nothing is left but m0. Notation of the paper inside the functions: abar = alpha-bar at the row's
timestep, next = alpha-bar where the row leads.

Each module here whose name has no underscore in front is a solver, its `SOLVER` what is known of it.
"""

from __future__ import annotations

from ...errors import BadConfig
from ...registry import SOLVERS
from ._tables import Coefficients, LogLevels, NoiseLevels, Option, Solver, log_levels, make_table, noise_levels

__all__ = [
    "SOLVERS",
    "Coefficients",
    "LogLevels",
    "NoiseLevels",
    "Option",
    "Solver",
    "default_solver",
    "find_solver",
    "log_levels",
    "make_coefficients",
    "make_table",
    "noise_levels",
]


def default_solver(*, is_distribution: bool) -> str:
    """The solver for a model whose prediction is a distribution, or is not."""
    return "distributional" if is_distribution else "dpmpp-2m"


def find_solver(name: str) -> Solver:
    """The solver called `name`; BadConfig names those there are."""
    return SOLVERS[name]


def make_coefficients(name: str, levels: NoiseLevels, **options: float | str | None) -> Coefficients:
    """The table of the solver called `name` (see SOLVERS); options that are None are left to the solver."""
    solver = find_solver(name)
    given = {option: value for option, value in options.items() if value is not None}
    for option, value in given.items():
        if option not in solver.options:
            takers = ", ".join(other for other, known in SOLVERS.items() if option in known.options)
            remedy = f"leave it out, or use {takers}" if takers else "leave it out"
            raise BadConfig(f"solver {name} takes no {option} (it was {value!r}); {remedy}")
        choices = solver.options[option].choices
        if choices and value not in choices:
            raise BadConfig(f"{option} is {value!r}; it must be one of {', '.join(choices)}")
    return solver.table(levels, **given)
