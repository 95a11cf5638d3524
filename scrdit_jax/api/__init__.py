"""The public functions, which the command line calls too."""

from __future__ import annotations

from .. import config, info
from ..data import preparing
from .arguments import checked
from .scoring import benchmark, evaluate
from .simulation import simulate
from .synthesis import Verification, assemble, fit_schedule, generate, sample, verify
from .training import import_torch, prepare, pretrained, settings, train

load_preset = checked(config.load_preset)
write_prepared = checked(preparing.write_prepared)
describe = checked(info.describe)

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
    "simulate",
    "train",
    "verify",
    "write_prepared",
]
