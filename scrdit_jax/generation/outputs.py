"""What an output holds already: finished work is not done again, and nothing else is overwritten."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anndata
import h5py
import zarr

from ..diffusion.timesteps import FORMAT, read_timesteps
from ..errors import BadTimesteps, OutputExists
from ..io.atomic import atomic_write, check_parents

# What makes cells the ones that were asked for; the rest of the provenance follows from it.
REQUEST = ("cells", "labels", "sampling", "timesteps", "trained_steps", "config", "facts", "model")


def is_finished(path: Path, wanted: dict[str, Any]) -> bool:
    """Whether `path` already holds the cells of this request; OutputExists if it holds anything else."""
    if not path.exists():
        return False
    found = read_provenance(path)
    if found is None:
        raise OutputExists(f"{path} is there already and holds no synthetic cells; choose another --out or move it")
    require_same_request(found, wanted, path, "choose another --out")
    return True


def require_same_request(found: dict[str, Any], wanted: dict[str, Any], path: Path, remedy: str) -> None:
    """OutputExists, with the first difference named, where `path` was `found` to hold other cells than the `wanted`."""
    for name in REQUEST:
        if str(found.get(name)) != str(wanted[name]):
            difference = _difference(name, found.get(name), wanted[name])
            raise OutputExists(f"{path} holds the cells of another request ({difference}); {remedy}")


def _difference(name: str, there: Any, wanted: Any) -> str:
    """The first value that differs, by name; JSON is looked into, as whole settings would not fit a line."""
    with contextlib.suppress(TypeError, ValueError):
        there, wanted = json.loads(there), json.loads(wanted)
    if isinstance(there, dict) and isinstance(wanted, dict):
        key = next(key for key in wanted if there.get(key) != wanted[key])
        return _difference(key, there.get(key), wanted[key])
    return f"{name} {str(there)[:60]}, not {str(wanted)[:60]}"


def read_provenance(path: Path) -> dict[str, Any] | None:
    """`.uns['scrdit']` of a file of synthetic cells, without reading the cells; None if there is none."""
    try:
        if path.is_dir():
            group = zarr.open_group(path, mode="r")
            found = anndata.io.read_elem(group["uns/scrdit"]) if "uns/scrdit" in group else None
        else:
            with h5py.File(path) as file:
                found = anndata.io.read_elem(file["uns/scrdit"]) if "uns/scrdit" in file else None
    except (OSError, KeyError, ValueError, zarr.errors.BaseZarrError):
        return None
    return found


def check_timesteps_output(path: Path) -> None:
    """OutputExists where `path` holds anything but a list of timesteps, which may be replaced."""
    check_parents(path)
    if not path.exists():
        return
    try:
        read_timesteps(path)
    except BadTimesteps:
        raise OutputExists(f"{path} is there already and holds no timesteps; choose another --out") from None


def write_timesteps(taus: Sequence[int], path: Path, *, solver: str, model: str) -> None:
    """A file of timesteps that were fitted to the model of that digest, for that solver; whole or not at all."""
    record = {"format": FORMAT, "solver": solver, "model": model, "timesteps": list(map(int, taus))}
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(record) + "\n")
