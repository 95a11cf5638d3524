"""Measured rows kept one by one, and the whole files that are written from them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scrdit_jax.io.atomic import atomic_write

Row = dict[str, Any]


class Rows:
    """Measured rows, one file each, whole or not there."""

    def __init__(self, folder: Path) -> None:
        """Open the folder, making it if need be."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, name: str) -> Path:
        """Where the row of that name lies, or would."""
        return self.folder / f"{name}.json"

    def measured(self, name: str, measure: Callable[[], Row]) -> Row:
        """The row of that name: from its file, or measured now."""
        path = self.path(name)
        if not path.is_file():
            put(path, (json.dumps(measure()) + "\n").encode())
        return json.loads(path.read_text())


def put(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
    with atomic_write(path) as partial:
        partial.write_bytes(content)


def slug(text: str) -> str:
    """A name for files."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def markdown(header: list[str], lines: list[list[str]]) -> str:
    """A table."""
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in rows) + "\n"
