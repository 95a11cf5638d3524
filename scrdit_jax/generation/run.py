"""From a trained run to synthetic cells, and what the cells carry with them."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pandas as pd
from anndata import AnnData
from scipy import sparse
from tqdm import tqdm

from ..checkpoint import Model
from ..config import SamplingConfig
from ..errors import BadConfig
from .engine import coefficients_for, make_engine


def sample(model: Model, cells: int, config: SamplingConfig) -> AnnData:
    """`cells` synthetic cells as an AnnData: CSR on the log scale, the genes in order, the recipe in `.uns['scrdit']`.

    Cell i depends on the model, the seed and i alone, not on how many are made or in what batches.
    """
    if cells < 1:
        raise BadConfig(f"{cells} cells were asked for; ask for at least 1")
    engine = make_engine(model, config)
    batches = []
    with tqdm(total=cells, unit="cell", disable=None, desc="sample") as bar:
        for batch in engine.batches(cells):
            batches.append(sparse.csr_matrix(batch))
            bar.update(len(batch))
    names = pd.Index([f"synthetic_{i}" for i in range(cells)])
    synthetic = AnnData(
        sparse.vstack(batches, format="csr"),
        obs=pd.DataFrame(index=names),
        var=pd.DataFrame(index=pd.Index(model.facts.genes, name="gene")),
    )
    synthetic.uns["scrdit"] = provenance(model, cells, config) | {"batch_size": engine.batch_size}
    return synthetic


def provenance(model: Model, cells: int, config: SamplingConfig) -> dict[str, Any]:
    """What made the cells, as plain values that every file format holds; settings and facts as JSON strings."""
    from .. import __version__

    table = coefficients_for(model.config.diffusion, config)
    return {
        "version": __version__,
        "cells": cells,
        "solver": config.solver,
        "network_evaluations": len(table.timestep),
        "timesteps": json.dumps(table.timestep.tolist()),
        "seed": config.seed,
        "trained_steps": model.step,
        "trained_on": model.facts.source,
        "sampling": json.dumps(asdict(config)),
        "config": json.dumps(model.config.to_dict()),
        "facts": json.dumps(model.facts.to_dict()),
    }
