"""From a state dict of the paper's PyTorch implementation to this project's parameters: names, shapes, layouts.

    x_embedder.proj    (width, 1, genes_per_token, 1): a convolution in two dimensions, one column wide, published so;
                       in one dimension or as a dense layer it is the same with fewer axes of length one
    pos_embed          (1, tokens, width)            t_embedder.mlp.0, .2    timestep        blocks.N.*    DiT blocks
    final_layer.linear, final_layer.adaLN_modulation.1

PyTorch keeps a dense layer as (out, in), Flax as (in, out). Blocks are stacked here, their modulations are one layer.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import BadConfig, BadInput
from ..networks import TIMESTEP_FEATURES, sincos_positions
from ..networks.dit import MODULATIONS_OF_FINAL, MODULATIONS_PER_BLOCK, DiTConfig

State = Mapping[str, np.ndarray]

# Above float32's rounding of sines and cosines, below any step of training.
SAME_POSITIONS = 1e-4
NAMED = 3


def reference_network(state: State, *, heads: int) -> tuple[DiTConfig, int]:
    """(the network whose weights `state` are, its genes), every tensor's shape checked; `heads` leaves no trace there.

    Raises BadInput naming tensors that are missing, too many or of another shape.
    """
    patchify, positions = _required(state, "x_embedder.proj.weight"), _required(state, "pos_embed")
    width, genes_per_token = len(patchify), patchify[0].size
    if genes_per_token not in patchify.shape[1:]:
        raise BadInput(f"x_embedder.proj.weight is {patchify.shape}; beside ({width}, genes a token) all must be 1")
    if width % 2:
        raise BadInput(f"x_embedder.proj.weight is {width} wide; a DiT's width is even (half sines, half cosines)")
    if positions.ndim != 3 or positions.shape[-1] != width:
        raise BadInput(f"pos_embed is {positions.shape}; it must be (1, tokens, {width}), as wide as x_embedder.proj")
    tokens, depth = positions.shape[1], 1 + max((int(n) for n in _block_numbers(state)), default=-1)
    hidden = len(_required(state, "blocks.0.mlp.fc1.weight"))
    wanted = _shapes(patchify.shape, genes_per_token, tokens, depth, hidden)
    _require_same_names(state, wanted)
    for name, shape in wanted.items():
        if state[name].shape != shape:
            raise BadInput(f"tensor {name} is {state[name].shape}; beside the others it must be {shape}")
    try:
        config = DiTConfig(
            genes_per_token=genes_per_token,
            width=width,
            depth=depth,
            heads=heads,
            mlp_ratio=hidden / width,
            positions="learned",
        )
    except BadConfig as error:
        raise BadConfig(f"{error}; --heads says how many the model was trained with") from None
    if np.abs(positions[0] - sincos_positions(tokens, width)).max() <= SAME_POSITIONS:
        config = dataclasses.replace(config, positions="sincos")
    return config, tokens * genes_per_token


def reference_params(state: State, config: DiTConfig) -> dict[str, Any]:
    """The parameters of `networks.dit.DiT(config, genes)`, from a `state` that `reference_network` has checked."""
    blocks = [f"blocks.{n}." for n in range(config.depth)]
    modulations = [f"{block}adaLN_modulation.1" for block in blocks] + ["final_layer.adaLN_modulation.1"]
    layers = {"qkv": "attn.qkv", "projection": "attn.proj", "mlp_in": "mlp.fc1", "mlp_out": "mlp.fc2"}
    params = {
        "patchify": _dense(state, "x_embedder.proj"),
        "timestep_in": _dense(state, "t_embedder.mlp.0"),
        "timestep_out": _dense(state, "t_embedder.mlp.2"),
        "modulation": {
            "kernel": np.concatenate([state[f"{name}.weight"].T for name in modulations], axis=1),
            "bias": np.concatenate([state[f"{name}.bias"] for name in modulations]),
        },
        "blocks": {ours: _stack([_dense(state, block + name) for block in blocks]) for ours, name in layers.items()},
        "unpatchify": _dense(state, "final_layer.linear"),
    }
    if config.positions == "learned":
        params["position_codes"] = state["pos_embed"][0]
    return {"params": params}


def _shapes(
    patchify: tuple[int, ...], genes_per_token: int, tokens: int, depth: int, hidden: int
) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor there must be beside x_embedder.proj.weight of the shape `patchify`."""
    width = patchify[0]
    dense = {
        "t_embedder.mlp.0": (width, TIMESTEP_FEATURES),
        "t_embedder.mlp.2": (width, width),
        "final_layer.linear": (genes_per_token, width),
        "final_layer.adaLN_modulation.1": (MODULATIONS_OF_FINAL * width, width),
    }
    for n in range(depth):
        dense |= {
            f"blocks.{n}.attn.qkv": (3 * width, width),
            f"blocks.{n}.attn.proj": (width, width),
            f"blocks.{n}.mlp.fc1": (hidden, width),
            f"blocks.{n}.mlp.fc2": (width, hidden),
            f"blocks.{n}.adaLN_modulation.1": (MODULATIONS_PER_BLOCK * width, width),
        }
    shapes: dict[str, tuple[int, ...]] = {
        "pos_embed": (1, tokens, width),
        "x_embedder.proj.weight": patchify,
        "x_embedder.proj.bias": (width,),
    }
    for name, shape in dense.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return shapes


def _block_numbers(state: State) -> list[str]:
    return [match[1] for match in (re.match(r"blocks\.(\d{1,3})\.", name) for name in state) if match]


def _required(state: State, name: str) -> np.ndarray:
    if name not in state or state[name].ndim < 2 or not state[name].size:
        what = "is missing" if name not in state else f"is {state[name].shape}"
        raise BadInput(
            f"tensor {name} {what}: this is no state dict of the paper's DiT (it begins with {_some(list(state))})"
        )
    return state[name]


def _require_same_names(state: State, wanted: Mapping[str, Any]) -> None:
    missing = [name for name in wanted if name not in state]
    extra = [name for name in state if name not in wanted]
    if missing:
        raise BadInput(f"{len(missing)} tensors are missing ({_some(missing)}); give the whole state dict")
    if extra:
        raise BadInput(
            f"{len(extra)} tensors are not of the paper's DiT ({_some(extra)}); it would compute something else"
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")


def _dense(state: State, name: str) -> dict[str, np.ndarray]:
    weight = state[f"{name}.weight"]
    return {"kernel": np.ascontiguousarray(weight.reshape(len(weight), -1).T), "bias": state[f"{name}.bias"]}


def _stack(layers: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.stack([layer[name] for layer in layers]) for name in layers[0]}
