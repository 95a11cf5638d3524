"""What was found and decided about the cells of a data set: with a model's parameters, all that sampling needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..conditioning.variables import Variable
from ..config import DataConfig
from ..errors import BadInput
from .normalizing import Normalization
from .scaling import Scaling

METADATA_KEY = "scrdit_prepared"
FORMAT = 2


@dataclass(frozen=True, kw_only=True)
class DatasetMetadata:
    """The preprocessing record of a data set.

    `genes` are in the model's order; `cell_types` counts training cells by name; `settings` are what was asked for,
    with the share and the seed of the split; `digest` is of the cells as they came; `notes` are sentences for the user.
    `variables` are what a model of these cells is conditioned on.
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
    variables: tuple[Variable, ...] = ()

    @property
    def observed(self) -> tuple[Variable, ...]:
        """The variables that are columns of the input."""
        return tuple(variable for variable in self.variables if variable.observed)

    @property
    def categories(self) -> tuple[int, ...]:
        """How many categories each variable has, as a network wants it."""
        return tuple(len(variable.categories) for variable in self.variables)

    @property
    def type_variable(self) -> str | None:
        """The observed variable that holds the cell types: `cell_type_key`, else the first; None without any."""
        names = [variable.name for variable in self.observed]
        return self.cell_type_key if self.cell_type_key in names else next(iter(names), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DatasetMetadata:
        """The inverse of `to_dict`, also after a trip through JSON; reads format 1, which had no number, too."""
        values = dict(values)
        version = values.pop("format", 1)
        if version == 1:
            conditions, groups = values.pop("conditions", ()), values.pop("groups", ())
            variables = tuple(map(Variable.from_format_1, (*conditions, *groups)))
        elif version == FORMAT:
            variables = tuple(map(Variable.from_dict, values["variables"]))
        else:
            raise BadInput(f"metadata of format {version}, not 1 to {FORMAT}: install a newer scrdit_jax to read it")
        return cls(
            **values
            | {
                "genes": tuple(values["genes"]),
                "normalization": Normalization.from_dict(values["normalization"]),
                "scaling": Scaling.from_dict(values["scaling"]),
                "cell_types": dict(values["cell_types"]),
                "settings": DataConfig.from_saved(values["settings"]),
                "notes": tuple(values["notes"]),
                "variables": variables,
            }
        )
