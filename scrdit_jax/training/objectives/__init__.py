"""What training makes small. Each module here whose name has no underscore in front is an objective, its `OBJECTIVE`
the loss, the predictions it is for, the params it begins with, and whether it learns from a teacher."""

from __future__ import annotations

from ...registry import OBJECTIVES
from ._objective import NoisedBatch, Objective, Start, Teacher, start_at_marginals

__all__ = ["OBJECTIVES", "NoisedBatch", "Objective", "Start", "Teacher", "start_at_marginals"]
