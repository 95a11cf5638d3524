"""A run folder around imported weights: it samples as any other, and knows only what the weights tell."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ..checkpoint import Checkpoints, Run
from ..config import RunConfig, load_preset
from ..data.metadata import DatasetMetadata
from ..data.normalizing import Normalization
from ..data.scaling import Scaling
from ..errors import BadInput, GeneMismatch, OutputExists
from ..io.atomic import check_parents
from ..training.state import TrainState, make_optimizer
from .filling import filling, is_empty
from .reference import reference_network, reference_params
from .tensors import read_tensors


def import_reference(
    checkpoint: Path | str,
    out: Path | str,
    *,
    heads: int,
    genes: tuple[str, ...] | None = None,
    zero_value: float | None = -10.0,
    key: str | None = None,
    first_timestep: int = 0,
) -> Run:
    """A run in the folder `out` from a state dict of the paper's PyTorch implementation; see `importing.reference`.

    `first_timestep` is the number their network was given for the least noise: 0, as that implementation counts, which
    never trained it (its t is drawn from 1 on), or 1, as the paper writes.

    Weights do not tell the genes' names (given as `genes`, else gene_0, gene_1, ...), the number of `heads`, or what
    zeros were turned into. Diffusion is the `paper` preset's. Raises BadInput, BadConfig, GeneMismatch, OutputExists.
    """
    checkpoint, run = Path(checkpoint), Run(Path(out))
    check_parents(run.path)
    if not is_empty(run.path):
        raise OutputExists(f"{run.path} is there already; give a new folder as --out")
    state = read_tensors(checkpoint, key=key)
    try:
        network, count = reference_network(state, heads=heads)
    except BadInput as error:
        raise BadInput(f"{checkpoint}: {error}") from None
    if genes is not None:
        _check_names(genes, count, checkpoint)
    names = genes if genes is not None else tuple(f"gene_{i}" for i in range(count))
    preset = load_preset("paper").to_dict()
    preset["data"] |= {"genes": count, "zero_value": zero_value}
    preset["network"] = vars(network) | {"first_timestep": first_timestep}
    config = RunConfig.from_dict(preset)
    params = jax.tree.map(jnp.asarray, reference_params(state, network))
    metadata = DatasetMetadata(
        genes=names,
        normalization=Normalization(
            "none", None, False, "imported weights: what their cells went through is not known"
        ),
        scaling=Scaling(zero_value, 0.0, 1.0),
        cell_type_key=None,
        cell_types={},
        n_train=0,
        n_held_out=0,
        settings=config.data,
        source=f"cells that the weights of {checkpoint.name} were trained on elsewhere",
        digest=hashlib.sha256(b"".join(np.ascontiguousarray(state[name]) for name in sorted(state))).hexdigest(),
        notes=(f"imported from {checkpoint.name}: {len(state)} tensors",),
    )
    begun = TrainState(jnp.zeros((), jnp.int32), params, None, make_optimizer(config.training).init(params))
    with filling(run) as partial:
        partial.write_config(config)
        with Checkpoints(partial) as checkpoints:
            checkpoints.save(begun, config, metadata, None)
    return run


def _check_names(names: tuple[str, ...], count: int, checkpoint: Path) -> None:
    if len(names) != count:
        raise GeneMismatch(f"{len(names)} gene names were given, {checkpoint} was trained on {count} genes")
    for name, times in Counter(names).items():
        if not isinstance(name, str) or not name.strip():
            raise BadInput(f"the gene names have {name!r}, which is none; every gene has one of its own")
        if times > 1:
            raise BadInput(f"the gene names have {name!r} more than once; every gene has one of its own")
