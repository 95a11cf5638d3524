"""The folder of a report: what may be replaced there, and writing it so that an interruption leaves nothing broken."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ..errors import OutputExists, writing
from ..io.atomic import atomic_write, check_parents, flush, remove, remove_leftovers, temporary_name

RECORD = "report.json"


def check_output(folder: Path) -> None:
    """OutputExists where something is that is no report, or where no folder can be."""
    if folder.is_dir():
        if any(folder.iterdir()) and not (folder / RECORD).is_file():
            raise OutputExists(f"{folder} holds other things than a report; choose another --out")
    elif folder.exists() or folder.is_symlink():
        raise OutputExists(f"{folder} exists and is not a folder; choose another --out")
    check_parents(folder)


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """A new folder at once; into one that is there file by file, RECORD first, as without it a folder is no report."""
    if not folder.exists():
        with atomic_write(folder) as partial:
            _write(partial, files)
        return
    partial = temporary_name(folder, "partial")
    with writing(folder):
        remove_leftovers(folder)
        try:
            _write(partial, files)
            for name in sorted(files, key=lambda name: name != RECORD):
                os.replace(partial / name, folder / name)
            flush(folder)
        finally:
            remove(partial)


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    flush(folder)
