"""Prepared cells whose genes a network takes in an order that was found before."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..io.backed import make_cells
from .preparing import Prepared


def reordered(prepared: Prepared, gene_order: tuple[int, ...]) -> Prepared:
    """The same cells with the genes in another order (DatasetMetadata.gene_order) of the same genes.

    Which genes go together is found by linear algebra whose last bits differ between machines; a run keeps to the order
    that it began with.
    """
    metadata = prepared.metadata
    if gene_order == metadata.gene_order:
        return prepared
    place = {number: i for i, number in enumerate(metadata.gene_order)}
    columns = np.array([place[number] for number in gene_order])
    cells: Any = prepared.cells
    x = cells.X[:, columns]
    scaling = metadata.scaling
    tables = {
        name: None if table is None else tuple(table[i] for i in columns)
        for name, table in (("ranges", scaling.ranges), ("quantiles", scaling.quantiles))
    }
    metadata = replace(
        metadata,
        genes=tuple(metadata.genes[i] for i in columns),
        gene_order=gene_order,
        scaling=replace(scaling, **tables),
    )
    axes = np.concatenate([prepared.axes[:, :-1][:, columns], prepared.axes[:, -1:]], axis=1)
    marginals = None if prepared.marginals is None else prepared.marginals[columns]
    cells = make_cells(x, cells.obs, cells.var.iloc[columns], dict(cells.uns))
    return replace(prepared, cells=cells, metadata=metadata, axes=axes, marginals=marginals)
