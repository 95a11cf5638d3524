"""Synthetic cells in memory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pandas as pd
from anndata import AnnData
from tqdm import tqdm

from ..devices import usable_cores
from ..families import Trained
from ..io.append import COUNTS, CellBlock
from ..provenance import KEY
from .composition import collect, dispatch_ahead, make_sampler
from .plan import Shard
from .request import SampleRequest
from .store import layout_of


def sample(trained: Trained, request: SampleRequest, *, progress: bool = True) -> AnnData:
    """Synthetic cells as an AnnData: CSR on the log scale, the genes in order, the provenance in `.uns['scrdit']`.

    Cell i depends on the model, the seed, i and its conditions alone, not on how many are made or in what batches.
    Observed conditions are categories in obs, counts are a layer.
    """
    provenance = request.provenance(trained)
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
    synthetic.uns[KEY] = provenance.to_uns() | {"batch_size": sampler.batch_size}
    return synthetic
