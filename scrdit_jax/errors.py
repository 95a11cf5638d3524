"""What a user can get wrong. The message names the value, the rule and the remedy, in one line."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

# What a system says of a place where nothing can be written, whatever it is.
NOWHERE = {errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.ENXIO, errno.ENODEV}
MOST_CHARACTERS = 2000


class ScrditError(Exception):
    """Base of every error a user can cause; the command line prints it and exits with status 2.

    Whatever a file or an argument has put into the message, it is one line that a terminal may have.
    """

    def __str__(self) -> str:
        return one_line(super().__str__())


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


class OutOfMemory(ScrditError):
    """The host or the device has less memory than was needed."""


class DiskFull(ScrditError):
    """There was no space left to write to."""


class DiskFailed(ScrditError):
    """The disk or the file system refused what was to be written."""


NO_SPACE = {errno.ENOSPC, errno.EDQUOT} if hasattr(errno, "EDQUOT") else {errno.ENOSPC}
# The system's answers that have to do with a disk or a file system, and nothing with what was written.
DISK_ERRORS = {
    getattr(errno, name)
    for name in ("EIO", "ESTALE", "ETIMEDOUT", "EREMOTEIO", "EMFILE", "ENFILE")
    if hasattr(errno, name)
}


@contextlib.contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Turn a write that failed on `path` into one line that says what to do about it."""
    try:
        yield
    except ScrditError:
        raise
    except Exception as error:
        text = str(error)
        if getattr(error, "errno", None) in NO_SPACE or "No space left" in text:
            raise DiskFull(f"no space left while writing {path}; free some and run the same command again") from error
        if isinstance(error, PermissionError) or "Permission denied" in text:
            raise OutputExists(f"{path} cannot be written: permission denied; choose another --out") from error
        if getattr(error, "errno", None) in DISK_ERRORS or os.strerror(errno.EIO) in text:
            reason = getattr(error, "strerror", None) or os.strerror(errno.EIO)
            raise DiskFailed(
                f"{path} could not be written ({reason[:1].lower()}{reason[1:]}); see to the disk and run the same "
                "command again"
            ) from error
        if isinstance(error, TimeoutError):  # of orbax, also where the clock was set
            raise DiskFailed(
                f"{path} was not written in time; see to the disk and run the same command again"
            ) from error
        if getattr(error, "errno", None) in NOWHERE:
            reason = str(getattr(error, "strerror", "")).lower()
            raise OutputExists(f"{path} cannot be written: {reason}; choose another --out") from error
        raise


@contextlib.contextmanager
def enough_memory(remedy: str) -> Iterator[None]:
    """Around work, or a function that does it: OutOfMemory with `remedy` where the host or a device has too little."""
    try:
        yield
    except Exception as error:
        text = str(error)
        # XLA's exceptions have no type of their own for it; the second is what a CPU says.
        of_xla = any(word in text for word in ("RESOURCE_EXHAUSTED", "Out of memory allocating"))
        if isinstance(error, ScrditError) or not (isinstance(error, MemoryError) or of_xla):
            raise
        reason = text.rpartition("RESOURCE_EXHAUSTED: ")[2].strip().splitlines()[:1]
        raise OutOfMemory(f"there is not enough memory ({' '.join(reason).rstrip('.')[:200]}); {remedy}") from error


def printable(text: str) -> str:
    """`text` as a terminal may have it: what would move its cursor, or is no character, as an escape such as \\x1b;
    line ends stay."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def one_line(text: str) -> str:
    """`printable`, in one line, cut where it would fill the screen."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= MOST_CHARACTERS else line[:MOST_CHARACTERS] + "..."
