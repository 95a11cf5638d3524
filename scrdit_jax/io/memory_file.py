"""A file in memory whose room outlasts it."""

from __future__ import annotations

import io

# It grows by this at least; more would be memory in vain, less many small steps.
GROWTH = 16 << 20


class MemoryFile(io.RawIOBase):
    """A binary file in memory that, once it was emptied, is written to the same memory again.

    What the system gives is zeroed page by page: that takes ten times as long as writing to pages that are there.
    """

    def __init__(self) -> None:
        """An empty file."""
        super().__init__()
        self._room = bytearray()
        self._size = self._place = 0

    def empty(self) -> None:
        """Begin anew; the room is kept."""
        self._size = self._place = 0

    def content(self) -> memoryview:
        """All that was written; to be released before more is."""
        return memoryview(self._room)[: self._size]

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        with self.content() as content, content[self._place :] as left, memoryview(buffer).cast("B") as target:
            count = min(len(target), len(left))
            target[:count] = left[:count]
        self._place += count
        return count

    def write(self, data) -> int:
        with memoryview(data).cast("B") as source:
            end = self._place + len(source)
            self._extend(self._place, end)
            with memoryview(self._room) as room:
                room[self._place : end] = source
            self._size, self._place = max(self._size, end), end
            return len(source)

    def truncate(self, size: int | None = None) -> int:
        size = self._place if size is None else size
        self._extend(size, size)
        self._size = size
        return size

    def _extend(self, zeros: int, end: int) -> None:
        """Make room up to `end`, and zeros of what lies between the end of the file and `zeros`."""
        if end > len(self._room):
            self._room += bytes(max(GROWTH, end - len(self._room)))
        if zeros > self._size:
            with memoryview(self._room) as room:
                room[self._size : zeros] = bytes(zeros - self._size)
            self._size = zeros
