"""What is to be made, shard by shard: a pure function of the request, so that every process deals itself the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, NamedTuple

from ..config.checks import BATCH, CELLS, check_fields
from ..errors import BadConfig
from ..records import checked

SHARD_CELLS = 65_536
MOST_SHARDS = 1_000_000


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
    """`cells` in shards of `shard_cells`, a multiple of the batch size: batch k is the same whatever the shards."""

    cells: Annotated[int, CELLS]
    batch_size: Annotated[int, BATCH]
    shard_cells: Annotated[int, CELLS]

    def __post_init__(self) -> None:
        check_fields(self)
        if self.shard_cells % self.batch_size:
            raise BadConfig(f"a shard of {self.shard_cells} cells is no multiple of the batch of {self.batch_size}")
        if len(self) > MOST_SHARDS:
            raise BadConfig(
                f"{self.cells} cells in shards of {self.shard_cells} are {len(self)} files, more than {MOST_SHARDS:,}; "
                f"use --shard-cells {-(-self.cells // MOST_SHARDS)} or more"
            )

    @classmethod
    def make(cls, cells: int, batch_size: int, *, near: int = SHARD_CELLS) -> Plan:
        """The plan with shards of as many whole batches as `near` cells hold, one at least."""
        return cls(cells=cells, batch_size=batch_size, shard_cells=max(1, near // batch_size) * batch_size)

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

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Plan:
        """The inverse of `to_dict`."""
        return checked(cls(**values))
