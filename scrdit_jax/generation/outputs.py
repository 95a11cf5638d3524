"""What an output holds already: finished work is not done again, and nothing else is overwritten."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ..diffusion.timesteps import FORMAT, read_timesteps
from ..errors import BadTimesteps, OutputExists
from ..io.atomic import atomic_write, check_parents
from ..provenance import Provenance, read_uns

REMEDY = "choose another --out"


def is_finished(path: Path, wanted: Provenance) -> bool:
    """Whether `path` already holds the cells of this request; OutputExists if it holds anything else."""
    if not path.exists():
        return False
    uns = read_uns(path)
    found = None if uns is None else Provenance.from_uns(uns)
    if found is None:
        raise OutputExists(f"{path} is there already and holds no synthetic cells; choose another --out or move it")
    found.require_same(wanted, path, REMEDY)
    return True


def check_timesteps_output(path: Path) -> None:
    """OutputExists where `path` holds anything but a list of timesteps, which may be replaced."""
    check_parents(path)
    if not path.exists():
        return
    try:
        read_timesteps(path)
    except BadTimesteps:
        raise OutputExists(f"{path} is there already and holds no timesteps; {REMEDY}") from None


def write_timesteps(taus: Sequence[int], path: Path, *, solver: str, model: str) -> None:
    """A file of timesteps that were fitted to the model of that digest, for that solver; written atomically."""
    record = {"format": FORMAT, "solver": solver, "model": model, "timesteps": list(map(int, taus))}
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(record) + "\n")
