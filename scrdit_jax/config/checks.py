"""The rules that settings are checked by. BadConfig names the setting, its value and the rule, in one line.

A field's rule stands in its annotation, `steps: Annotated[int, Whole(1, 10**9)]`; fields of true or false, of a text,
of texts and of other settings have one by their type. A rule gives the value back as it is to be kept: numpy's scalars
as Python's, a list as a tuple.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from types import NoneType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from ..errors import BadConfig

# What networks can compute in.
DTYPES = ("float32", "bfloat16")
# Those that cells are sampled in; training needs more than 8 bits.
SAMPLING_DTYPES = (*DTYPES, "int8", "fp8")
LONGEST_TEXT = 4096
MOST_TEXTS = 100_000

# (name, value) -> the value as it is kept; BadConfig where it breaks the rule.
Rule = Callable[[str, Any], Any]


class _Shown(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother, self.maxlong = 2, 80, 80, 40

    def repr_int(self, x: int, level: int) -> str:
        # Python writes no numbers of more than 4,300 digits.
        return repr(x) if x.bit_length() < 128 else f"a number of about {int(x.bit_length() * 0.30103) + 1} digits"


_shown = _Shown()


def shown(value: object) -> str:
    """A value for a message: one line, shortened where it is long."""
    return " ".join(_shown.repr(value).split())


def plain(value: Any) -> Any:
    """Numpy's scalars as Python's, anything else as it is."""
    return value.item() if type(value).__module__ == "numpy" and getattr(value, "shape", None) == () else value


def require(condition: bool, name: str, value: object, rule: str) -> None:
    """BadConfig, naming the value and the `rule`, unless the condition holds."""
    if not condition:
        raise BadConfig(f"{name} is {shown(value)}; it must be {rule}")


@dataclass(frozen=True)
class Whole:
    """A whole number, low..high."""

    low: int
    high: int

    def __call__(self, name: str, value: Any) -> int:
        """The number."""
        value = plain(value)
        rule = f"a whole number, {self.low} or more and at most {self.high:,}"
        whole = isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high
        require(whole, name, value, rule if self.high - self.low > 1 else f"{self.low} or {self.high}")
        return value


@dataclass(frozen=True)
class Real:
    """A number, low..high; with `open_low`, above low."""

    low: float
    high: float
    open_low: bool = False

    def __call__(self, name: str, value: Any) -> float:
        """The number."""
        value = plain(value)
        inside = isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high
        above = f"above {self.low:g}" if self.open_low else f"{self.low:g} or more"
        inside = inside and not (self.open_low and value == self.low)
        require(inside, name, value, f"a number {above} and at most {self.high:g}")
        return value


@dataclass(frozen=True)
class Choice:
    """One of some names."""

    choices: Collection[str]

    def __call__(self, name: str, value: Any) -> str:
        """The name."""
        value = plain(value)
        require(isinstance(value, str) and value in self.choices, name, value, "one of " + ", ".join(self.choices))
        return str(value)


def flag(name: str, value: Any) -> bool:
    """True or false."""
    value = plain(value)
    require(isinstance(value, bool), name, value, "true or false")
    return value


def text(name: str, value: Any) -> str:
    """Characters that a file or its name can hold."""
    written = isinstance(value, str) and 0 < len(value) <= LONGEST_TEXT and "\0" not in value
    require(
        written and _is_unicode(value), name, value, f"a text of 1 to {LONGEST_TEXT:,} characters that a file can hold"
    )
    return str(value)


def _is_unicode(value: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in value)


def texts(name: str, value: Any) -> tuple[str, ...]:
    """Some texts; one by itself is none of them, but would be taken for its letters."""
    values = value.tolist() if hasattr(value, "tolist") else value
    several = isinstance(values, Sequence) and not isinstance(values, str | bytes | bytearray)
    require(several and len(values) <= MOST_TEXTS, name, value, "a list of texts")
    return tuple(text(f"{name}[{i}]", each) for i, each in enumerate(values))


SEED = Whole(0, 2**32 - 1)
BATCH = Whole(1, 2**20)
# Repetitions of what takes seconds or more.
SEVERAL = Whole(1, 1000)
# Cells are numbered with 32 bits, those past the end of the last batch too.
CELLS = Whole(1, 4_000_000_000)
_BY_TYPE: dict[Any, Rule] = {bool: flag, str: text, tuple[str, ...]: texts}


@cache
def rules_of(kind: Any) -> Mapping[str, Rule]:
    """The rule of each field that a dataclass is made with; TypeError for a field that has none."""
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: _rule(f"{kind.__name__}.{field.name}", hints[field.name])
            for field in fields(kind) if field.init}  # fmt: skip


def _rule(where: str, hint: Any) -> Rule:
    rule, kind = None, hint
    if get_origin(hint) is Annotated:
        kind, *found = get_args(hint)
        rule = next(filter(callable, found), None)
    kinds = get_args(kind) if NoneType in get_args(kind) else (kind,)
    kind = next(each for each in kinds if each is not NoneType)
    if rule is None and is_dataclass(kind):
        rule = _instance(kind)
    rule = rule or _BY_TYPE.get(kind)
    if rule is None:
        raise TypeError(f"{where} has no rule; write Annotated[{kind}, Whole(...)], for example")
    return _or_none(rule) if NoneType in kinds else rule


def _or_none(rule: Rule) -> Rule:
    return lambda name, value: None if value is None else rule(name, value)


def _instance(kind: Any) -> Rule:
    def check(name: str, value: Any) -> Any:
        require(isinstance(value, kind), name, value, f"a {kind.__name__}")
        return value

    return check


def check_fields(config: Any) -> None:
    """Check every field of a frozen dataclass by its rule, and keep what the rule gives back."""
    kind: Any = type(config)
    for name, rule in rules_of(kind).items():
        object.__setattr__(config, name, rule(name, getattr(config, name)))
