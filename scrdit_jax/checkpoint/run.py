"""What lies where in a run directory."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from .. import strict_json
from ..config import RunConfig
from ..errors import BadConfig, RunMismatch
from ..io.atomic import atomic_write
from ..paths import readable_path

FAMILY = "family.json"


@dataclass(frozen=True)
class Run:
    """A folder with a run in it; `stopped` says why the training that made it ended early, None if it did not."""

    path: Path
    stopped: str | None = field(default=None, compare=False)

    @property
    def config_path(self) -> Path:
        """The settings, JSON."""
        return self.path / "config.json"

    @property
    def metrics_path(self) -> Path:
        """One JSON object a line, every `log_every` steps."""
        return self.path / "metrics.jsonl"

    @property
    def evaluations_path(self) -> Path:
        """One JSON object a line, of each look at the held-out cells."""
        return self.path / "evaluations.jsonl"

    @property
    def curve_path(self) -> Path:
        """The evaluations as a picture."""
        return self.path / "curve.png"

    @property
    def events_path(self) -> Path:
        """What TensorBoard reads."""
        return self.path / "tensorboard"

    @property
    def lock_path(self) -> Path:
        """Locked by the process that trains."""
        return self.path / "training.lock"

    @property
    def cells_path(self) -> Path:
        """Prepared cells that are streamed from the disk."""
        return self.path / "cells.h5ad"

    @property
    def held_out_path(self) -> Path:
        """Cells never trained on, on the model's scale and genes."""
        return self.path / "held_out.h5ad"

    @property
    def checkpoints_path(self) -> Path:
        """One folder a checkpoint, named by its step."""
        return self.path / "checkpoints"

    def config(self) -> RunConfig:
        """The run's settings; RunMismatch if there are none."""
        if (readable_path(self.path) / FAMILY).is_file():
            raise RunMismatch(f"{self.path} is a family of runs; give the folder of one of them, which lie in it")
        if not self.config_path.is_file():
            what = "is not there" if not self.path.exists() else "is no run: it has no config.json"
            raise RunMismatch(f"{self.path} {what}; give a folder made by 'scrdit train'")
        try:
            return RunConfig.from_dict(strict_json.read(self.config_path), source=str(self.config_path))
        except (OSError, ValueError, BadConfig) as error:
            raise RunMismatch(f"{self.config_path} cannot be read ({error}); train again into another folder") from None

    def write_config(self, config: RunConfig) -> None:
        """Write the settings, atomically."""
        with atomic_write(self.config_path) as partial:
            partial.write_text(json.dumps(config.to_dict(), indent=2) + "\n")
