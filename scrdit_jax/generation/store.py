"""A folder of shards that several processes may fill at once, be killed at any moment, and fill on.

OUT/manifest.json                the request, the plan with its batch size, the devices of the first start
OUT/shards/shard-00003.h5ad      cells of one shard, CSR     OUT/shards/shard-00003.json     its digests; written last
OUT/.locks                      who is at work on what
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from concurrent.futures import Executor, Future
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py

from ..errors import OutputExists, writing
from ..io.append import ROWS_AT_ONCE, CellBlock, CellDigest, CellLayout, CellWriter
from ..io.atomic import atomic_write, check_parents, remove, stale_temporaries
from ..io.locks import FileLocks
from ..io.memory_file import MemoryFile
from ..paths import readable_path
from ..provenance import Provenance
from .manifest import Manifest, ShardRecord
from .plan import Shard

MANIFEST = "manifest.json"
REMEDY = "choose another --out"


def is_store(path: Path) -> bool:
    """Whether `path` is a folder of shards."""
    return (path / MANIFEST).is_file()


def layout_of(provenance: Provenance) -> CellLayout:
    """What files of these cells hold."""
    columns = tuple((variable.name, variable.categories) for variable in provenance.variables)
    return CellLayout(provenance.metadata.genes_of_file, columns, provenance.sampling["output"] == "counts")


def check_folder(path: Path) -> None:
    """OutputExists where `path` is anything but a folder of shards, an empty folder, or nothing."""
    check_parents(path)
    if path.exists() and not is_store(path) and (not path.is_dir() or any(_visible(path))):
        raise OutputExists(f"{path} is there already and holds no shards of synthetic cells; choose another --out")


def _visible(path: Path) -> Iterator[Path]:
    return (inside for inside in path.iterdir() if not inside.name.startswith("."))


class Store:
    """A folder of shards, open; a context manager that releases its locks."""

    def __init__(self, path: Path, manifest: Manifest | None = None) -> None:
        """Open the folder `path`, or begin one with `manifest`; of several beginners one manifest remains."""
        self.path = readable_path(path)
        if manifest is None and not is_store(path):
            raise OutputExists(f"{path} holds no shards of synthetic cells; give a folder made by 'scrdit sample'")
        if manifest is None:
            self.manifest = Manifest.read(path / MANIFEST)
        else:
            with writing(path):
                path.mkdir(parents=True, exist_ok=True)
                self.manifest = manifest.write_once(path / MANIFEST)
        self.plan = self.manifest.plan

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        if "locks" in self.__dict__:
            self.locks.close()

    @cached_property
    def locks(self) -> FileLocks:
        """A lock for each shard, and one more for the whole; opened when asked for, as one may only want to read."""
        with writing(self.path):
            return FileLocks(self.path / ".locks")

    @property
    def _folder(self) -> Path:
        return self.path / "shards"

    @cached_property
    def layout(self) -> CellLayout:
        """What the files hold."""
        return layout_of(self.manifest.provenance)

    @property
    def uns(self) -> dict[str, Any]:
        """What the cells carry in `.uns['scrdit']`."""
        return self.manifest.provenance.to_uns() | {"batch_size": self.plan.batch_size}

    def shard_path(self, shard: Shard) -> Path:
        """Where its cells lie."""
        return self._folder / f"shard-{shard.index:05d}.h5ad"

    def record_path(self, shard: Shard) -> Path:
        """Where its record lies."""
        return self.shard_path(shard).with_suffix(".json")

    def record(self, shard: Shard) -> ShardRecord | None:
        """Its record, if it is finished."""
        return ShardRecord.read(self.record_path(shard))

    def records(self) -> list[ShardRecord]:
        """Those of all finished shards, in order."""
        return [record for record in map(self.record, self.plan.shards()) if record is not None]

    def missing(self) -> list[Shard]:
        """The shards that are not finished, in order."""
        there = {path.name for path in self._folder.glob("*")}
        return [
            shard
            for shard in self.plan.shards()
            if not {self.shard_path(shard).name, self.record_path(shard).name} <= there
        ]

    def lock_each(self, shards: Collection[Shard]) -> Iterator[Shard]:
        """Those of `shards` that nobody else is at work on or has finished, each locked as it is asked for."""
        with writing(self._folder):
            self._folder.mkdir(exist_ok=True)
        for shard in shards:
            if not self.locks.acquire(shard.index):
                continue
            if self.record_path(shard).exists() and self.shard_path(shard).exists():
                self.locks.release(shard.index)
                continue
            if self.locks.exclusive:
                for path in (self.shard_path(shard), self.record_path(shard)):
                    for leftover in stale_temporaries(path):
                        remove(leftover)
            yield shard

    def discard(self, shard: Shard) -> None:
        """Have the shard made anew; its record goes first, so that it counts as missing from then on."""
        remove(self.record_path(shard))
        remove(self.shard_path(shard))

    def digest(self) -> str:
        """sha256 over the digests of all shards' cells, in order; OutputExists while any is missing."""
        records = self.records()
        if len(records) < len(self.plan):
            raise OutputExists(
                f"{self.path} holds {len(records)} of {len(self.plan)} shards; run the same 'scrdit sample' command "
                "again to finish it"
            )
        return hashlib.sha256("".join(record.content for record in records).encode()).hexdigest()


class ShardWriter:
    """Writes the batches of one shard after another, in order; a shard is on the disk when its last cell has come.

    The file grows in memory, compressed, and goes to the disk in one piece: a disk that fills up or a file system that
    HDF5 cannot lock then has no say in what state HDF5 is left in. `executor` has the threads that compress and digest.
    """

    def __init__(self, store: Store, executor: Executor, *, compress: bool = True) -> None:
        """For shards of `store`; those that are to be read once only are better not compressed."""
        self._store, self._executor, self._compress = store, executor, compress
        self._shard: Shard | None = None
        self._image = MemoryFile()

    def add(self, shard: Shard, block: CellBlock) -> ShardRecord | None:
        """The next cells of `shard`; its record if they are the last."""
        if self._shard is None:
            self._begin(shard)
        self._waiting.append(block)
        self._rows += block.cells.shape[0]
        done = self._cells + self._rows == shard.cells
        if done or self._rows >= ROWS_AT_ONCE:
            self._append()
        return self._finish() if done else None

    def _begin(self, shard: Shard) -> None:
        self._shard, self._waiting, self._rows, self._cells = shard, [], 0, 0
        self._digest, self._digesting = CellDigest(shard.first), list[Future[None]]()
        self._image.empty()
        self._file = h5py.File(self._image, "w")
        layout, uns = self._store.layout, self._store.uns | {"first_cell": shard.first, "last_cell": shard.last - 1}
        self._growing = CellWriter(
            self._file, layout, uns, most_nonzeros=shard.cells * len(layout.genes), executor=self._executor,
            compress=self._compress,
        )  # fmt: skip

    def _append(self) -> None:
        block = CellBlock.join(self._waiting)
        self._digested()
        self._digesting = [self._executor.submit(part.update, data) for part, data in self._digest.parts(block)]
        self._growing.append(block, self._shard.first + self._cells)
        self._cells += self._rows
        self._waiting, self._rows = [], 0

    def _digested(self) -> None:
        for part in self._digesting:
            part.result()

    def _finish(self) -> ShardRecord:
        shard, digest = self._shard, self._digest
        self._growing.close()
        self._file.close()
        self._digested()
        with self._image.content() as image:
            record = ShardRecord(
                shard.index, shard.first, digest.cells, digest.nonzeros, len(image), digest.hexdigest(),
                hashlib.sha256(image).hexdigest(),
            )  # fmt: skip
            with atomic_write(self._store.shard_path(shard)) as partial:
                partial.write_bytes(image)
        record.write(self._store.record_path(shard))
        self._store.locks.release(shard.index)
        self._shard = None
        return record
