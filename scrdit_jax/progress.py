"""The progress bar: on a terminal a line of text, in a notebook a widget, or text where there are no widgets.

tqdm.auto would do, but where ipywidgets are missing it warns, and shows nothing: a notebook's output is no terminal.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

from tqdm import tqdm as text_bar

KERNEL = "ipykernel.zmqshell"  # imported by every notebook, and by nothing else


def in_notebook() -> bool:
    """Whether this process runs a notebook's cells."""
    return KERNEL in sys.modules


class _NotebookText(text_bar):
    """Text that shows in a notebook, too."""

    def __init__(self, *args: Any, disable: bool | None = None, **options: Any) -> None:
        """As tqdm's, but shown unless it is disabled."""
        super().__init__(*args, disable=bool(disable), **options)


def bar_type() -> type[text_bar]:
    """The kind of bar for where this process runs."""
    if not in_notebook():
        return text_bar
    if importlib.util.find_spec("ipywidgets") is None:
        return _NotebookText
    from tqdm.notebook import tqdm as widget

    return widget


tqdm = bar_type()
