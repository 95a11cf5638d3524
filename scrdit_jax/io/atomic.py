"""Atomic writes: a file or a folder is there as a whole, or as it was before."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import glob
import os
import platform
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from ..errors import DiskFull, OutputExists, writing
from ..paths import writable_path
from .signals import HeldSignals

REMOVALS, SECONDS_BETWEEN_REMOVALS = 20, 0.05
# Of renameat2(2).
_AT_CURRENT_FOLDER, _RENAME_EXCHANGE = -100, 2


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary sibling of `path` to write a file or a folder to; it takes the place of `path` when the block ends.

    Folders above `path` are made. Whatever goes wrong, `path` is as it was and nothing is left beside it; what has
    taken its place is on the disk, and not only in the system's memory. What killed processes have left goes first.
    """
    partial, old = temporary_name(path, "partial"), temporary_name(path, "old")
    check_parents(path)
    with writing(path):
        made = _make_folders(path.parent)
        remove_leftovers(path)
        try:
            yield partial
            flush(partial)
            with HeldSignals():
                _put(partial, path, old)
        except BaseException:
            with HeldSignals():
                if old.exists() and not path.exists():
                    os.replace(old, path)
                remove(old)
                _remove_while_written(partial)
                for folder in made:
                    with contextlib.suppress(OSError):
                        folder.rmdir()
            raise


def _put(partial: Path, path: Path, old: Path) -> None:
    """`partial` in the place of `path`; what was there before is `old` meanwhile, where it is a folder."""
    if not path.is_dir():
        os.replace(partial, path)
    elif _exchange(partial, path):
        os.replace(partial, old)
    else:  # the old folder steps aside, and comes back where the new one fails
        os.replace(path, old)
        os.replace(partial, path)
    _flush_one(path.parent)
    remove(old)


def temporary_name(path: Path, word: str) -> Path:
    """A hidden sibling of `path` that is this process's own, on a file system shared by many machines too."""
    return path.with_name(f".{path.stem}.{platform.node()}-{os.getpid()}.{word}{path.suffix}")


def stale_temporaries(path: Path) -> Iterator[Path]:
    """What processes that were killed while they wrote `path` have left beside it."""
    yield from path.parent.glob(f".{glob.escape(path.stem)}.*.partial{glob.escape(path.suffix)}")


def remove_leftovers(path: Path) -> None:
    """Delete what processes of this machine that are no more have left beside `path`.

    Where such a process was killed while an old folder had stepped aside, that folder is put back.
    """
    for word in ("old", "partial"):
        before, after = f".{path.stem}.{platform.node()}-", f".{word}{path.suffix}"
        for leftover in path.parent.glob(f"{glob.escape(before)}*{glob.escape(after)}"):
            number = leftover.name[len(before) : -len(after)]
            if not number.isdecimal() or _is_alive(int(number)):
                continue
            if word == "old" and not path.exists():
                os.replace(leftover, path)
            else:
                remove(leftover)


def _is_alive(process: int) -> bool:
    """Whether there is another process of this number; True where that cannot be known."""
    if process == os.getpid():
        return False
    if os.name == "nt":  # where asking would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change places, in one stroke; False where the system or the file system cannot."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):  # only Linux has it
        return False
    if rename(_AT_CURRENT_FOLDER, os.fsencode(one), _AT_CURRENT_FOLDER, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    if ctypes.get_errno() in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
        return False
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(other))


def write_if_absent(path: Path, text: str) -> bool:
    """Write `path`, whole, unless it is there already; whether it was written. Of many processes, one writes."""
    partial = temporary_name(path, "partial")
    with writing(path):
        remove_leftovers(path)
        try:
            partial.write_text(text)
            flush(partial)
            try:
                os.link(partial, path)
            except FileExistsError:
                return False
            except OSError:  # a file system without links
                if path.exists():
                    return False
                os.replace(partial, path)
            _flush_one(path.parent)
        finally:
            remove(partial)
    return True


def flush(path: Path) -> None:
    """Wait until a file, or all that is in a folder, is on the disk."""
    for inside in path.rglob("*") if path.is_dir() else ():
        _flush_one(inside)
    _flush_one(path)


def _flush_one(path: Path) -> None:
    if path.is_dir() and os.name == "nt":  # folders cannot be opened there
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # a file system that has no such thing
            raise
    finally:
        os.close(handle)


def check_parents(path: Path) -> None:
    """OutputExists where something above `path` is a file, so that nothing can be written there, or where `path` or its
    name is nothing that can be written."""
    writable_path(path)
    above = next((parent for parent in path.absolute().parents if os.path.lexists(parent)), None)
    if above is not None and not above.is_dir():
        raise OutputExists(f"{above} is a file, so {path} cannot be written in it; choose another --out")


def require_space(path: Path, needed: int) -> None:
    """DiskFull, before anything is written, unless `needed` bytes are free where the folder `path` lies."""
    free = shutil.disk_usage(path).free
    if free < needed:
        raise DiskFull(
            f"no space left to write {path}: {needed / 1e6:.1f} MB are needed, {free / 1e6:.1f} MB are free; "
            "free some and run the same command again"
        )


def remove(path: Path) -> None:
    """Delete a file or a whole folder, if it is there; another process may be at it, too."""
    while path.is_dir() and not path.is_symlink():
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path)
    path.unlink(missing_ok=True)


def _remove_while_written(path: Path) -> None:
    """`remove`, where zarr's threads, which do not end with what started them, may still be writing."""
    is_folder = path.is_dir()
    for _ in range(REMOVALS):
        with contextlib.suppress(OSError):
            remove(path)
        if not is_folder:
            break
        time.sleep(SECONDS_BETWEEN_REMOVALS)
        if not path.exists():
            return
    remove(path)


def _make_folders(folder: Path) -> list[Path]:
    """Make `folder` and those above it; the ones that were not there before, innermost first."""
    missing = [above for above in (folder, *folder.parents) if not above.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing
