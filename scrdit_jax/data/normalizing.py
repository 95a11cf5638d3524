"""Raw counts are recognised and brought to the log scale; what is there already is left alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from ..config import DataConfig
from ..errors import BadInput
from ..io.backed import BackedMatrix, Cells, make_cells, to_log_scale
from ..io.checking import locate, value_at
from ..records import checked
from .statistics import CellStatistics


@dataclass(frozen=True)
class Normalization:
    """What was decided: `method` 'log1p' (each cell to `target_sum`, then log1p) or 'none'; `sentence` says why."""

    method: str
    target_sum: float | None
    were_counts: bool
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Normalization:
        """The inverse of `to_dict`."""
        return checked(cls(**values))


def target_sum_of(config: DataConfig, statistics: CellStatistics) -> float | None:
    """What cells of these statistics are scaled to before their logarithm is taken; None: they are left alone."""
    counts = config.normalize == "auto" and statistics.are_counts
    return config.target_sum if counts or config.normalize == "log1p" else None


def normalize(
    adata: Cells, config: DataConfig, *, statistics: CellStatistics | None = None, source: str = "the matrix"
) -> tuple[Cells, Normalization]:
    """Cells on the log scale and what was decided; see `_apply` for the arithmetic. `statistics` are of their values.

    config.normalize 'auto': raw counts are normalised, anything else is left alone; 'log1p': normalised whatever they
    look like; 'none': left alone. Cells without any value above zero are dropped. Negative values raise BadInput: they
    are no counts, and on the log scale zero-negation could not tell them from zeros.
    """
    statistics = statistics or CellStatistics.of_all(adata.X)
    _require_non_negative(adata, statistics, config.normalize, source)
    counts = statistics.are_counts
    scaled = f"each cell was scaled to a sum of {config.target_sum:g}, then log1p taken"
    if config.normalize == "log1p":
        found = "raw counts" if counts else "values that are not all whole numbers"
        method, sentence = "log1p", f"{found}; as asked, {scaled}"
    elif config.normalize == "none":
        method, sentence = "none", "values left as they are, as asked" + (" (they look like raw counts)" * counts)
    elif counts:
        method, sentence = "log1p", f"raw counts recognised (all non-negative whole numbers): {scaled}"
    else:
        method, sentence = "none", "values that are not all whole numbers: taken to be on a log scale and left alone"
    target_sum = target_sum_of(config, statistics)
    return _apply(adata, statistics.library_size, Normalization(method, target_sum, counts, sentence), source)


def normalize_like(
    adata: Cells, recorded: Normalization, *, statistics: CellStatistics | None = None, source: str
) -> tuple[Cells, Normalization]:
    """Other cells brought to the scale of a model's: counts as its counts were, log-scale values left alone.

    BadInput where that cannot be known: raw counts, for a model of values that were on some log scale when they came.
    """
    statistics = statistics or CellStatistics.of_all(adata.X)
    _require_non_negative(adata, statistics, recorded.method, source)
    counts, library_size = statistics.are_counts, statistics.library_size
    if recorded.method == "log1p" and (counts or not recorded.were_counts):
        sentence = (
            f"{source}: each cell was scaled to a sum of {recorded.target_sum:g}, then log1p taken, as in training"
        )
        return _apply(adata, library_size, Normalization("log1p", recorded.target_sum, counts, sentence), source)
    if counts and not recorded.were_counts:
        raise BadInput(
            f"{source} holds raw counts, but the model was trained on log-scale values that were made elsewhere; "
            "give these cells on that scale"
        )
    sentence = f"{source}: values taken to be on the model's scale and left alone"
    return _apply(adata, library_size, Normalization("none", None, counts, sentence), source)


def _apply(adata: Cells, library: np.ndarray, decided: Normalization, source: str) -> tuple[Cells, Normalization]:
    """log(1 + target_sum * x / library size) for 'log1p', over all genes of the file; the input is not changed.

    `library` (cell,) is the sum of a cell's values over all genes, before either; `obs['library_size']` is its float32.
    """
    expressed = library > 0
    if not expressed.any():
        raise BadInput(f"{source}: every value is zero; give cells with some expression")
    if not expressed.all():
        adata, library = adata[expressed], library[expressed]
        dropped = int(np.sum(~expressed))
        what = "1 cell without any expression was" if dropped == 1 else f"{dropped} cells without any expression were"
        decided = dataclasses.replace(decided, sentence=f"{decided.sentence}; {what} dropped")
    x = adata.X
    if decided.method == "log1p":
        factors = (decided.target_sum / library).astype(np.float32)
        if isinstance(x, BackedMatrix):
            x = dataclasses.replace(x, factors=factors)
        elif sparse.issparse(x):
            x = sparse.csr_matrix((x.data.copy(), x.indices, x.indptr), shape=x.shape)
            to_log_scale(x, factors)
        else:
            x = x * factors[:, None]
            x = np.log1p(x, out=x)
    obs = adata.obs.assign(library_size=library.astype(np.float32))
    return make_cells(x, obs, adata.var.copy(), dict(adata.uns)), decided


def _require_non_negative(adata: Cells, statistics: CellStatistics, method: str, source: str) -> None:
    if not statistics.negative.any():
        return
    i = int(np.argmax(statistics.negative))
    _, j = locate(adata.X[i : i + 1], lambda values: values < 0)
    rule = "counts cannot be negative" if method == "log1p" else "neither counts nor log1p values are negative"
    value = value_at(adata.X, i, j)
    value = f"{source}: the value of cell {adata.obs_names[i]!r}, gene {adata.var_names[j]!r} is {value:g}"
    raise BadInput(
        f"{value}; {rule}: give raw counts or log-normalised values, not scaled ones "
        "(a layer, or adata.raw.to_adata(), may hold them)"
    )
