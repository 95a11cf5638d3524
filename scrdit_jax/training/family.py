"""The paper's one model for each cell type, in one command."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..checkpoint import Run
from ..config import RunConfig
from ..data.preparing import Prepared, of_type
from ..errors import BadConfig, BadInput, OutputExists, RunMismatch
from ..families import FamilyFolder, is_family
from ..io.writing import write_cells
from . import loop

# With fewer training cells a model learns them by heart, if anything.
LEAST_CELLS = 10


def train_family(
    prepared: Prepared,
    config: RunConfig,
    out: Path | str,
    options: loop.TrainingOptions | None = None,
    *,
    on_note: Callable[[str], None] = lambda line: None,
) -> Run:
    """A run for each cell type with at least LEAST_CELLS training cells, one after another, into the folder `out`.

    All have the genes and the scaling of all cells, so that their cells go into one matrix. Called again it continues
    with the run that was interrupted. `on_note` is given a sentence for each type before it is trained. Raises
    BadInput without types, BadConfig for cells on a disk or differential privacy, and as `loop.train` does.
    """
    path, metadata = Path(out), prepared.metadata
    if config.privacy.on:
        raise BadConfig(
            "--per-cell-type and --dp-epsilon do not go together: the number of cells of each type would be known; "
            "leave one of them out"
        )
    if prepared.on_disk:
        raise BadConfig("a family is trained from memory, and these cells are streamed; leave --per-cell-type out")
    if metadata.cell_type_key is None:
        raise BadInput(f"{metadata.source} has no column of cell types that is known; pass one as --cell-type-key")
    if metadata.variables:
        raise BadInput("--per-cell-type trains a model for each type, --condition-on one for all; give one of them")
    family = FamilyFolder.of(metadata.cell_type_key, metadata.cell_types, least=LEAST_CELLS)
    if not family.members:
        raise BadInput(f"{metadata.source}: no cell type has {LEAST_CELLS} training cells, the fewest for a model")
    _claim(path, family)
    held_out = prepared.held_out
    held_out = held_out[held_out.obs[family.column].isin(list(family.members)).to_numpy()]
    if not Run(path).held_out_path.exists():
        write_cells(held_out, Run(path).held_out_path)
    for name, count in family.left_out.items():
        on_note(f"{name}: left out, {count} training cells are fewer than {LEAST_CELLS}")
    for number, (name, folder) in enumerate(family.members.items(), 1):
        on_note(f"{name} ({number} of {len(family.members)}): {metadata.cell_types[name]} training cells")
        member = of_type(prepared, name)
        run = loop.train(member, replace(config, data=member.metadata.settings), path / folder, options)
        if run.stopped is not None:
            return Run(path, f"{name}: {run.stopped}")
    return Run(path)


def _claim(path: Path, family: FamilyFolder) -> None:
    """Make the folder the family's, or check that it is."""
    if path.exists() and not path.is_dir():
        raise OutputExists(f"{path} is a file; give a folder for the family as --out")
    if is_family(path):
        if FamilyFolder.read(path) != family:
            raise RunMismatch(f"{path} holds a family of other cell types or cells; give another --out")
    elif path.is_dir() and np.any([not inside.name.startswith(".") for inside in path.iterdir()]):
        raise OutputExists(f"{path} holds something that is no family of runs; give an empty or new folder as --out")
    else:
        family.write(path)
