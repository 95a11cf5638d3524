"""JSON as its standard has it, and no more than there is room for: one line of ValueError says what is wrong."""

from __future__ import annotations

import json
import math
import os
import stat
from pathlib import Path
from typing import Any

# A settings file has some kB; records of cells with all genes' quantiles, tens of MB.
MOST_BYTES = 512 << 20
MOST_DIGITS = 100


def read(path: Path | str, *, most_bytes: int = MOST_BYTES, nan: bool = False) -> Any:
    """The values in a file, UTF-8 with or without a byte-order mark; ValueError or OSError, in one line.

    With `nan`, NaN and Infinity are numbers: of measurements that we wrote ourselves.
    """
    with open(path, "rb", opener=_without_waiting) as file:
        about = os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode):
            raise ValueError("it is no regular file")
        # One byte more than there may be: the file may grow, and /proc says 0 of any.
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"it is larger than {most_bytes / 1e6:,.0f} MB")
    return parse(content, nan=nan)


def _without_waiting(path: str, flags: int) -> int:
    # A FIFO would be waited for until somebody writes to it.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def parse(text: str | bytes, *, nan: bool = False) -> Any:
    """The values of a JSON text; ValueError for one that breaks the standard, has a name twice in an object, a number
    that no computer's holds, or objects in objects beyond all reason."""
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        constant = float if nan else _no_number
        return json.loads(text, object_pairs_hook=_object, parse_constant=constant, parse_int=_whole, parse_float=_real)
    except RecursionError:
        raise ValueError("lists or objects lie too deep in each other") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in values if names.count(name) > 1)
        raise ValueError(f"an object has {twice[:80]!r} twice")
    return values


def _no_number(constant: str) -> Any:
    raise ValueError(f"{constant} is no number of JSON")


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a whole number has {len(digits)} digits")
    return int(digits)


def _real(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:40]} is too large a number")
    return value
