"""The optional libraries, imported where they are used."""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
from collections.abc import Sequence
from types import ModuleType

from .errors import MissingExtra


def optional(module: str, *, extra: str = "evaluate") -> ModuleType:
    """The module of that name from the `extra`, or MissingExtra with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        library = module.partition(".")[0]
        raise MissingExtra(f"{library} is not installed; run: pip install 'scrdit_jax[{extra}]'") from error


def versions(libraries: Sequence[str]) -> dict[str, str]:
    """The versions of Python and of `libraries`, "unknown" for one that is not installed."""
    found = {"python": platform.python_version()}
    for library in libraries:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            found[library] = "unknown"
    return found
