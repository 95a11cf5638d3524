"""What was found and decided about the cells of a data set: with a model's parameters, all that generating needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..conditioning.variables import Variable
from ..config import DataConfig
from .normalizing import Normalization
from .scaling import Scaling

METADATA_KEY = "scrdit_prepared"


@dataclass(frozen=True, kw_only=True)
class DatasetMetadata:
    """What was found and decided about the cells; with a model's parameters, all that generating needs.

    `genes` are in the model's order; `cell_types` counts training cells by name; `settings` are what was asked for,
    with the share and the seed of the split; `digest` is of the cells as they came; `notes` are sentences for the user.
    `conditions` are the columns of labels that the model is told, `groups` those that were found in the cells and are
    told too.
    """

    genes: tuple[str, ...]
    normalization: Normalization
    scaling: Scaling
    cell_type_key: str | None
    cell_types: dict[str, int]
    n_train: int
    n_held_out: int
    settings: DataConfig
    source: str
    digest: str
    notes: tuple[str, ...] = ()
    conditions: tuple[Variable, ...] = ()
    groups: tuple[Variable, ...] = ()

    @property
    def told(self) -> tuple[Variable, ...]:
        """All that the model is told of a cell: the conditions first, then what was found."""
        return (*self.conditions, *self.groups)

    @property
    def label_sizes(self) -> tuple[int, ...]:
        """How many names each column of what is told has, as a network wants it."""
        return tuple(len(condition.names) for condition in self.told)

    @property
    def type_column(self) -> int:
        """Which condition holds the cell types: that of `cell_type_key`, else the first."""
        columns = [condition.column for condition in self.conditions]
        return columns.index(self.cell_type_key) if self.cell_type_key in columns else 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DatasetMetadata:
        """The inverse of `to_dict`, also after a trip through JSON."""
        return cls(
            **values
            | {
                "genes": tuple(values["genes"]),
                "normalization": Normalization.from_dict(values["normalization"]),
                "scaling": Scaling.from_dict(values["scaling"]),
                "cell_types": dict(values["cell_types"]),
                "settings": DataConfig(**values["settings"]),
                "notes": tuple(values["notes"]),
                "conditions": tuple(map(Variable.from_dict, values.get("conditions", ()))),
                "groups": tuple(map(Variable.from_dict, values.get("groups", ()))),
            }
        )
