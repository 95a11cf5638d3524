"""New HDF5 files of which every write has succeeded, or is an error of the block that made them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py


@contextlib.contextmanager
def new_hdf5(path: Path) -> Iterator[tuple[h5py.File, Callable[[], None]]]:
    """A new, empty file, and a function that raises what has gone wrong so far; so does the end of the block.

    HDF5 writes what it holds back whenever it likes, in h5py's destructors too, where Python can only report an error
    and go on: the file would be damaged and nobody told.
    """
    lost: list[BaseException] = []
    hooks = sys.unraisablehook, sys.excepthook

    def on_unraisable(what: Any) -> None:
        if isinstance(what.exc_value, OSError | RuntimeError) and "h5py" in repr(what.object):
            lost.append(what.exc_value)
        else:
            hooks[0](what)

    def on_printed(kind: Any, value: BaseException, place: Any) -> None:
        if not _of_h5py(value, place):  # h5py prints its traceback first
            hooks[1](kind, value, place)

    def check() -> None:
        if lost:
            raise OSError(str(lost[0])) from lost[0]

    sys.unraisablehook, sys.excepthook = on_unraisable, on_printed
    try:
        with h5py.File(path, "w") as file:
            yield file, check
    except Exception:
        check()
        raise
    finally:
        sys.unraisablehook, sys.excepthook = hooks
    check()


def _of_h5py(error: BaseException, place: TracebackType | None) -> bool:
    """Whether it arose in h5py itself."""
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    inside = place is not None and place.tb_frame.f_code.co_filename.startswith("h5py/")
    return inside and isinstance(error, OSError | RuntimeError)
