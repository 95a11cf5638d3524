"""What the commands of this folder share: one-line errors, their own command line, processes and files of results."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from scrdit_jax.errors import ScrditError
from scrdit_jax.io.atomic import atomic_write

RESULTS = Path(__file__).parent / "results"
CALL = """\
import importlib, json, sys
module, name, arguments = json.loads(sys.argv[1])
print(json.dumps(getattr(importlib.import_module(module), name)(*arguments)))
"""


class Refused(click.ClickException):
    """One line, exit status 2."""

    exit_code = 2


@contextmanager
def one_line_errors() -> Iterator[None]:
    """What a user gets wrong becomes one line and exit status 2."""
    try:
        yield
    except ScrditError as error:
        raise Refused(" ".join(str(error).split())) from None


def command_line(module: str) -> str:
    """The command that runs now, as a user types it."""
    return shlex.join(["python", "-m", module, *sys.argv[1:]])


def in_own_process(
    module: str, function: str, *arguments: Any, python: str = sys.executable, quiet: bool = False
) -> Any:
    """What `function` of `module` returns, in a process with its own memory and devices; plain values both ways.

    Where that fails, subprocess.CalledProcessError; `quiet` keeps what the process says in its `stderr`.
    """
    path = os.pathsep.join([str(RESULTS.parent.parent), os.environ.get("PYTHONPATH", "")])
    command = [python, "-c", CALL, json.dumps([module, function, [_plain(one) for one in arguments]])]
    settings = os.environ | {"PYTHONPATH": path}
    said = subprocess.PIPE if quiet else None
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=said, text=True, env=settings).stdout
    return json.loads(text.splitlines()[-1])


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def write_files(folder: Path, files: dict[str, str | bytes]) -> None:
    """Each file atomically, by name."""
    for name, content in files.items():
        with atomic_write(folder / name) as partial:
            partial.write_bytes(content.encode() if isinstance(content, str) else content)


def as_json(values: Any) -> str:
    """Plain values as the text of a file of results."""
    return json.dumps(values, indent=1) + "\n"


def slug(text: str) -> str:
    """`text` as part of a file name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
