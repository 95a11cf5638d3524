"""What a file claims against what is there of it, and against the memory there is: by arithmetic, before it is read."""

from __future__ import annotations

import contextlib
import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ..devices import free_host_memory
from ..errors import BadInput
from ..paths import readable_path

# Claims up to this are taken as they are. Beyond, what is compressed may take so many times its size: deflate reaches
# 1032 with a file of one byte over and over, tables of cells that are nearly all zeros 100, HDF5's chunks of them 200.
ALWAYS_TAKEN = 256 << 20
MOST_TIMES = 500
# The longest line of a text: 200,000 names or numbers take a tenth of it.
MOST_BYTES_A_LINE = 64 << 20
STREAM = "write it as .h5ad or .zarr, stored by cells, which --stream leaves on the disk"


def require_plausible(claimed: int, there: int, what: str) -> None:
    """BadInput where `what` claims more bytes than the bytes that are there of it can be the compressed form of."""
    if claimed > ALWAYS_TAKEN and claimed > MOST_TIMES * there:
        raise BadInput(
            f"{what} claims {claimed / 1e9:,.3g} GB, more than {MOST_TIMES} times its {there:,} bytes on the disk, "
            "which no data of cells do; fetch or write it again"
        )


def require_memory(needed: int, what: str, remedy: str = "use a machine with more, or fewer cells or genes") -> None:
    """BadInput where `what` takes more bytes than are free."""
    free = free_host_memory()
    if needed > free:
        raise BadInput(f"{what} takes {needed / 1e9:,.1f} GB of memory, and {free / 1e9:.1f} GB are free; {remedy}")


class Unpacked(io.RawIOBase):
    """What a gzip file holds, of one member or more, as it is read; BadInput where it is more than `require_plausible`
    lets pass, or `require_memory`."""

    def __init__(self, path: Path, raw: IO[bytes]) -> None:
        """Of the open file `raw` that lies at `path`."""
        super().__init__()
        self._path, self._there, self._passed = path, path.stat().st_size, 0
        self._stream = gzip.GzipFile(fileobj=raw)
        self._most = max(free_host_memory(), ALWAYS_TAKEN)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        count = self._stream.readinto(buffer)
        self._passed += count
        require_plausible(self._passed, self._there, f"{self._path}, unpacked,")
        if self._passed > self._most:
            require_memory(self._passed, f"{self._path}, unpacked,")
        return count

    def close(self) -> None:
        self._stream.close()
        super().close()


def is_gzip(path: Path) -> bool:
    """Whether its name says so."""
    return path.name.lower().endswith(".gz")


@contextlib.contextmanager
def opened(path: Path) -> Iterator[io.BufferedReader]:
    """The bytes of an ordinary file, those of a .gz unpacked; BadInput where these are too many."""
    with readable_path(path).open("rb") as raw:
        if not is_gzip(path):
            yield raw
            return
        with io.BufferedReader(Unpacked(path, raw), 1 << 18) as unpacked:
            yield unpacked


def lines_of(stream: IO[bytes], path: Path) -> Iterator[bytes]:
    """The lines of a text, with their ends; BadInput where one is longer than any table's."""
    number = 0
    while line := stream.readline(MOST_BYTES_A_LINE + 1):
        number += 1
        if len(line) > MOST_BYTES_A_LINE:
            raise BadInput(
                f"{path}: line {number} has more than {MOST_BYTES_A_LINE >> 20} MB; it is no table of cells and genes, "
                "or has no line ends"
            )
        yield line


def size_unpacked(path: Path) -> int:
    """How many bytes a file has; of a .gz, how many come out of it, found by unpacking it, within the limits."""
    if not is_gzip(path):
        return path.stat().st_size
    with opened(path) as stream:
        return sum(len(block) for block in iter(lambda: stream.read(1 << 22), b""))
