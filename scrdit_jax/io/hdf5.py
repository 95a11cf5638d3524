"""HDF5 files, read and new. HDF5 never sees a disk fail or a signal come while it writes, nor texts that are damaged:
it would be left in a state that it can crash from."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py

from .signals import HeldSignals
from .trial import require_readable_texts

# What a file in memory grows by.
GROWTH = 16 << 20


def open_hdf5(path: Path, **options: Any) -> h5py.File:
    """A file to be read; `options` are h5py's. BadInput where HDF5 would go down by it."""
    require_readable_texts(path)
    return h5py.File(path, **options)


@contextlib.contextmanager
def new_hdf5(path: Path) -> Iterator[tuple[h5py.File, Callable[[], None]]]:
    """A new, empty file on the disk, and a function that raises what has gone wrong so far; the end does so, too.

    Ctrl-C and SIGTERM wait for that function or the end of the block.
    """
    # Before there is an object: one that is half made would be closed all the same.
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o666)
    disk, signals = _DiskFile(handle), HeldSignals()

    def check() -> None:
        disk.check()
        signals.deliver()

    with signals:
        try:
            with h5py.File(disk, "w") as file:
                yield file, check
        except Exception:
            disk.check()
            raise
        finally:
            disk.close()
        check()


@contextlib.contextmanager
def small_hdf5(path: Path) -> Iterator[h5py.File]:
    """A new, empty file that grows in memory, and goes to the disk in one piece when the block ends."""
    with h5py.File(path, "w", driver="core", backing_store=False, block_size=GROWTH) as file:
        yield file
        file.flush()
        image = file.id.get_file_image()
    path.write_bytes(image)


class _DiskFile(io.RawIOBase):
    """A file on the disk that keeps the first error to itself until it is asked.

    HDF5 writes what it holds back whenever it likes, also where h5py can only print an error and go on. It is told that
    all is well, and reads from memory what could not be written.
    """

    def __init__(self, handle: int) -> None:
        """The new, empty file that the system calls `handle`."""
        super().__init__()
        self._handle = handle
        self._place = self._size = 0
        self._problem: OSError | None = None
        self._unwritten: list[tuple[int, bytes]] = []

    def check(self) -> None:
        """Raise the first error there was."""
        if self._problem is not None:
            raise self._problem

    def close(self) -> None:
        """What the system says only now, as file systems over a network do, is an error too."""
        if not self.closed:
            self._attempt(os.close, self._handle)
        super().close()

    def _attempt(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except OSError as error:
            self._problem = self._problem or error
            return None

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        return self._place

    def write(self, data) -> int:
        with memoryview(data).cast("B") as source:
            end, done = self._place + len(source), 0
            while done < len(source) and self._problem is None:
                os.lseek(self._handle, self._place + done, os.SEEK_SET)
                done += self._attempt(os.write, self._handle, source[done:]) or 0
            if done < len(source):
                self._unwritten.append((self._place + done, bytes(source[done:])))
            self._size, self._place = max(self._size, end), end
            return len(source)

    def readinto(self, buffer) -> int:
        with memoryview(buffer).cast("B") as target:
            count = max(0, min(len(target), self._size - self._place))
            os.lseek(self._handle, self._place, os.SEEK_SET)
            found = self._attempt(os.read, self._handle, count) or b""
            target[:count] = found + bytes(count - len(found))
            for start, data in self._unwritten:
                first, last = max(start, self._place), min(start + len(data), self._place + count)
                if first < last:
                    target[first - self._place : last - self._place] = data[first - start : last - start]
        self._place += count
        return count

    def truncate(self, size: int | None = None) -> int:
        self._size = self._place if size is None else size
        self._attempt(os.truncate, self._handle, self._size)
        return self._size
