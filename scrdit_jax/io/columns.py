"""Columns of a file that grow at their end, chunk by chunk; in HDF5 compressed on several threads."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Executor, Future

import h5py
import numpy as np
import zarr
from isal import isal_zlib

# ISA-L's deflate: a tenth of zlib's time at the same size, and read by any HDF5. 65,536 values of log expression, and
# their genes, one thread: 660 and 550 MB/s, 3.3 and 1.1 bytes a value; zlib at level 1: 45 and 80 MB/s, 3.2 and 1.0.
LEVEL = 1
# Chunks on their way through the compressor, at most, for each column.
MOST_WAITING = 16


class AppendableColumn:
    """A resizable one-dimensional dataset that is appended to; what makes no whole chunk waits for more, or `close`."""

    def __init__(self, dataset: h5py.Dataset | zarr.Array) -> None:
        """Append to the end of `dataset`."""
        self._dataset, self._chunk = dataset, dataset.chunks[0]
        self._written = dataset.shape[0] // self._chunk * self._chunk
        self._rest = [dataset[self._written :]]
        self._size = dataset.shape[0]

    def append(self, values: np.ndarray) -> None:
        """Add `values` (n,), converted to the dataset's dtype."""
        self._rest.append(values if values.dtype == object else np.asarray(values, self._dataset.dtype))
        self._size += len(values)
        whole = (self._size - self._written) // self._chunk * self._chunk
        if not whole:
            return
        values = np.concatenate(self._rest)
        self._put(values[:whole])
        self._rest = [values[whole:]]

    def close(self) -> None:
        """Write what is left; afterwards the dataset holds all that was appended."""
        rest = np.concatenate(self._rest)
        if len(rest):
            self._put(rest)
        self._rest = []

    def _put(self, values: np.ndarray) -> None:
        start, self._written = self._written, self._written + len(values)
        if self._dataset.shape[0] < self._written:
            self._dataset.resize((self._written,))
        self._dataset[start : self._written] = values


class CompressedColumn(AppendableColumn):
    """A dataset of HDF5 with the filters shuffle and gzip.

    Chunks are compressed by `executor`, whose threads run while Python's others do, and are written as they are, in
    order, by the thread that appends.
    """

    def __init__(self, dataset: h5py.Dataset, executor: Executor) -> None:
        """Append to the end of `dataset`, which has these two filters and no others."""
        super().__init__(dataset)
        self._executor = executor
        self._waiting: deque[tuple[int, Future[bytes]]] = deque()

    def close(self) -> None:
        """Write what is left; afterwards the dataset holds all that was appended."""
        super().close()
        self._write(leave=0)
        self._dataset.resize((self._size,))

    def _put(self, values: np.ndarray) -> None:
        for start in range(0, len(values), self._chunk):
            chunk = values[start : start + self._chunk]
            if len(chunk) < self._chunk:
                # The file's last chunk is whole, too: beyond the dataset's end it holds zeros.
                chunk = np.concatenate([chunk, np.zeros(self._chunk - len(chunk), chunk.dtype)])
            self._waiting.append((self._written, self._executor.submit(_compress, chunk)))
            self._written += self._chunk
            self._write(leave=MOST_WAITING)

    def _write(self, leave: int) -> None:
        """Write all chunks but `leave` that are on their way: not those that happen to be compressed, as where a chunk
        lies in the file must not depend on which was faster."""
        while len(self._waiting) > leave:
            place, future = self._waiting.popleft()
            if self._dataset.shape[0] < place + self._chunk:
                self._dataset.resize((place + self._chunk,))
            self._dataset.id.write_direct_chunk((place,), future.result())


def _compress(chunk: np.ndarray) -> bytes:
    """HDF5's filters shuffle (all first bytes, then all second ones, ...) and deflate."""
    shuffled = np.ascontiguousarray(chunk.view(np.uint8).reshape(len(chunk), chunk.itemsize).T)
    return isal_zlib.compress(shuffled.data, LEVEL)


def column(dataset: h5py.Dataset | zarr.Array, executor: Executor) -> AppendableColumn:
    """What appends to `dataset`, by how it is stored."""
    if isinstance(dataset, h5py.Dataset) and dataset.shuffle and dataset.compression == "gzip":
        return CompressedColumn(dataset, executor)
    return AppendableColumn(dataset)
