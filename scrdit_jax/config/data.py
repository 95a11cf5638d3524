"""The settings of the data: how cells become training vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..errors import BadConfig
from ..registry import DERIVED
from .checks import require, require_choice, require_real, require_whole

NORMALIZATIONS = ("auto", "log1p", "none")
MOST_QUANTILES = 64
GENE_SELECTIONS = ("hvg", "cv", "detected", "all")
GENE_ORDERS = ("file", "coexpression")


class GeneGroups(NamedTuple):
    """How many neighbouring genes a network takes at once: `size`, but of the rarest, a share of all, `rare_size`."""

    size: int = 1
    rare_share: float = 0.0
    rare_size: int = 1

    def often(self, genes: int) -> int:
        """How many of so many genes are not rare: whole groups, where there are rare ones behind them."""
        groups = -(-(genes - int(self.rare_share * genes)) // self.size)
        return min(genes, groups * self.size)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """How cells become training vectors. Genes are counted after selection; `held_out` is a share of cells.

    `condition_on` are columns of obs that the model is conditioned on, and whose categories can be asked for. `derive`
    are numbers that are found in the cells, conditioned on too, and drawn for each new cell, with how many of each:
    {"pc-scores": 12, "detected-genes": 1} (see conditioning.derived). Of PC scores the first are kept along which cells
    that the axis was found without vary too, to `least_reproduced` of the variance of those that it was found in: the
    others tell cells apart and say little of new ones. With `clip`, an expressed gene of a new cell keeps within what
    training cells have of that gene. `gene_order` is that in which a network takes the genes: as in the file, or those
    together that are expressed together, token by token; files of new cells have them in the file's order either way.
    `quantiles` are so many bins of each gene's expressed values, for predictions that choose among them (0: none).
    With `donor_key`, a column of obs, all cells of a donor are held out or none, so that held-out cells are of donors
    that the model has not seen; `held_out` is then nearly their share of the cells.
    """

    normalize: str = "auto"
    target_sum: float = 10_000.0
    genes: int = 2000
    gene_selection: str = "hvg"
    min_cells: int = 10
    gene_order: str = "file"
    zero_value: float | None = -10.0
    standardize: bool = True
    held_out: float = 0.2
    donor_key: str | None = None
    cell_type_key: str | None = None
    cell_types: tuple[str, ...] = ()
    condition_on: tuple[str, ...] = ()
    derive: Mapping[str, int] | tuple[tuple[str, int], ...] = ()
    least_reproduced: float = 0.0
    clip: bool = False
    quantiles: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "cell_types", tuple(self.cell_types))
        object.__setattr__(self, "condition_on", tuple(self.condition_on))
        object.__setattr__(self, "derive", _pairs(self.derive))
        require_choice("normalize", self.normalize, NORMALIZATIONS)
        require_choice("gene_selection", self.gene_selection, GENE_SELECTIONS)
        require_choice("gene_order", self.gene_order, GENE_ORDERS)
        require_real("target_sum", self.target_sum, 0, open_low=True)
        require_whole("genes", self.genes, 1)
        require_whole("min_cells", self.min_cells, 0)
        for kind, count in _pairs(self.derive):
            require_choice("derive", kind, DERIVED)
            require_whole(f"derive of {kind}", count, 1)
            if count > DERIVED[kind].most:
                raise BadConfig(f"derive asks for {count} {kind}; there are {DERIVED[kind].most} at most")
        require_real("least_reproduced", self.least_reproduced, 0, 1)
        require(isinstance(self.clip, bool), "clip", self.clip, "true or false")
        require_whole("quantiles", self.quantiles, 0)
        require(self.quantiles <= MOST_QUANTILES, "quantiles", self.quantiles, f"{MOST_QUANTILES} or less")
        require_whole("seed", self.seed, 0)
        if self.zero_value is not None:
            require_real("zero_value", self.zero_value, -1e6, 0)
        require_real("held_out", self.held_out, 0, 0.9)
        named = self.donor_key is None or (isinstance(self.donor_key, str) and bool(self.donor_key))
        require(named, "donor_key", self.donor_key, "the name of a column of obs, or null")
        if len(set(self.condition_on)) < len(self.condition_on):
            raise BadConfig(f"condition_on names a column twice ({', '.join(self.condition_on)}); name each once")

    @classmethod
    def from_saved(cls, values: Mapping[str, Any]) -> DataConfig:
        """From plain values as metadata hold them, those of format 1 included."""
        return cls(**upgraded(values))


def _pairs(derive: Any) -> tuple[tuple[str, int], ...]:
    pairs = derive.items() if isinstance(derive, Mapping) else derive
    try:
        return tuple((str(kind), count) for kind, count in pairs)
    except (TypeError, ValueError):
        raise BadConfig(f'derive is {derive!r}; write it as {{"pc-scores": 12, "detected-genes": 1}}') from None


def upgraded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the data without what former formats had: categories that were derived from the cells."""
    values = dict(values)
    groups, _ = values.pop("groups", 0), values.pop("components", 0)
    if groups or any(kind == "clusters" for kind, _ in _pairs(values.get("derive", ()))):
        values["derive"] = ()
    return values
