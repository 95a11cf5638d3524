"""What a path must be before it is opened: a name that a system takes, and no pipe, socket or device behind it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from .errors import BadInput, OutputExists

# What nearly every file system takes for one part of a path, and Linux for a whole one.
MOST_BYTES_A_NAME, MOST_BYTES_A_PATH = 255, 4095
KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
# Folders that the system shows its state in; their "files" have no size, and may never end.
SYSTEM = ("/proc", "/sys", "/dev/fd")


def usable_name(path: Path | str) -> Path:
    """`path`, if a system can have a file of that name; BadInput where none can. Nothing is looked up."""
    text = os.fspath(path)
    if not text or text == ".." or text.isspace():
        raise BadInput(f"the path {text!r} is empty or names no file; give the name of one")
    if "\0" in text:
        raise BadInput(f"the path {text!r} holds a NUL, which no name may; give the path without it")
    try:
        encoded = os.fsencode(text)
    except UnicodeEncodeError:
        raise BadInput(f"the path {text!r} holds characters that no name may; give the path without them") from None
    longest = max(map(len, encoded.split(os.sep.encode())))
    if longest > MOST_BYTES_A_NAME:
        raise BadInput(f"a name in {text[:60]!r}... has {longest} bytes, more than {MOST_BYTES_A_NAME}; shorten it")
    if len(encoded) > MOST_BYTES_A_PATH:
        raise BadInput(f"the path {text[:60]!r}... has {len(encoded)} bytes, more than {MOST_BYTES_A_PATH}; shorten it")
    return Path(path)


def readable_path(path: Path | str) -> Path:
    """`path`, if it is an ordinary file, a folder or not there; BadInput for what would not end or never begins, such
    as a pipe, and for links that lead nowhere. Nothing is opened."""
    path = usable_name(path)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if path.is_symlink():
            raise BadInput(f"{path} is a link to {os.readlink(path)}, which is not there; mend it") from None
        return path
    except NotADirectoryError:
        return path
    except PermissionError:
        raise BadInput(f"{path} cannot be read: permission denied; ask its owner, or copy it") from None
    except OSError as error:
        what = "is a link that leads back to itself" if error.errno == errno.ELOOP else f"({error.strerror})"
        raise BadInput(f"{path} cannot be read: it {what}; give the file itself") from None
    if kind := _kind(mode):
        raise BadInput(f"{path} is {kind}, which cannot be read as a file; write what comes from it to a file first")
    if _of_the_system(path):
        raise BadInput(f"{path} belongs to the system, and is no file of data; give a file or a folder of your own")
    return path


def files_below(folder: Path) -> Iterator[Path]:
    """All files in a folder, at any depth; BadInput for what is no ordinary file, or a link to a folder, which may go
    round."""
    with os.scandir(folder) as entries:
        for entry in entries:
            path = folder / entry.name
            if not entry.is_dir():
                yield path if entry.is_file() else readable_path(path)
            elif entry.is_symlink():
                raise BadInput(f"{path} is a link to a folder; copy it with the files in it")
            else:
                yield from files_below(path)


def writable_path(path: Path | str) -> Path:
    """`path`, if a file or a folder may be written there, as far as its name and what is there tell; else BadInput, or
    OutputExists."""
    path = usable_name(path)
    try:
        kind = _kind(path.stat().st_mode)
    except OSError:
        kind = "a link that leads nowhere" if path.is_symlink() else None
    if kind is not None:
        raise OutputExists(f"{path} is {kind}, which is not replaced; choose another --out")
    if _of_the_system(path):
        raise OutputExists(f"{path} belongs to the system, and nothing can be kept there; choose another --out")
    return path


def _kind(mode: int) -> str | None:
    return next((kind for is_kind, kind in KINDS if is_kind(mode)), None)


def _of_the_system(path: Path) -> bool:
    real = os.path.realpath(path)
    return real in SYSTEM or real.startswith(tuple(f"{folder}/" for folder in SYSTEM))
