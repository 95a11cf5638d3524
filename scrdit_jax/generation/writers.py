"""Several writers of shards: while one brings its shard to the end and to the disk, another is at the next."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor

from ..errors import writing
from ..io.append import ROWS_AT_ONCE, CellBlock
from .manifest import ShardRecord
from .plan import Shard
from .store import ShardWriter, Store

# Each holds a shard in memory. Batches come shard by shard, so that two are enough unless the end of a shard, which is
# digests and the disk, takes longer than all that comes before it.
WRITERS = 2
# Batches that wait for one writer, at most, or as many as it appends at once; more would only hide that it is too slow.
MOST_WAITING = 4


class ShardWriters:
    """Writers that take shards in turn, each in a thread of its own; a context manager that waits for these threads.

    An error of any writer's comes out of `add` or `finish`; that writer writes nothing more.
    """

    def __init__(
        self,
        store: Store,
        executor: Executor,
        *,
        compress: bool,
        on_written: Callable[[int, ShardRecord | None], None],
    ) -> None:
        """See ShardWriter. `on_written` gets each batch's cells, and the record of a shard that they finished; it is
        called in the writers' threads."""
        self._writers = [
            _Writer(ShardWriter(store, executor, compress=compress), store, number, on_written)
            for number in range(WRITERS)
        ]
        self._shard: Shard | None = None
        self._most_waiting = max(MOST_WAITING, ROWS_AT_ONCE // store.plan.batch_size)

    def __enter__(self) -> ShardWriters:
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self._writers:
            writer.thread.shutdown(cancel_futures=True)

    def add(self, shard: Shard, block: Future[CellBlock]) -> None:
        """Have the next cells of `shard` written; waits where the shard's writer is behind.

        All cells of a shard come before any of the next.
        """
        if shard != self._shard:
            self._shard = shard
            self._writers.append(self._writers.pop(0))
        for writer in self._writers[:-1]:
            writer.raise_first()
        self._writers[-1].raise_first(leave=self._most_waiting - 1)
        self._writers[-1].submit(shard, block)

    def finish(self) -> None:
        """Wait until all is written."""
        for writer in self._writers:
            writer.raise_first(leave=0)


class _Writer:
    """One thread that writes, and what waits for it."""

    def __init__(
        self, shards: ShardWriter, store: Store, number: int, on_written: Callable[[int, ShardRecord | None], None]
    ) -> None:
        self.thread = ThreadPoolExecutor(1, thread_name_prefix=f"writer-{number}")
        self._shards, self._path, self._on_written = shards, store.path, on_written
        self._waiting: deque[Future[None]] = deque()
        self._failed = False

    def submit(self, shard: Shard, block: Future[CellBlock]) -> None:
        self._waiting.append(self.thread.submit(self._write, shard, block))

    def raise_first(self, leave: int | None = None) -> None:
        """Wait until only `leave` batches wait, if that is given; an error comes out here, at once."""
        waiting = self._waiting
        while waiting and (waiting[0].done() or (leave is not None and len(waiting) > leave)):
            waiting.popleft().result()

    def _write(self, shard: Shard, block: Future[CellBlock]) -> None:
        if self._failed:  # what is left of the shard must not pass for the whole
            return
        try:
            with writing(self._path):
                cells = block.result()
                record = self._shards.add(shard, cells)
        except BaseException:
            self._failed = True
            raise
        self._on_written(cells.cells.shape[0], record)
