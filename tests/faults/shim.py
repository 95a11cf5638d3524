"""shim.c, compiled and loaded into this process: which operation on files is to fail, and how."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")
LOADED = "SCRDIT_FAULTS"
COUNT, NO_SPACE, BAD_DISK, SIGNAL, SNAPSHOT, CLOCK = range(6)


def unavailable() -> str | None:
    """Why faults cannot be injected here; None where they can."""
    if not sys.platform.startswith("linux"):
        return "LD_PRELOAD as of Linux is needed"
    return None if shutil.which("cc") else "a C compiler, cc, is needed"


def reexecute_with_shim(folder: Path) -> None:
    """Begin this program again with the shim, which is compiled into `folder`, unless it is loaded already."""
    if os.environ.get(LOADED):
        return
    library = folder / "shim.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl", "-lpthread"], check=True)
    environment = os.environ | {"LD_PRELOAD": str(library), LOADED: str(folder)}
    os.execve(sys.executable, [sys.executable, "-m", "tests.faults", *sys.argv[1:]], environment)


@dataclass
class Fault:
    """What happens to the operations below a folder; `points` and `hit` are known afterwards."""

    action: int = COUNT
    at: int = 0
    argument: int = 0
    copies: Path | None = None
    points: int = field(default=0, init=False)
    hit: str = field(default="", init=False)


@contextlib.contextmanager
def injected(fault: Fault, folder: Path, log: Path | None = None) -> Iterator[None]:
    """Let `fault` come over the operations below `folder` that the block does; `log` gets one line for each."""
    library = ctypes.CDLL(None)
    library.fault_hit.restype = ctypes.c_char_p
    library.fault_disarm.restype = ctypes.c_long
    words = (os.fsencode(fault.copies or ""), os.fsencode(log or ""))
    library.fault_arm(os.fsencode(folder), fault.action, ctypes.c_long(fault.at), fault.argument, *words)
    try:
        yield
    finally:
        fault.points = library.fault_disarm()
        fault.hit = library.fault_hit().decode(errors="replace")
