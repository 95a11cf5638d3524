"""HDF5 files are read in another process first: damaged texts make the HDF5 library run in circles, or crash.

Texts of variable length lie in heaps of the file, and the library (2.0 and before) believes what it finds there.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

from ..errors import BadInput

# Attributes and texts are all that lies in heaps. What raises is no concern of this: the reader will say it. Time that
# passes while a disk is waited for does not count.
HELPER = """
import json, os, signal, sys
try:
    import resource
except ImportError:
    resource = None
import h5py

def read(name, item):
    for key in item.attrs:
        item.attrs[key]
    if isinstance(item, h5py.Dataset) and item.dtype.hasobject and item.size < 50_000_000:
        if not item.is_virtual and not item.external:
            item[()]

for line in sys.stdin:
    path = json.loads(line)
    try:
        if resource is not None:
            seconds = 5 + os.stat(path).st_size // 20_000_000
            used = resource.getrusage(resource.RUSAGE_SELF)
            seconds += int(used.ru_utime + used.ru_stime)
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.getrlimit(resource.RLIMIT_CPU)[1]))
        with h5py.File(path) as file:
            read("/", file)
            file.visititems(read)
    except Exception:
        pass
    print("read", flush=True)
"""
_lock = threading.Lock()
_helper: subprocess.Popen | None = None
_owner = 0  # a forked process needs a helper of its own
_tried: dict[tuple[str, int, int], bool] = {}


def require_readable_texts(path: Path) -> None:
    """BadInput where HDF5 goes down by what the file holds. It is tried once while the file stays as it is."""
    try:
        about = os.stat(path)
    except OSError:
        return  # the reader says it
    known = os.path.abspath(path), about.st_size, about.st_mtime_ns
    with _lock:
        if known not in _tried:
            _tried[known] = _survives(known[0])
        if not _tried[known]:
            raise BadInput(f"{path} is damaged: HDF5 cannot read the texts in it; fetch or write it again")


def _survives(path: str) -> bool:
    """Whether the helper lives on; a new one is started for the first file, and after one that it did not survive."""
    global _helper, _owner
    if not sys.executable:
        return True  # Python within another program: there is nothing to start
    if _helper is None or _owner != os.getpid() or _helper.poll() is not None:
        _stop()
        _owner = os.getpid()
        # In a session of its own: Ctrl-C is for us.
        _helper = subprocess.Popen(
            [sys.executable, "-c", HELPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, start_new_session=True,
        )  # fmt: skip
    try:
        _helper.stdin.write(json.dumps(path) + "\n")
        _helper.stdin.flush()
        if _helper.stdout.readline() == "read\n":
            return True
        status = _helper.wait()
        _stop()
        return status >= 0  # it could not be started, which says nothing of the file
    except BrokenPipeError:  # it was killed while it waited
        _stop()
        return True
    except BaseException:
        _stop()
        raise


@atexit.register
def _stop() -> None:
    global _helper
    if _helper is not None and _owner == os.getpid():
        _helper.kill()
        _helper.communicate()
        _helper = None
