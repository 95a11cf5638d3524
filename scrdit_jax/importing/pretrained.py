"""Models that ship with the package: one file each, rounded weights with all that a run knows of itself.

NAME.npz holds the averaged params (large matrices as whole numbers of 8 bits, each column with its own scale, and the
rest as float16), what new cells are conditioned on, and as JSON the settings, the metadata and where the model comes
from. The cells it was trained on ship too, for scores against those held out.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.traverse_util
import jax.numpy as jnp
import numpy as np

from ..checkpoint import FORMAT, Checkpoints, Model, Run, load_model
from ..conditioning.table import ConditionTable
from ..config import RunConfig
from ..data.metadata import DatasetMetadata
from ..data.saved_conditions import arrays_of, conditions_of
from ..data.sources import load_prepared
from ..errors import BadConfig, BadInput, OutputExists, RunMismatch
from ..families import Trained, load
from ..io.atomic import atomic_write, check_parents
from ..io.damage import FILE_ERRORS, foreign
from ..io.writing import write_cells
from ..training.state import TrainState, make_optimizer
from .filling import filling, is_empty

FOLDER = Path(__file__).parent.parent / "pretrained"
ABOUT, PARAMS, SCALES, CONDITIONS = "about", "params/", "scales/", "conditions/"
# Matrices of so many weights or more are rounded to whole numbers up to LARGEST.
MANY_WEIGHTS, LARGEST = 1 << 16, 127


def names() -> list[str]:
    """Models that ship with the package; each is called as the data set it was trained on."""
    return sorted(path.stem for path in FOLDER.glob("*.npz"))


def pack(run: Run | Path | str, path: Path, about: Mapping[str, Any]) -> Path:
    """Write the newest model of `run` to `path`; `about` says how it was trained and what it scored."""
    model = load_model(run)
    if model.conditions is None:
        raise BadInput("the model knows nothing of its training cells; pack one that was trained here")
    arrays = _rounded(_flat(model.params))
    arrays |= {CONDITIONS + name: array for name, array in arrays_of(model.conditions).items()}
    known = {
        "format": FORMAT, "config": model.config.to_dict(), "metadata": model.metadata.to_dict(), "step": model.step,
        "fitted": model.fitted,
        "about": dict(about),
    }  # fmt: skip
    arrays[ABOUT] = np.frombuffer(json.dumps(known).encode(), np.uint8)
    with atomic_write(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return path


def about(name: str) -> dict[str, Any]:
    """How the model was trained and what it scored."""
    return json.loads(bytes(_read(name)[ABOUT]))["about"]


def unpack(name: str, out: Path | str) -> Run:
    """A run in the folder `out` with the model called `name`: it samples and is scored as any other.

    One that is there already is left as it is. Raises BadConfig for a name that does not ship, OutputExists where `out`
    holds something else.
    """
    arrays, run = _read(name), Run(Path(out))
    check_parents(run.path)
    known, config, metadata = _known(name, arrays)
    if not is_empty(run.path):
        if not _holds(run, config, metadata, known["step"]):
            raise OutputExists(f"{run.path} holds something else already; give a new folder as --out")
        return run
    prepared = load_prepared(
        name, metadata.settings, multiple_of=config.network.gene_multiple, groups=config.network.gene_groups
    )
    if (prepared.metadata.digest, prepared.metadata.genes) != (metadata.digest, metadata.genes):
        raise BadInput(f"the cells called {name!r} are not those the model was trained on; move the file of that name")
    params, conditions = _contents(arrays, metadata)
    ema = None if config.training.ema_decay is None else params
    state = TrainState(jnp.asarray(known["step"], jnp.int32), params, ema, make_optimizer(config.training).init(params))
    with filling(run) as partial:
        partial.write_config(config)
        write_cells(prepared.held_out.copy(), partial.held_out_path)
        with Checkpoints(partial) as checkpoints:
            checkpoints.save(state, config, metadata, conditions, fitted=known.get("fitted"))
    return run


def open_trained(run: Run | Path | str) -> Trained:
    """The newest model of a run, or family; or one that ships, by its name, where there is no folder called so."""
    if isinstance(run, Run) or str(run) not in names() or Path(run).exists():
        return load(run)
    name = str(run)
    arrays = _read(name)
    known, config, metadata = _known(name, arrays)
    params, conditions = _contents(arrays, metadata)
    fitted = {int(steps): tuple(taus) for steps, taus in known.get("fitted", {}).items()}
    return Model(config, metadata, params, known["step"], conditions, fitted)


def _known(name: str, arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, Any], RunConfig, DatasetMetadata]:
    """What a file says of its model, the settings and the metadata; BadInput for another format."""
    known = json.loads(bytes(arrays[ABOUT]))
    version = known.get("format", 1)
    if version != FORMAT:
        raise BadInput(f"the pretrained model {name!r} has format {version}, not {FORMAT}; install the package again")
    return known, RunConfig.from_dict(known["config"]), DatasetMetadata.from_dict(known["metadata"])


def _contents(arrays: Mapping[str, np.ndarray], metadata: DatasetMetadata) -> tuple[Any, ConditionTable | None]:
    """The params, and what new cells are conditioned on."""
    kept = {key[len(CONDITIONS) :]: array for key, array in arrays.items() if key.startswith(CONDITIONS)}
    return flax.traverse_util.unflatten_dict(_weights(arrays), sep="/"), conditions_of(kept, metadata)


def _holds(run: Run, config: RunConfig, metadata: DatasetMetadata, step: int) -> bool:
    try:
        if run.config() != config:
            return False
        with Checkpoints(run) as checkpoints:
            return checkpoints.latest() == step and checkpoints.origin() == (config, metadata)
    except RunMismatch:
        return False


def _read(name: str) -> dict[str, np.ndarray]:
    path = FOLDER / f"{name}.npz"
    if not path.is_file():
        raise BadConfig(f"no pretrained model {name!r}; there are {', '.join(names()) or 'none'}")
    try:
        with foreign(), np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except (zipfile.BadZipFile, MemoryError, *FILE_ERRORS) as error:
        raise BadInput(f"{path} cannot be read ({' '.join(str(error).split())}); install the package again") from None


def _rounded(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays that are stored of params (name: array), each column the largest weight of which is LARGEST."""
    arrays = {}
    for name, leaf in params.items():
        weights = np.asarray(leaf, np.float32)
        if weights.ndim < 2 or weights.size < MANY_WEIGHTS:
            arrays[PARAMS + name] = weights.astype(np.float16)
            continue
        scales = np.maximum(np.abs(weights).max(axis=-2, keepdims=True), np.finfo(np.float32).tiny) / LARGEST
        arrays[PARAMS + name], arrays[SCALES + name] = np.round(weights / scales).astype(np.int8), scales
    return arrays


def _weights(arrays: Mapping[str, np.ndarray]) -> dict[str, jnp.ndarray]:
    """The inverse of `_rounded`, to rounding; float32."""
    names = [key[len(PARAMS) :] for key in arrays if key.startswith(PARAMS)]
    found = {name: arrays[PARAMS + name].astype(np.float32) * arrays.get(SCALES + name, 1.0) for name in names}
    return {name: jnp.asarray(weights, jnp.float32) for name, weights in found.items()}


def _flat(params: Any) -> dict[str, np.ndarray]:
    return flax.traverse_util.flatten_dict(params, sep="/")
