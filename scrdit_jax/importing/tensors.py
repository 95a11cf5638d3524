"""Named arrays from a PyTorch checkpoint or a .safetensors file; nothing but tensors is ever unpickled."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ..errors import BadInput
from ..extras import optional
from ..paths import readable_path

SAFETENSORS = ".safetensors"
# What torch.save's files begin with, and before version 1.6 began with.
ZIP, PICKLE = b"PK", b"\x80"
# Wrappers of the module that was trained put their name before every tensor's.
PREFIXES = ("module.", "model.", "_orig_mod.")


def read_tensors(path: Path | str, *, key: str | None = None) -> dict[str, np.ndarray]:
    """The state dict in `path`, by name, floating tensors as float32; `key` picks one of several.

    .safetensors, or what torch.save wrote: read with weights_only, so that a file with anything but tensors, numbers
    and names in it is refused. Raises BadInput, MissingExtra.
    """
    path = Path(path)
    begins = _first_bytes(path)
    found = _read_safetensors(path) if path.suffix == SAFETENSORS else _read_torch(path, begins)
    state = _without_prefix(_choose(found, key, path))
    return {name: _array(tensor, name, path) for name, tensor in state.items()}


def _first_bytes(path: Path) -> bytes:
    try:
        if not readable_path(path).is_file():
            raise BadInput(f"{path} is {'a folder' if path.is_dir() else 'not there'}; give a .pt or .safetensors file")
        with path.open("rb") as file:
            begins = file.read(2)
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror}); give a .pt or .safetensors file that can") from error
    if not begins:
        raise BadInput(f"{path} is empty; copy it again")
    return begins


def _read_safetensors(path: Path) -> dict[str, Any]:
    safetensors = optional("safetensors.numpy", extra="safetensors")
    try:
        return safetensors.load_file(path)
    except Exception as error:  # its own error class, or whatever a damaged header leads to
        raise BadInput(f"{path} cannot be read as .safetensors ({_first_line(error)}); copy it again") from error


def _read_torch(path: Path, begins: bytes) -> Any:
    torch = optional("torch", extra="torch")
    if begins == ZIP and not zipfile.is_zipfile(path):
        raise BadInput(f"{path} is cut short; copy it again")
    if begins != ZIP and begins[:1] != PICKLE:
        raise BadInput(f"{path} is no PyTorch checkpoint; give what torch.save wrote, or a .safetensors file")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        text = str(error)
        if "Weights only load failed" in text or "Unsupported" in text:
            raise BadInput(
                f"{path} is damaged, or holds more than tensors, which might run code and is never loaded; save the "
                "weights alone: torch.save(model.state_dict(), ...)"
            ) from error
        raise BadInput(f"{path} cannot be read as a checkpoint ({_first_line(error)}); copy it again") from error


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:120]}"


def _choose(found: Any, key: str | None, path: Path) -> Mapping[str, Any]:
    """The one state dict of a checkpoint that may hold several beside numbers of its training."""
    if not isinstance(found, Mapping):
        raise BadInput(f"{path} holds a {type(found).__name__}, not named tensors; save model.state_dict()")
    # Some save them under numbers, as of epochs; what is typed is text.
    states = {str(name): value for name, value in found.items() if isinstance(value, Mapping) and _is_state(value)}
    if key is not None:
        if key not in states:
            there = f"there are {', '.join(states)}" if states else "its tensors are at the top; leave out --key"
            raise BadInput(f"{path} has no state dict {key!r}; {there}")
        return states[key]
    if _is_state(found):
        return found
    if len(states) == 1:
        return next(iter(states.values()))
    if states:
        raise BadInput(f"{path} holds several state dicts ({', '.join(states)}); choose one with --key")
    raise BadInput(f"{path} holds no named tensors; save model.state_dict()")


def _is_state(values: Mapping[Any, Any]) -> bool:
    return bool(values) and all(isinstance(k, str) and hasattr(v, "shape") for k, v in values.items())


def _without_prefix(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """The tensors without what wraps all their names, in whatever order wrapper was put around wrapper."""
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in state):
            return _without_prefix({name.removeprefix(prefix): value for name, value in state.items()})
    return state


def _array(tensor: Any, name: str, path: Path) -> np.ndarray:
    if hasattr(tensor, "detach"):
        try:
            tensor = tensor.detach().cpu()
            tensor = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        except (TypeError, RuntimeError) as error:  # sparse, quantized, on no device
            raise BadInput(f"{path}: tensor {name} is no dense array ({_first_line(error)}); save it dense") from error
    array = np.asarray(tensor)
    if not jax.dtypes.issubdtype(array.dtype, np.floating):  # NumPy's own knows no bfloat16
        raise BadInput(f"{path}: tensor {name} holds {array.dtype}, not floating-point weights")
    array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise BadInput(f"{path}: tensor {name} holds values that are not finite; the model diverged or the file is bad")
    return array
