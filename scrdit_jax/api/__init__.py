"""The public functions, which the command line calls too."""

from __future__ import annotations

from ..config import load_preset
from ..data.preparing import write_prepared
from ..info import describe
from .scoring import benchmark, evaluate
from .synthesis import Verification, assemble, fit_schedule, generate, sample, verify
from .training import import_torch, prepare, pretrained, settings, train

__all__ = [
    "Verification",
    "assemble",
    "benchmark",
    "describe",
    "evaluate",
    "fit_schedule",
    "generate",
    "import_torch",
    "load_preset",
    "prepare",
    "pretrained",
    "sample",
    "settings",
    "train",
    "verify",
    "write_prepared",
]
