"""What a folder of shards says about itself: one manifest.json, and a small record beside each finished shard."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .. import strict_json
from ..errors import OutputExists, ScrditError
from ..io.atomic import atomic_write, write_if_absent
from ..provenance import Provenance
from ..records import checked
from .plan import Plan

FORMAT = 2


@dataclass(frozen=True)
class Manifest:
    """What the cells are made by, the plan of the shards, and the devices that were here at its start."""

    provenance: Provenance
    plan: Plan
    device: dict[str, Any]

    def write_once(self, path: Path) -> Manifest:
        """Write to `path` unless a manifest is there; the one that is there now, which may be another process's."""
        record = {
            "format": FORMAT,
            "provenance": self.provenance.to_dict(),
            "plan": self.plan.to_dict(),
            "device": self.device,
        }
        write_if_absent(path, json.dumps(record | {"digest": _digest(record)}, indent=1) + "\n")
        return Manifest.read(path)

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """OutputExists where it cannot be read."""
        try:
            record = strict_json.read(path)
            if record.pop("digest") != _digest(record):
                raise ValueError("it was changed after it was written")
            if record["format"] != FORMAT:
                raise ValueError(f"format {record['format']}, of another version of scrdit_jax, not {FORMAT}")
            found = cls(
                Provenance.from_dict(record["provenance"]), Plan.from_dict(record["plan"]), dict(record["device"])
            )
            if found.plan.cells != found.provenance.cells or not {"devices", "kind"} <= set(found.device):
                raise ValueError("its parts do not belong together")
            return found
        except (OSError, LookupError, ValueError, TypeError, AttributeError, RecursionError, ScrditError) as error:
            raise OutputExists(
                f"{path} cannot be read ({' '.join(str(error).split())[:200]}); choose another --out, or delete the "
                "folder to begin anew"
            ) from None


def _digest(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class ShardRecord:
    """A finished shard: `content` is the digest of its cells (io.append.CellDigest), `file` that of its bytes."""

    index: int
    first: int
    cells: int
    nonzeros: int
    bytes: int
    content: str
    file: str

    def write(self, path: Path) -> None:
        """To `path`, atomically."""
        with atomic_write(path) as partial:
            partial.write_text(json.dumps(asdict(self)) + "\n")

    @classmethod
    def read(cls, path: Path) -> ShardRecord | None:
        """None where there is none that can be read."""
        with contextlib.suppress(OSError, ValueError, TypeError):
            return checked(cls(**strict_json.read(path)))
        return None
