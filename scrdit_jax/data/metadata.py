"""What was found and decided about the cells of a data set: with a model's parameters, all that sampling needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..conditioning.state import StateColumn
from ..conditioning.variables import Variable
from ..config import DataConfig
from ..errors import BadInput
from ..records import checked
from .normalizing import Normalization
from .scaling import Scaling

METADATA_KEY, AXES_KEY = "scrdit_prepared", "scrdit_axes"
FORMAT = 5


@dataclass(frozen=True, kw_only=True)
class DatasetMetadata:
    """The preprocessing record of a data set.

    `genes` are in the order in which a network takes them; in the file, gene i is number `gene_order[i]` of them;
    empty, where the orders are the same. `cell_types` counts training cells by name; `settings` are what was asked
    for, with the share and the seed of the split; `digest` is of the cells as they came; `notes` are sentences for the
    user. `variables` are columns of categories that a model of these cells is conditioned on, `state` what a cell's
    state is made of. Where whole donors are held out, `donor_border` is what their numbers are below; see
    `splitting.Split`.
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
    state: tuple[StateColumn, ...] = ()
    gene_order: tuple[int, ...] = ()
    donor_border: float | None = None

    @property
    def genes_of_file(self) -> tuple[str, ...]:
        """The genes in the file's order, in which those of new cells are."""
        if not self.gene_order:
            return self.genes
        return tuple(name for _, name in sorted(zip(self.gene_order, self.genes, strict=True)))

    @property
    def conditioned_states(self) -> int:
        """How many numbers of a cell's state, the first, a network is conditioned on."""
        return sum(column.conditioned for column in self.state)

    @property
    def categories(self) -> tuple[int, ...]:
        """How many categories each variable has, as a network wants it."""
        return tuple(len(variable.categories) for variable in self.variables)

    @property
    def type_variable(self) -> str | None:
        """The variable that holds the cell types: `cell_type_key`, else the first; None without any."""
        names = [variable.name for variable in self.variables]
        return self.cell_type_key if self.cell_type_key in names else next(iter(names), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DatasetMetadata:
        """The inverse of `to_dict`, also after a trip through JSON; reads format 1, which had no number, too."""
        values = dict(values)
        version = values.pop("format", 1)
        if version not in range(1, FORMAT + 1):
            raise BadInput(f"metadata of format {version}, not 1 to {FORMAT}: install a newer scrdit_jax to read it")
        columns, _ = _columns(values, version)
        variables = tuple(map(Variable.from_dict, columns))
        state = tuple(checked(StateColumn(**column)) for column in values.get("state", ()))
        found = cls(
            **values
            | {
                "genes": tuple(values["genes"]),
                "normalization": Normalization.from_dict(values["normalization"]),
                "scaling": Scaling.from_dict(values["scaling"]),
                "cell_types": dict(values["cell_types"]),
                "settings": DataConfig.from_saved(values["settings"]),
                "notes": tuple(values["notes"]),
                "variables": variables,
                "state": state,
                "gene_order": tuple(values.get("gene_order", ())),
            }
        )
        return checked(found)


def has_derived_categories(values: Mapping[str, Any]) -> bool:
    """Whether these are of a model of a former format whose cells' states were categories, a row of each of which it
    keeps."""
    return bool(_columns(dict(values), values.get("format", 1))[1])


def _columns(values: dict[str, Any], version: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(conditioning variables that are columns of the input, those that former formats derived from the cells)."""
    if version == 1:
        of_cells, columns = list(values.pop("groups", ())), values.pop("conditions", ())
        return [{"name": c["column"], "categories": c["names"], "counts": c["cells"]} for c in columns], of_cells
    given = [column for column in values["variables"] if column.get("source", "observed") == "observed"]
    return given, [column for column in values["variables"] if column not in given]
