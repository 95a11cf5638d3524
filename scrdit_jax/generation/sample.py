"""Synthetic cells in memory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pandas as pd
from anndata import AnnData

from ..devices import free_host_memory, usable_cores
from ..errors import BadConfig
from ..families import Trained, models_of
from ..io.append import COUNTS, LOG_SCALE, CellBlock
from ..progress import tqdm
from ..provenance import KEY
from .composition import collect, dispatch_ahead, make_sampler
from .plan import Shard
from .request import SampleRequest
from .store import layout_of

# The least that a cell takes: its name and labels, and of its genes a hundredth with a value and an index.
BYTES_A_CELL, BYTES_A_GENE = 100, 0.08


def sample(trained: Trained, request: SampleRequest, *, progress: bool = True) -> AnnData:
    """Synthetic cells as an AnnData: CSR on the log scale, the genes in order, the provenance in `.uns['scrdit']`.

    Cell i depends on the model, the seed, i and its conditions alone, not on how many are made or in what batches.
    Observed conditions are categories in obs, counts are a layer.
    """
    provenance = request.provenance(trained)
    require_memory(request.cells, len(models_of(trained)[0].metadata.genes))
    sampler, blocks = make_sampler(trained, request), []
    with (
        ThreadPoolExecutor(usable_cores(), thread_name_prefix="packer") as packers,
        tqdm(total=request.cells, unit="cell", disable=None if progress else True, desc="sample") as bar,
    ):
        for done in dispatch_ahead(sampler.jobs([Shard(0, 0, request.cells)])):
            blocks.append(packers.submit(sampler.block, done.job, collect(done)))
            bar.update(done.job.count)
        blocks = [block.result() for block in blocks]
    block, layout = CellBlock.join(blocks), layout_of(provenance)
    var = pd.DataFrame(index=pd.Index(layout.genes, name="gene"))
    layers = {} if block.counts is None else {COUNTS: block.counts}
    synthetic = AnnData(block.cells, obs=layout.obs(block, 0), var=var, layers=layers)
    synthetic.uns |= LOG_SCALE | {KEY: provenance.to_uns() | {"batch_size": sampler.batch_size}}
    return synthetic


def require_memory(cells: int, genes: int, *, copies: int = 1) -> None:
    """BadConfig, naming the most, where the cells, in so many copies, cannot lie in memory however sparse they are."""
    each, free = BYTES_A_CELL + copies * BYTES_A_GENE * genes, free_host_memory()
    if cells * each > free:
        raise BadConfig(
            f"{cells:,} cells of {genes:,} genes take {cells * each / 1e9:,.0f} GB or more in memory, of which "
            f"{free / 1e9:,.1f} GB are free; ask for {int(free / each):,} at most, or have them written: give --out"
        )
