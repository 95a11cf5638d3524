"""The settings of the data: how cells become training vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

from ..errors import BadConfig
from ..registry import DERIVED
from .checks import SEED, Choice, Real, Whole, check_fields, plain, shown

NORMALIZATIONS = ("auto", "log1p", "none")
MOST_GENES = 1_000_000
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


def _pairs(derive: Any) -> tuple[tuple[str, int], ...]:
    pairs = derive.items() if isinstance(derive, Mapping) else derive
    try:
        if not isinstance(derive, Mapping | list | tuple):
            raise TypeError
        return tuple((str(kind), plain(count)) for kind, count in pairs)
    except (TypeError, ValueError):
        raise BadConfig(f'derive is {shown(derive)}; write it as {{"pc-scores": 12, "detected-genes": 1}}') from None


def _derive(name: str, value: Any) -> tuple[tuple[str, int], ...]:
    """Numbers found in the cells, each kind once, with how many of them."""
    pairs = _pairs(value)
    for kind, count in pairs:
        Choice(DERIVED)(name, kind)
        Whole(1, DERIVED[kind].most)(f"{name} of {kind}", count)
    if len(dict(pairs)) < len(pairs):
        raise BadConfig(f"{name} names a kind twice ({shown(value)}); name each once")
    return pairs


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

    normalize: Annotated[str, Choice(NORMALIZATIONS)] = "auto"
    target_sum: Annotated[float, Real(0, 1e12, open_low=True)] = 10_000.0
    genes: Annotated[int, Whole(1, MOST_GENES)] = 2000
    gene_selection: Annotated[str, Choice(GENE_SELECTIONS)] = "hvg"
    min_cells: Annotated[int, Whole(0, 2**32)] = 10
    gene_order: Annotated[str, Choice(GENE_ORDERS)] = "file"
    zero_value: Annotated[float | None, Real(-1e6, 0)] = -10.0
    standardize: bool = True
    held_out: Annotated[float, Real(0, 0.9)] = 0.2
    donor_key: str | None = None
    cell_type_key: str | None = None
    cell_types: tuple[str, ...] = ()
    condition_on: tuple[str, ...] = ()
    derive: Annotated[Mapping[str, int] | tuple[tuple[str, int], ...], _derive] = ()
    least_reproduced: Annotated[float, Real(0, 1)] = 0.0
    clip: bool = False
    quantiles: Annotated[int, Whole(0, 64)] = 0
    seed: Annotated[int, SEED] = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if len(set(self.condition_on)) < len(self.condition_on):
            raise BadConfig(f"condition_on names a column twice ({shown(self.condition_on)}); name each once")

    @classmethod
    def from_saved(cls, values: Mapping[str, Any]) -> DataConfig:
        """From plain values as metadata hold them, those of format 1 included."""
        return cls(**upgraded(values))


def upgraded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the data without what former formats had: categories that were derived from the cells."""
    values = dict(values)
    groups, _ = values.pop("groups", 0), values.pop("components", 0)
    if groups or any(kind == "clusters" for kind, _ in _pairs(values.get("derive", ()))):
        values["derive"] = ()
    return values
