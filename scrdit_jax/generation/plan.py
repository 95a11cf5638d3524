"""What is to be made, shard by shard: a pure function of the request, so that every process deals itself the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from ..conditioning.assignment import Runs
from ..errors import BadConfig

SHARD_CELLS = 65_536


class Shard(NamedTuple):
    """Cells `first` to `last` - 1, counted over the whole plan."""

    index: int
    first: int
    last: int

    @property
    def cells(self) -> int:
        """How many."""
        return self.last - self.first

    def batches(self, batch_size: int) -> Iterator[tuple[int, int]]:
        """(first cell, how many) of each batch; all but the last are full."""
        for first in range(self.first, self.last, batch_size):
            yield first, min(batch_size, self.last - first)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`cells` in shards of `shard_cells`, a multiple of the batch size: batch k is the same batch whatever the shards.

    `labels` are runs of equal labels, ((name in each column, ...), count) in the order of the cells; none for cells
    without labels.
    """

    cells: int
    batch_size: int
    shard_cells: int
    labels: Runs = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple((tuple(label), int(count)) for label, count in self.labels))
        if self.cells < 1:
            raise BadConfig(f"{self.cells} cells were asked for; ask for at least 1")
        if self.batch_size < 1 or self.shard_cells < 1 or self.shard_cells % self.batch_size:
            raise BadConfig(f"a shard of {self.shard_cells} cells is no multiple of the batch of {self.batch_size}")
        labelled = sum(count for _, count in self.labels)
        if self.labels and (labelled != self.cells or min(count for _, count in self.labels) < 1):
            raise BadConfig(f"labels are given for {labelled} cells, not for the {self.cells} that were asked for")

    @classmethod
    def make(cls, cells: int, batch_size: int, *, labels: Runs = (), near: int = SHARD_CELLS) -> Plan:
        """The plan with shards of as many whole batches as `near` cells hold, one at least."""
        return cls(
            cells=cells, batch_size=batch_size, shard_cells=max(1, near // batch_size) * batch_size, labels=labels
        )

    def __len__(self) -> int:
        return -(-self.cells // self.shard_cells)

    def shard(self, index: int) -> Shard:
        """The shard of this number."""
        first = index * self.shard_cells
        return Shard(index, first, min(first + self.shard_cells, self.cells))

    def shards(self) -> tuple[Shard, ...]:
        """All shards, in order: every cell is in one."""
        return tuple(self.shard(index) for index in range(len(self)))

    def share(self, process: int, count: int) -> tuple[Shard, ...]:
        """The shards of process number `process` of `count`, dealt out in turn."""
        if not 0 <= process < count:
            raise BadConfig(f"there is no process {process} among {count}; they are numbered 0 to {count - 1}")
        return self.shards()[process::count]

    def labels_of(self, shard: Shard) -> Runs:
        """The runs of labels within `shard`."""
        runs, start = [], 0
        for label, count in self.labels:
            inside = min(start + count, shard.last) - max(start, shard.first)
            if inside > 0:
                runs.append((label, inside))
            start += count
        return tuple(runs)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Plan:
        """The inverse of `to_dict`."""
        return cls(**values)
