"""Whether what was read from a file has the types that its dataclass says."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


def checked(record: T, *, but: Collection[str] = ()) -> T:
    """`record`, a dataclass, if each of its fields, `but` these, is of the type it is declared with, into tuples and
    mappings; else TypeError, which names the field. An int is a float too, a bool neither."""
    for name, hint in _hints(type(record)).items():
        if name in but:
            continue
        _require(getattr(record, name), hint, name)
    return record


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    known = typing.get_type_hints(cls)
    return {field.name: known[field.name] for field in dataclasses.fields(cls)}


def _require(value: Any, hint: Any, name: str) -> None:
    if hint is Any:
        return
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if not any(_fits(value, kind, name) for kind in inside):
            raise _wrong(value, hint, name)
        return
    if origin is None:
        if not _is_one(value, hint):
            raise _wrong(value, hint, name)
        return
    if not isinstance(value, origin) or isinstance(value, str):
        raise _wrong(value, hint, name)
    if issubclass(origin, Mapping):
        for key, each in value.items():
            _require(key, inside[0], f"a key of {name}")
            _require(each, inside[1], f"{name}[{str(key)[:40]!r}]")
    elif issubclass(origin, tuple) and inside[-1] is not Ellipsis:
        if len(value) != len(inside):
            raise _wrong(value, hint, name)
        for each, kind in zip(value, inside, strict=True):
            _require(each, kind, name)
    elif issubclass(origin, Sequence):
        for each in value:
            _require(each, inside[0], name)


def _fits(value: Any, hint: Any, name: str) -> bool:
    try:
        _require(value, hint, name)
    except TypeError:
        return False
    return True


def _is_one(value: Any, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _wrong(value: Any, hint: Any, name: str) -> TypeError:
    wanted = getattr(hint, "__name__", str(hint)) if typing.get_origin(hint) is None else str(hint)
    return TypeError(f"{name} is {str(value)[:40]!r}, not {wanted.replace('typing.', '')}")
