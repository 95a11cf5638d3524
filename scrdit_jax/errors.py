"""What a user can get wrong. The message names the value, the rule and the remedy, in one line."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

# What a system says of a place where nothing can be written, whatever it is.
NOWHERE = {errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.ENXIO, errno.ENODEV}
MOST_CHARACTERS = 2000


class ScrditError(Exception):
    """Base of every error a user can cause; the command line prints it and exits with status 2."""


class BadInput(ScrditError):
    """A file, a matrix or a name in it cannot be used."""


class BadConfig(ScrditError):
    """A setting is outside its range, or two settings exclude each other."""


class BadTimesteps(ScrditError):
    """A timestep sub-sequence is not a strictly descending subset of {T, ..., 1}."""


class GeneMismatch(ScrditError):
    """Two things that must share genes do not."""


class UnknownCellType(ScrditError):
    """A cell type was asked for that the data do not hold."""


class OutputExists(ScrditError):
    """The output path is there already and is not ours to overwrite."""


class RunMismatch(ScrditError):
    """A run folder is no run, or was made with other settings or other data."""


class MissingExtra(ScrditError):
    """An optional dependency is needed and not installed."""


class Diverged(ScrditError):
    """Training or sampling produced numbers that are not finite."""


class DiskFull(ScrditError):
    """There was no space left to write to."""


@contextlib.contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Turn a write that failed on `path` into one line that says what to do about it."""
    try:
        yield
    except ScrditError:
        raise
    except Exception as error:
        text = str(error)
        if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in text:
            raise DiskFull(f"no space left while writing {path}; free some and run the same command again") from error
        if isinstance(error, PermissionError) or "Permission denied" in text:
            raise OutputExists(f"{path} cannot be written: permission denied; choose another --out") from error
        if getattr(error, "errno", None) in NOWHERE:
            reason = str(getattr(error, "strerror", "")).lower()
            raise OutputExists(f"{path} cannot be written: {reason}; choose another --out") from error
        raise


def printable(text: str) -> str:
    """`text` as a terminal may have it: what would move its cursor, or is no character, as an escape such as \\x1b;
    line ends stay."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def one_line(text: str) -> str:
    """`printable`, in one line, cut where it would fill the screen."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= MOST_CHARACTERS else line[:MOST_CHARACTERS] + "..."
