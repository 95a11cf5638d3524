"""A run folder that is filled from elsewhere: whole, or as it was."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..checkpoint import Run
from ..errors import writing
from ..io.atomic import atomic_write, flush


def is_empty(path: Path) -> bool:
    """Whether nothing is there, or an empty folder."""
    return not path.exists() or (path.is_dir() and not any(path.iterdir()))


@contextlib.contextmanager
def filling(run: Run) -> Iterator[Run]:
    """A run to write to, which becomes `run`, whole, when the block ends; else that is as it was.

    A folder that is there already, empty, is filled and not replaced: somebody's shell may stand in it.
    """
    if not run.path.exists():
        with atomic_write(run.path) as partial:
            partial.mkdir()
            yield Run(partial)
        return
    with writing(run.path), tempfile.TemporaryDirectory(prefix=".", dir=run.path) as folder:
        partial = Run(Path(folder))
        yield partial
        flush(partial.path)
        # The settings last, because without them a folder is no run.
        for made in sorted(partial.path.iterdir(), key=lambda path: path.name == partial.config_path.name):
            os.replace(made, run.path / made.name)
