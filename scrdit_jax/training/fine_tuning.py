"""Training a model further on other cells of the same genes: its settings, and what the new run begins with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..checkpoint import Checkpoints, Model, Run, load_model
from ..conditioning.state import no_axes
from ..config import RunConfig, TrainingConfig
from ..data.metadata import DatasetMetadata
from ..data.preparing import Prepared
from ..data.sources import DataSets, load_adapted
from ..errors import BadConfig
from ..networks import with_more_labels

# Settings of the data that say which cells are used, and not what a model is.
OF_CELLS = ("cell_types", "cell_type_key", "held_out", "donor_key", "seed")
FEWER_STEPS = 4


@dataclass(frozen=True)
class Base:
    """The model that a run trains further. `begun`: it is the run's own newest checkpoint, as the run that it was begun
    from is no longer there."""

    model: Model
    begun: bool = False

    @classmethod
    def load(cls, run: Run | Path | str, out: Path | str) -> Base:
        """The newest model of `run`, for a run in `out`; RunMismatch where there is none, and `out` has no checkpoint
        that came of one either."""
        run, own = run if isinstance(run, Run) else Run(Path(run)), Run(Path(out))
        if run.path.resolve() == own.path.resolve():
            raise BadConfig(f"{run.path} is both --from and --out; give a new folder as --out")
        if not run.path.exists() and own.config_path.is_file() and own.config().origin is not None:
            with Checkpoints(own) as checkpoints:
                if checkpoints.latest() is not None:
                    return cls(checkpoints.load(), begun=True)
        return cls(load_model(run))

    def settings(self, changes: Mapping[str, Any]) -> RunConfig:
        """The model's settings with `changes` to those of training, and to which cells are used.

        Unless it is given, there are a quarter of the steps; see `fewer_steps`. BadConfig where a change would make
        another model of it.
        """
        known = self.model.config
        if not self.begun:
            training = fewer_steps(known.training, changes)
            known = replace(known, origin=self.model.digest, training=training)
        config = known.with_settings(changes)
        own = {f"data.{name}" for name in OF_CELLS}
        for line in config.differences(known):
            setting, _, values = line.partition(":")
            if setting not in own and (not setting.startswith("training.") or setting == "training.conditions"):
                here, there = values.removesuffix(" there").split(" here, ")
                raise BadConfig(
                    f"{setting.partition('.')[2]} is{here}, and {there} in the model of --from, where it cannot be "
                    "changed; leave the option out, or train without --from"
                )
        return config

    def prepare(self, data: DataSets, config: RunConfig, *, transpose: bool, stored: bool) -> Prepared:
        """The cells `data` brought to the model's genes, scale and states; see `adapting.adapt`."""
        metadata, table = self.model.metadata, self.model.conditions
        axes = no_axes(len(metadata.genes)) if table is None or table.space is None else table.space.alone.axes
        prepared = load_adapted(data, metadata, axes, config.data, transpose=transpose, stored=stored)
        if self.begun and (prepared.metadata.digest, config.data) == (metadata.digest, metadata.settings):
            # The same cells, of which the run has said already what it continues.
            return replace(prepared, metadata=metadata)
        return prepared


def fewer_steps(training: TrainingConfig, changes: Mapping[str, Any]) -> TrainingConfig:
    """How a model that was trained so is trained further, but for the settings in `changes`: in a quarter of the steps,
    the warm-up in proportion.

    The learning rate stays. Measured on PBMC with and without interferon: a small model of control cells, trained for
    400 steps, comes in 100 on stimulated ones to the held-out loss that 400 steps from scratch reach (0.079; 100 steps
    from scratch, 0.096). With a third of the rate it comes to 0.088, with a tenth to 0.112; control cells, at 0.068 to
    begin with, are then at 0.088 with the whole rate, 0.077 and 0.069. Where the rate does not fall to zero the warm-up
    stays too: such a run may be lengthened, so nothing may depend on its steps.
    """
    steps = changes.get("steps", max(1, training.steps // FEWER_STEPS))
    settings: dict[str, Any] = {"steps": steps}
    if training.learning_rate_schedule != "constant":
        settings["warmup_steps"] = round(training.warmup_steps * min(1.0, steps / training.steps))
    return replace(training, **{name: value for name, value in settings.items() if name not in changes})


def params_to_begin(base: Model, metadata: DatasetMetadata) -> Any:
    """The params of the model, with rows for the categories that its variables have in `metadata` and not in it."""
    params, before = base.params, base.metadata.categories
    if before == metadata.categories:
        return params
    embeddings = with_more_labels(params["params"]["label_embeddings"], before, metadata.categories)
    return {"params": params["params"] | {"label_embeddings": embeddings}}
