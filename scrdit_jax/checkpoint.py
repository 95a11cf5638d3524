"""Run folders and their checkpoints (orbax). A checkpoint holds all that sampling or continuing needs; no pickle.

RUN/config.json       the settings        RUN/held_out.h5ad     cells never trained on, for evaluation
RUN/metrics.jsonl     loss and speed      RUN/checkpoints/STEP  params, averaged params, optimiser, model.json
RUN/evaluations.jsonl held-out scores     RUN/curve.png         the same as a picture
RUN/training.lock     who is training     RUN/cells.h5ad        prepared cells of a run whose data are streamed
RUN/privacy_key_DO_NOT_PUBLISH.json       what noise follows from, while a run with differential privacy is trained
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from . import strict_json
from .conditioning.table import ConditionTable
from .config import RunConfig
from .data.metadata import DatasetMetadata, has_derived_categories
from .data.saved_conditions import arrays_of, conditions_of, conditions_of_format_2
from .errors import BadConfig, BadInput, RunMismatch, writing
from .io.atomic import atomic_write, require_space
from .paths import readable_path
from .privacy import PrivacyRecord

# Orbax narrates every save, and its failures at length; those reach the user as exceptions.
logging.getLogger("absl").setLevel(logging.CRITICAL)

FAMILY = "family.json"
FORMAT = 3
SCORE = "held_out_score"


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


@dataclass(frozen=True)
class Model:
    """What sampling needs: settings, what was found about the data, and params (averaged ones where there are).

    `conditions` is None for a model that was not trained here. `fitted` are timesteps fitted to it, by their number,
    for solvers that draw clean cells. `privacy` is None for one that was trained without differential privacy.
    """

    config: RunConfig
    metadata: DatasetMetadata
    params: Any
    step: int
    conditions: ConditionTable | None = None
    fitted: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    privacy: PrivacyRecord | None = None

    @cached_property
    def digest(self) -> str:
        """sha256 over the weights, with their names and shapes, the settings and what was found about the data."""
        digest = hashlib.sha256()
        digest.update(arrays_digest(self.params).encode())
        known = {"config": self.config.to_dict(), "metadata": self.metadata.to_dict(), "step": self.step}
        digest.update(json.dumps(known, sort_keys=True).encode())
        return digest.hexdigest()


class Checkpoints:
    """The checkpoints of a run, newest last; a context manager that waits for the last save."""

    def __init__(self, run: Run, *, keep: int = 3) -> None:
        """Open `run`'s checkpoints, making the folder if need be; the `keep` newest stay, and the best."""
        self.run = run
        with writing(run.checkpoints_path):
            run.checkpoints_path.mkdir(parents=True, exist_ok=True)
        best = partial(_best, name=SCORE)
        policy = preservation_policy.AnyPreservationPolicy(
            [
                preservation_policy.LatestN(keep),
                preservation_policy.BestN(get_metric_fn=best, n=1, keep_checkpoints_without_metrics=False),
            ]
        )
        # Processes of one training share what they compute, but one of them writes.
        alone = ocp.options.MultiprocessingOptions(
            primary_host=jax.process_index(), active_processes={jax.process_index()}, barrier_sync_key_prefix="scrdit"
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policy,
            best_fn=best,
            cleanup_tmp_directories=True,
            create=False,
            multiprocessing_options=alone if jax.process_count() > 1 else ocp.options.MultiprocessingOptions(),
        )
        self._manager = ocp.CheckpointManager(run.checkpoints_path.resolve(), options=options)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        with writing(self.run.checkpoints_path):
            self._manager.close()

    def latest(self) -> int | None:
        """The newest step saved, or None."""
        return self._manager.latest_step()

    def best(self) -> int | None:
        """The step whose held-out score is best, or None where there are no scores."""
        scored = {step: (self._manager.metrics(step) or {}).get(SCORE) for step in self._manager.all_steps()}
        scored = {step: score for step, score in scored.items() if score is not None}
        return min(scored, key=scored.__getitem__) if scored else None

    def save(
        self,
        state: Any,
        config: RunConfig,
        metadata: DatasetMetadata,
        conditions: ConditionTable | None,
        *,
        score: float | None = None,
        fitted: Mapping[int, Sequence[int]] | None = None,
        privacy: PrivacyRecord | None = None,
    ) -> None:
        """Save a TrainState with everything a model needs; returns while the files are still being written.

        Raises DiskFull, with nothing written, where there is no space for it. `conditions` are those of the training
        cells, None where the model was trained elsewhere; `score` is of its held-out cells, the lower the better;
        `fitted` and `privacy`, see Model.
        """
        state = _of_this_process(state)
        items = {
            "params": ocp.args.StandardSave(state.params),
            "optimizer": ocp.args.StandardSave({"state": state.optimizer, "step": state.step}),
            "model": ocp.args.JsonSave(
                {
                    "format": FORMAT,
                    "config": config.to_dict(),
                    "metadata": metadata.to_dict(),
                    "step": int(state.step),
                    "fitted": {str(steps): list(map(int, taus)) for steps, taus in (fitted or {}).items()},
                    **({} if privacy is None else {"privacy": privacy.to_dict()}),
                }
            ),
        }
        if state.ema is not None:
            items["ema"] = ocp.args.StandardSave(state.ema)
        arrays = {} if conditions is None else arrays_of(conditions)
        if arrays:
            items["conditions"] = ocp.args.StandardSave(arrays)
        # Its threads would each print a traceback where they run out of space half-way.
        require_space(self.run.checkpoints_path, sum(leaf.nbytes for leaf in jax.tree.leaves((state, arrays))))
        with writing(self.run.checkpoints_path):
            self._manager.save(
                int(state.step), args=ocp.args.Composite(**items), metrics=None if score is None else {SCORE: score}
            )

    def digest(self) -> str:
        """sha256 over every array of the newest checkpoint (params, average, optimiser, step), names and shapes too."""
        averaged = self.origin()[0].training.ema_decay is not None
        names = ("params", "optimizer", "ema") if averaged else ("params", "optimizer")
        found = self._restore(ocp.args.Composite(**{name: ocp.args.StandardRestore() for name in names}))
        return arrays_digest({name: found[name] for name in names})

    def restore(self, like: Any) -> Any:
        """The newest TrainState, with the structure, shapes and placement of `like`."""
        like = _of_this_process(like)
        wanted = {
            "params": ocp.args.StandardRestore(like.params),
            "optimizer": ocp.args.StandardRestore({"state": like.optimizer, "step": like.step}),
        }
        if like.ema is not None:
            wanted["ema"] = ocp.args.StandardRestore(like.ema)
        found = self._restore(ocp.args.Composite(**wanted))
        optimizer = found["optimizer"]
        return like._replace(
            step=optimizer["step"], params=found["params"], ema=found.get("ema"), optimizer=optimizer["state"]
        )

    def origin(self) -> tuple[RunConfig, DatasetMetadata]:
        """The settings and the data that the newest checkpoint comes from."""
        return self._record()[:2]

    def _record(self) -> tuple[RunConfig, DatasetMetadata, Mapping[str, Any]]:
        """(settings, metadata, everything in model.json) of the newest checkpoint; format 1 had no number."""
        record = self._restore(ocp.args.Composite(model=ocp.args.JsonRestore()))["model"]
        try:
            return self._understood(record)
        except (LookupError, TypeError, AttributeError, ValueError, BadConfig, BadInput) as error:
            there, reason = self.run.checkpoints_path / str(self.latest()), " ".join(str(error).split())[:120]
            raise RunMismatch(
                f"what checkpoint {there} says of its model cannot be understood ({reason}); delete it to use the one "
                "before"
            ) from error

    def _understood(self, record: Mapping[str, Any]) -> tuple[RunConfig, DatasetMetadata, Mapping[str, Any]]:
        version = record.get("format", 1)
        if version not in range(1, FORMAT + 1):
            raise RunMismatch(
                f"the checkpoints of {self.run.path} have format {version}, not 1 to {FORMAT}; update scrdit_jax"
            )
        metadata = record["facts" if version == 1 else "metadata"]
        if has_derived_categories(metadata):
            raise RunMismatch(
                f"the model of {self.run.path} keeps a row of each of its training cells, as those of versions before "
                "0.3 did, and is no longer read: train it again, and it will keep none"
            )
        privacy = PrivacyRecord.from_dict(record["privacy"]) if "privacy" in record else None
        record = {**record, "privacy": privacy}
        return RunConfig.from_dict(record["config"]), DatasetMetadata.from_dict(metadata), record

    def wait(self) -> None:
        """Until what was saved is on the disk."""
        with writing(self.run.checkpoints_path):
            self._manager.wait_until_finished()

    def load(self) -> Model:
        """The newest checkpoint as a Model on the default device."""
        config, metadata, record = self._record()
        name = "params" if config.training.ema_decay is None else "ema"
        found = self._restore(ocp.args.Composite(**{name: ocp.args.StandardRestore()}))
        params, conditions = jax.tree.map(np.asarray, found[name]), self._conditions(metadata)
        fitted = {int(steps): tuple(taus) for steps, taus in record.get("fitted", {}).items()}
        return Model(config, metadata, params, record["step"], conditions, fitted, record["privacy"])

    def conditions(self) -> ConditionTable | None:
        """What the newest checkpoint says of new cells' conditions; None for a model that was trained elsewhere."""
        return self._conditions(self.origin()[1])

    def _conditions(self, metadata: DatasetMetadata) -> ConditionTable | None:
        there = self.run.checkpoints_path / str(self.latest())
        for name, read in (("conditions", conditions_of), ("cells", conditions_of_format_2)):
            if (there / name).is_dir():
                found = self._restore(ocp.args.Composite(**{name: ocp.args.StandardRestore()}))[name]
                return read(jax.tree.map(np.asarray, found), metadata)
        return None

    def _restore(self, args: ocp.args.Composite) -> Any:
        step = self.latest()
        if step is None:
            raise RunMismatch(f"{self.run.path} has no checkpoint yet; run 'scrdit train' with the same settings first")
        try:
            return self._manager.restore(step, args=args)
        except Exception as error:
            first = str(error).strip().splitlines()[:1]
            raise RunMismatch(
                f"checkpoint {step} of {self.run.path} cannot be read ({' '.join(first)[:200]}); "
                f"delete {self.run.checkpoints_path / str(step)} to use the one before"
            ) from error


def _of_this_process(state: Any) -> Any:
    """Arrays on the host where processes train together: orbax would have those on devices be everybody's."""
    return state if jax.process_count() == 1 else jax.device_get(state)


def _best(metrics: Mapping[str, float], *, name: str) -> float:
    return -metrics[name]


def arrays_digest(tree: Any) -> str:
    """sha256 over the arrays of a pytree, with their names, dtypes and shapes."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        leaf = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape} ".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def load_model(run: Run | Path | str) -> Model:
    """The newest model of a run folder; RunMismatch if it holds none."""
    run = run if isinstance(run, Run) else Run(Path(run))
    run.config()
    with Checkpoints(run) as checkpoints:
        return checkpoints.load()
