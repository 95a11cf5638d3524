"""A family: one run for each cell type (the paper's way), in one folder.

FAMILY/family.json     the column and the members     FAMILY/held_out.h5ad    the members' held-out cells together
FAMILY/B_cells         a run for each member
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from . import strict_json
from .checkpoint import FAMILY, Model, Run, load_model
from .conditioning.table import ConditionTable
from .conditioning.variables import Variable
from .errors import BadInput, RunMismatch
from .io.atomic import atomic_write
from .paths import readable_path, usable_name
from .records import checked

FORMAT = 2


@dataclass(frozen=True)
class FamilyFolder:
    """The members' folders by cell type, in order, and the training cells of types that were left out as too few."""

    column: str
    members: Mapping[str, str]
    left_out: Mapping[str, int]

    @classmethod
    def of(cls, column: str, cells: Mapping[str, int], *, least: int) -> FamilyFolder:
        """A family of the types with at least `least` training cells, in folders with names that every system takes."""
        members: dict[str, str] = {}
        for name in (name for name, count in cells.items() if count >= least):
            plain = re.sub(r"[^A-Za-z0-9.-]+", "_", name).strip("._") or "type"
            taken = {folder.casefold() for folder in members.values()}
            tries = (plain, *(f"{plain}_{i}" for i in range(2, len(cells) + 2)))
            members[name] = next(folder for folder in tries if folder.casefold() not in taken)
        return cls(column, members, {name: count for name, count in cells.items() if count < least})

    @classmethod
    def read(cls, path: Path) -> FamilyFolder:
        """The family in the folder `path`; RunMismatch where it cannot be read. Format 1 had no number."""
        try:
            values = strict_json.read(path / FAMILY)
            if values.get("format", 1) not in (1, FORMAT):
                raise ValueError(f"format {values['format']}, not 1 to {FORMAT}")
            found = checked(cls(str(values["column"]), dict(values["members"]), dict(values["left_out"])))
            folders = found.members.values()
            if not folders or any(usable_name(each).name != each for each in folders):
                raise ValueError("it has no members, or some outside the folder")
            return found
        except (BadInput, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunMismatch(
                f"{path / FAMILY} is unreadable ({' '.join(str(error).split())[:90]}); train again into another folder"
            ) from None

    def write(self, path: Path) -> None:
        """Into the folder `path`, atomically."""
        with atomic_write(path / FAMILY) as partial:
            partial.write_text(json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n")


@dataclass(frozen=True)
class Family:
    """A model for each category of `variable`, the cell type, in that order; all with the same genes and scaling."""

    variable: Variable
    models: tuple[Model, ...]

    @cached_property
    def conditions(self) -> ConditionTable:
        """Their type as the one condition; the states of its cells are each member's own."""
        codes = np.arange(len(self.models), dtype=np.int32)[:, None]
        return ConditionTable((self.variable,), codes, np.asarray(self.variable.counts), self.variable.name)


Trained = Model | Family


def models_of(trained: Trained) -> tuple[Model, ...]:
    """The one model, or all of a family."""
    return trained.models if isinstance(trained, Family) else (trained,)


def is_family(path: Path) -> bool:
    """Whether `path` is a folder of a family."""
    return (path / FAMILY).is_file()


def load(run: Run | Path | str) -> Trained:
    """The newest model of a run, or those of every member of a family."""
    path = readable_path(run.path if isinstance(run, Run) else run)
    if not is_family(path):
        return load_model(path)
    folder = FamilyFolder.read(path)
    models = {name: load_model(path / member) for name, member in folder.members.items()}
    first = _shared(next(iter(models.values())))
    for name, model in models.items():
        if _shared(model) != first:
            raise RunMismatch(
                f"{path / folder.members[name]} has another network, genes or scaling than the rest of the family; "
                "train the family again into another folder"
            )
    counts = tuple(model.metadata.n_train for model in models.values())
    # All are sampled with the same timesteps, so with none that were fitted to one of them.
    members = tuple(replace(model, fitted={}) for model in models.values())
    return Family(Variable(folder.column, tuple(models), counts), members)


def _shared(model: Model) -> tuple[object, ...]:
    return model.config.network, model.config.diffusion, model.metadata.genes, model.metadata.scaling
