"""The optional libraries, imported where they are used."""

from __future__ import annotations

import importlib
from types import ModuleType

from ..errors import MissingExtra


def optional(module: str) -> ModuleType:
    """The module of that name from the `evaluate` extra, or MissingExtra with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        library = module.partition(".")[0]
        raise MissingExtra(f"{library} is not installed; run: pip install 'scrdit_jax[evaluate]'") from error
