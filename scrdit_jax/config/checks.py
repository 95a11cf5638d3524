"""What settings check themselves by: BadConfig names the value and the rule."""

from __future__ import annotations

import math
from collections.abc import Collection

from ..errors import BadConfig

# What networks can compute in.
DTYPES = ("float32", "bfloat16")
# Those that cells are sampled in; training needs more than 8 bits.
SAMPLING_DTYPES = (*DTYPES, "int8", "fp8")


def require(condition: bool, name: str, value: object, rule: str) -> None:
    """BadConfig, naming the value and the `rule`, unless the condition holds."""
    if not condition:
        raise BadConfig(f"{name} is {value!r}; it must be {rule}")


def require_whole(name: str, value: object, minimum: int) -> None:
    """A whole number, `minimum` or more."""
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= minimum
    require(whole, name, value, f"a whole number, {minimum} or more")


def require_real(name: str, value: object, low: float, high: float = math.inf, *, open_low: bool = False) -> None:
    """A finite number within low..high; with `open_low`, above low."""
    inside = False
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        inside = (low < value if open_low else low <= value) and value <= high
    above = f"above {low:g}" if open_low else f"{low:g} or more"
    require(inside, name, value, f"a number {above}" + ("" if math.isinf(high) else f" and at most {high:g}"))


def require_choice(name: str, value: object, choices: Collection[str]) -> None:
    """One of the `choices`."""
    require(value in choices, name, value, "one of " + ", ".join(choices))
