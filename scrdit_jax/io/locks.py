"""Advisory file locks between processes; the system releases them when their holder dies, be it by kill -9."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # no such locks on Windows
    fcntl = None

# What file systems without locks answer.
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
HELD = {errno.EACCES, errno.EAGAIN}


class FileLocks:
    """Numbered locks, each one byte of a file under a POSIX lock; these work over NFS too.

    A lock only saves doing work twice: shards are renamed into place whole and are the same whoever makes them. So
    where a file system has no locks, every one is granted (`exclusive` is then false), and nothing is corrupted.
    """

    def __init__(self, path: Path) -> None:
        """Open or make the file `path`."""
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        self.exclusive = fcntl is not None

    def close(self) -> None:
        """Release all locks."""
        file, self._file = self._file, -1
        os.close(file)

    def acquire(self, number: int, *, wait: bool = False) -> bool:
        """Whether the lock is ours now; with `wait`, once it is."""
        if not self.exclusive:
            return True
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, number)
        except OSError as error:
            if error.errno in HELD:
                return False
            if error.errno not in NO_LOCKS:
                raise
            self.exclusive = False
        return True

    def release(self, number: int) -> None:
        """Let others have it."""
        if self.exclusive and self._file >= 0:  # closed where a signal ended all, and a generator is cleaned up late
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, number)

    @contextlib.contextmanager
    def held(self, number: int) -> Iterator[None]:
        """Wait for the lock, and release it when the block ends."""
        self.acquire(number, wait=True)
        try:
            yield
        finally:
            self.release(number)
