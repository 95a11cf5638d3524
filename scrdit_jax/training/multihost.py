"""What processes that train one model together must agree on. With one process nothing is exchanged."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils


def is_primary() -> bool:
    """Whether this process is the one that reads and writes the run directory."""
    return jax.process_index() == 0


def broadcast(value: Any) -> Any:
    """The first process's numbers or arrays, on every process; shapes must be the same everywhere."""
    if jax.process_count() == 1:
        return value
    return jax.tree.map(lambda leaf: leaf[()], multihost_utils.broadcast_one_to_all(jax.tree.map(np.asarray, value)))


def broadcast_text(text: str, length: int = 512) -> str:
    """The first process's text, cut to `length` bytes."""
    if jax.process_count() == 1:
        return text
    padded = np.frombuffer(text.encode()[:length].ljust(length, b"\0"), np.uint8)
    return bytes(broadcast(padded)).rstrip(b"\0").decode(errors="replace")
