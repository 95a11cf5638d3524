"""Whether a folder of shards holds, byte by byte, what was written to it."""

from __future__ import annotations

import hashlib

from ..errors import ScrditError
from ..io.append import CellDigest, read_blocks
from ..io.damage import FILE_ERRORS
from ..progress import tqdm
from .plan import Shard
from .store import Store


def find_damage(store: Store) -> dict[Shard, str]:
    """What is wrong with each shard that is missing or damaged; every digest is computed again."""
    wrong = {}
    with tqdm(total=store.plan.cells, unit="cell", disable=None, desc="verify") as bar:
        for shard in store.plan.shards():
            what = _damage(store, shard)
            if what is not None:
                wrong[shard] = what
            bar.update(shard.cells)
    return wrong


def _damage(store: Store, shard: Shard) -> str | None:
    path, record = store.shard_path(shard), store.record(shard)
    if record is None:
        found = store.record_path(shard).exists()
        return f"{store.record_path(shard).name} cannot be read" if found else "missing"
    if not path.is_file():
        return f"{path.name} is missing"
    try:
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != record.file:
                return f"{path.name} was damaged after it was written: its sha256 is another"
        digest = CellDigest(shard.first)
        for piece in read_blocks(path, store.layout):
            digest.update(piece)
    except (ScrditError, MemoryError, *FILE_ERRORS) as error:
        return f"{path.name} cannot be read ({' '.join(str(error).split())[:100]})"
    found = (shard.index, shard.first, digest.cells, digest.nonzeros, path.stat().st_size, digest.hexdigest())
    if found != (record.index, record.first, record.cells, record.nonzeros, record.bytes, record.content):
        return f"{path.name} does not hold what its record says"
    return None if digest.cells == shard.cells else f"{path.name} holds {digest.cells} of {shard.cells} cells"
