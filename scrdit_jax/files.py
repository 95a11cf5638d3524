"""Writing that is whole or not there."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from .errors import DiskFull, OutputExists, writing


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary sibling of `path` to write a file or a folder to; it takes the place of `path` when the block ends.

    Folders above `path` are made. Whatever goes wrong, `path` is as it was and nothing is left beside it.
    """
    partial, old = (path.with_name(f".{path.stem}.{os.getpid()}.{word}{path.suffix}") for word in ("partial", "old"))
    check_parents(path)
    with writing(path):
        made = _make_folders(path.parent)
        try:
            yield partial
            # A folder cannot be replaced in one stroke: the old one steps aside and comes back if the new one fails.
            if path.is_dir():
                os.replace(path, old)
            os.replace(partial, path)
        except BaseException:
            if old.exists():
                os.replace(old, path)
            remove(partial)
            for folder in made:
                with contextlib.suppress(OSError):
                    folder.rmdir()
            raise
        remove(old)


def check_parents(path: Path) -> None:
    """OutputExists where something above `path` is a file, so that nothing can be written there."""
    above = next((parent for parent in path.absolute().parents if parent.exists()), None)
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
