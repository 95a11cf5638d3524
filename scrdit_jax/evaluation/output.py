"""The folder of a report: what may be replaced there, and writing it so that an interruption leaves nothing broken."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from ..errors import OutputExists
from ..io.atomic import check_parents

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
    """Into a sibling first, so that an interruption leaves either the old files or the new ones' folder missing."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.parent / f".{folder.name}.{os.getpid()}.tmp"
    temporary.mkdir()
    try:
        for name, content in files.items():
            (temporary / name).write_bytes(content)
        folder.mkdir(exist_ok=True)
        for name in files:
            os.replace(temporary / name, folder / name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
