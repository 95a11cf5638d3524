"""The one loop again, slowly: NumPy in float64, one row of the table at a time."""

from collections.abc import Callable

import numpy as np
import pytest

from scrdit_jax.sampling.solvers import Coefficients


def _walk(
    table: Coefficients,
    start: np.ndarray,
    predict_clean: Callable[[np.ndarray, float], np.ndarray],
    noise: Callable[[int], np.ndarray] | None = None,
) -> list[np.ndarray]:
    """x after 0, 1, ... rows; `predict_clean(x, alpha_bar)`, and `noise(i)` for row i where the row adds any."""
    states = [np.asarray(start, dtype=np.float64)]
    previous = earlier = np.zeros_like(start, dtype=np.float64)
    for i in range(len(table.timestep)):
        x = states[-1]
        clean = predict_clean(x, float(table.alpha_bar[i]))
        following = table.a[i] * x + table.b[i] * clean + table.c[i] * previous + table.d[i] * earlier
        if table.s[i] > 0:
            following = following + table.s[i] * noise(i)
        states.append(following)
        previous, earlier = clean, previous
    return states


@pytest.fixture(scope="session")
def walk() -> Callable[..., list[np.ndarray]]:
    return _walk
