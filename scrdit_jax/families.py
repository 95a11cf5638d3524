"""A family: one run for each cell type (the paper's way), in one folder, that samples as one model.

FAMILY/family.json     the column and the members     FAMILY/held_out.h5ad    the members' held-out cells together
FAMILY/B_cells         a run for each member
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from .checkpoint import FAMILY, Model, Run, TrainingCells, load_model
from .conditioning.variables import Variable
from .errors import RunMismatch
from .io.atomic import atomic_write


@dataclass(frozen=True)
class Family:
    """The members' folders by cell type, in order, and the training cells of types that were left out as too few."""

    column: str
    members: Mapping[str, str]
    left_out: Mapping[str, int]

    @classmethod
    def of(cls, column: str, cells: Mapping[str, int], *, least: int) -> Family:
        """A family of the types with at least `least` training cells, in folders with names that every system takes."""
        members: dict[str, str] = {}
        for name in (name for name, count in cells.items() if count >= least):
            plain = re.sub(r"[^A-Za-z0-9.-]+", "_", name).strip("._") or "type"
            taken = {folder.casefold() for folder in members.values()}
            tries = (plain, *(f"{plain}_{i}" for i in range(2, len(cells) + 2)))
            members[name] = next(folder for folder in tries if folder.casefold() not in taken)
        return cls(column, members, {name: count for name, count in cells.items() if count < least})

    @classmethod
    def read(cls, path: Path) -> Family:
        """The family in the folder `path`; RunMismatch where it cannot be read."""
        try:
            values = json.loads((path / FAMILY).read_text())
            return cls(str(values["column"]), dict(values["members"]), dict(values["left_out"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunMismatch(
                f"{path / FAMILY} is unreadable ({' '.join(str(error).split())[:90]}); train again into another folder"
            ) from None

    def write(self, path: Path) -> None:
        """Into the folder `path`, whole or not at all."""
        with atomic_write(path / FAMILY) as partial:
            partial.write_text(json.dumps(asdict(self), indent=1) + "\n")


def is_family(path: Path) -> bool:
    """Whether `path` is a folder of a family."""
    return (path / FAMILY).is_file()


def load(run: Run | Path | str) -> Model:
    """The newest model of a run, or of every member of a family, as one model."""
    path = run.path if isinstance(run, Run) else Path(run)
    if not is_family(path):
        return load_model(path)
    family = Family.read(path)
    models = {name: load_model(path / folder) for name, folder in family.members.items()}
    first = next(iter(models.values()))
    for name, model in models.items():
        same = (model.config.network, model.config.diffusion, model.metadata.genes, model.metadata.scaling)
        if same != (first.config.network, first.config.diffusion, first.metadata.genes, first.metadata.scaling):
            raise RunMismatch(
                f"{path / family.members[name]} has another network, genes or scaling than the rest of the family; "
                "train the family again into another folder"
            )
    metadata = [model.metadata for model in models.values()]
    cells = {name: model.metadata.n_train for name, model in models.items()}
    whole = replace(
        first.metadata,
        cell_type_key=family.column,
        cell_types=cells,
        n_train=sum(f.n_train for f in metadata),
        n_held_out=sum(f.n_held_out for f in metadata),
        settings=replace(first.metadata.settings, cell_types=tuple(models)),
        digest=hashlib.sha256("".join(f.digest for f in metadata).encode()).hexdigest(),
        notes=(),
        conditions=(Variable(family.column, tuple(models), tuple(cells.values())),),
    )
    library = np.concatenate([model.cells.library_size for model in models.values()])
    codes = np.repeat(np.arange(len(models), dtype=np.int32), list(cells.values()))[:, None]
    return Model(
        replace(first.config, data=whole.settings),
        whole,
        {name: model.params for name, model in models.items()},
        min(model.step for model in models.values()),
        TrainingCells(library, codes),
        tuple(models),
    )
