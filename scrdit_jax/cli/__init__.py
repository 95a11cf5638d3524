"""The command line: it translates options and prints; what is done lies in `api`, imported only when it is used."""

from __future__ import annotations

from . import completion, evaluating, making, simulating, training
from .main import main

__all__ = ["completion", "evaluating", "main", "making", "simulating", "training"]
