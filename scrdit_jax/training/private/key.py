"""The secret that noise and draws follow from. Whoever has it can take the noise away again."""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...errors import RunMismatch
from ...io.atomic import atomic_write

BYTES = 32
WARNING = (
    "Whoever has this key can take the noise out of the model. It is deleted after the last step; until then the same "
    "command continues with it. Never publish it."
)


class StepKeys(NamedTuple):
    """Threefry keys, (2,) uint32 each, of the `noise` on the gradients, and of the noise and the levels that `cells`
    are trained at. Handed to a program as arguments, that no compiled program holds them."""

    noise: np.ndarray
    cells: np.ndarray


@dataclass(frozen=True)
class PrivacyKey:
    """256 random bits, and what is made of them, each by a keyed hash of its own (BLAKE2b)."""

    secret: bytes = field(repr=False)

    @classmethod
    def new(cls) -> PrivacyKey:
        """From the operating system's entropy: not from a seed, which is published with the model."""
        return cls(secrets.token_bytes(BYTES))

    @classmethod
    def read(cls, path: Path) -> PrivacyKey | None:
        """That of a run which has begun; None where there is none, RunMismatch where it is damaged."""
        if not path.exists():
            return None
        try:
            secret = bytes.fromhex(json.loads(path.read_text())["key"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunMismatch(f"{path} cannot be read ({error!r}); train again into another folder") from None
        if len(secret) != BYTES:
            raise RunMismatch(f"{path} holds {len(secret)} bytes, not {BYTES}; train again into another folder")
        return cls(secret)

    def write(self, path: Path) -> None:
        """In an atomic write, for its owner's eyes alone."""
        with atomic_write(path) as partial:
            partial.touch(0o600, exist_ok=False)
            partial.write_text(json.dumps({"format": 1, "warning": WARNING, "key": self.secret.hex()}) + "\n")

    @property
    def steps(self) -> StepKeys:
        """Those of the training step."""
        return StepKeys(self._words("noise", np.uint32), self._words("cells", np.uint32))

    @property
    def draws(self) -> np.ndarray:
        """The key of Philox, (2,) uint64, that says who is drawn."""
        return self._words("draws", np.uint64)

    def disguised(self, digest: str) -> str:
        """A digest that says nothing to those without the key, not even that they have the same cells."""
        return self._hash(f"digest {digest}", BYTES).hex()

    def _words(self, purpose: str, dtype: type) -> np.ndarray:
        return np.frombuffer(
            self._hash(purpose, 2 * np.dtype(dtype).itemsize), np.dtype(dtype).newbyteorder("<")
        ).astype(dtype)

    def _hash(self, purpose: str, size: int) -> bytes:
        return hashlib.blake2b(purpose.encode(), key=self.secret, digest_size=size).digest()
