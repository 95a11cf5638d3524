"""One file from a folder of shards."""

from __future__ import annotations

from pathlib import Path

from ..errors import BadInput, OutputExists
from ..io.append import CellDigest, new_cell_file, read_blocks
from ..io.atomic import atomic_write, require_space
from ..io.damage import FILE_ERRORS
from ..progress import tqdm
from .store import Store


def assemble(store: Store, out: Path) -> None:
    """All cells of a finished `store` as one .h5ad or .zarr, a few thousand in memory at a time.

    Appended with anndata's backed matrices; its concat_on_disk would drop `.uns` and write uncompressed. Raises
    OutputExists if a shard is missing, or is not what its record says.
    """
    records = store.records()
    store.digest()
    with atomic_write(out) as partial:
        require_space(out.parent, sum(record.bytes for record in records))
        with (
            new_cell_file(
                partial, store.layout, store.uns, most_nonzeros=sum(record.nonzeros for record in records)
            ) as cells,
            tqdm(total=store.plan.cells, unit="cell", disable=None, desc="assemble") as bar,
        ):
            for shard, record in zip(store.plan.shards(), records, strict=True):
                digest = CellDigest(shard.first)
                try:
                    for piece in read_blocks(store.shard_path(shard), store.layout):
                        cells.append(piece, shard.first + digest.cells)
                        digest.update(piece)
                        bar.update(piece.cells.shape[0])
                except (BadInput, MemoryError, *FILE_ERRORS) as error:
                    if "No space left" in str(error):
                        raise
                    raise _damaged(store, shard.index) from error
                if digest.hexdigest() != record.content:
                    raise _damaged(store, shard.index)


def _damaged(store: Store, index: int) -> OutputExists:
    return OutputExists(
        f"shard {index} of {store.path} is damaged; 'scrdit verify {store.path} --repair RUN' makes it again"
    )
