"""The progress bar: on a terminal a line of text, in a notebook a widget, or text where there are no widgets.

tqdm.auto would do, but where ipywidgets are missing it warns, and shows nothing: a notebook's output is no terminal.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Any

from tqdm import tqdm as text_bar

KERNEL = "ipykernel.zmqshell"  # imported by every notebook, and by nothing else
HIDE = "TQDM_DISABLE"  # tqdm's variable, which it looks at only where a program leaves `disable` out


def in_notebook() -> bool:
    """Whether this process runs a notebook's cells."""
    return KERNEL in sys.modules


def hidden() -> bool | None:
    """Whether a bar is hidden that is neither wanted nor unwanted; None: where output is no terminal."""
    if os.environ.get(HIDE, "") not in ("", "0"):
        return True
    return False if in_notebook() else None


def bar_type() -> type[text_bar]:
    """The kind of bar for where this process runs."""
    kind: Any = text_bar
    if in_notebook() and importlib.util.find_spec("ipywidgets") is not None:
        kind = importlib.import_module("tqdm.notebook").tqdm

    class Bar(kind):
        def __init__(self, *args: Any, disable: bool | None = None, **options: Any) -> None:
            super().__init__(*args, disable=hidden() if disable is None else disable, **options)

    return Bar


tqdm = bar_type()
