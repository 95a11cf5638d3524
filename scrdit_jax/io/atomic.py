"""Atomic writes: a file or a folder is there as a whole, or as it was before."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

from ..errors import DiskFull, OutputExists, writing
from ..paths import writable_path


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary sibling of `path` to write a file or a folder to; it takes the place of `path` when the block ends.

    Folders above `path` are made. Whatever goes wrong, `path` is as it was and nothing is left beside it; what has
    taken its place is on the disk, and not only in the system's memory.
    """
    partial, old = temporary_name(path, "partial"), temporary_name(path, "old")
    check_parents(path)
    with writing(path):
        made = _make_folders(path.parent)
        try:
            yield partial
            flush(partial)
            # A folder cannot be replaced in one stroke: the old one steps aside and comes back if the new one fails.
            if path.is_dir():
                os.replace(path, old)
            os.replace(partial, path)
            _flush_one(path.parent)
        except BaseException:
            if old.exists():
                os.replace(old, path)
            remove(partial)
            for folder in made:
                with contextlib.suppress(OSError):
                    folder.rmdir()
            raise
        remove(old)


def temporary_name(path: Path, word: str) -> Path:
    """A hidden sibling of `path` that is this process's own, on a file system shared by many machines too."""
    return path.with_name(f".{path.stem}.{platform.node()}-{os.getpid()}.{word}{path.suffix}")


def stale_temporaries(path: Path) -> Iterator[Path]:
    """What processes that were killed while they wrote `path` have left beside it."""
    yield from path.parent.glob(f".{path.stem}.*.partial{path.suffix}")


def write_if_absent(path: Path, text: str) -> bool:
    """Write `path`, whole, unless it is there already; whether it was written. Of many processes, one writes."""
    partial = temporary_name(path, "partial")
    with writing(path):
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
    """Delete a file or a whole folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _make_folders(folder: Path) -> list[Path]:
    """Make `folder` and those above it; the ones that were not there before, innermost first."""
    missing = [above for above in (folder, *folder.parents) if not above.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing
