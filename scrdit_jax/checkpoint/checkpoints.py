"""The checkpoints of a run, by orbax."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from .. import strict_json
from ..conditioning.table import ConditionTable
from ..config import RunConfig
from ..data.metadata import DatasetMetadata, has_derived_categories
from ..data.saved_conditions import arrays_of, conditions_of, conditions_of_format_2
from ..errors import BadConfig, BadInput, RunMismatch, writing
from ..io.atomic import require_space
from ..io.signals import HeldSignals
from ..paths import files_below
from ..privacy import PrivacyRecord
from .model import Model, arrays_digest
from .run import Run

# Orbax narrates every save, and its failures at length; those reach the user as exceptions.
logging.getLogger("absl").setLevel(logging.CRITICAL)
logging.getLogger("asyncio").addFilter(lambda record: "OCDBT" not in str((record.exc_info or "  ")[1]))

FORMAT = 3
SCORE = "held_out_score"


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
        try:
            self._manager = ocp.CheckpointManager(run.checkpoints_path.resolve(), options=options)
        except (OSError, ValueError, TypeError, AttributeError) as error:  # of a score, which it reads at once
            raise RunMismatch(
                f"a score of the checkpoints in {run.checkpoints_path} cannot be read ({str(error)[:100]}); delete "
                f"{_without_score(run.checkpoints_path)}"
            ) from None

    def __enter__(self) -> Checkpoints:
        """Where an array cannot be read or saved, orbax closes its event loop, and the threads that are at the others
        would each print a traceback about that, some of them later: that stays quiet where this ends by an error."""
        self._reported = sys.unraisablehook
        if not isinstance(self._reported, _LateThreadsIgnored):
            sys.unraisablehook = _LateThreadsIgnored(self._reported)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with writing(self.run.checkpoints_path), HeldSignals():
            self._manager.close()
        if kind is None:
            sys.unraisablehook = self._reported

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
        # Orbax would take a save for finished that was interrupted, and not all of which is there.
        with writing(self.run.checkpoints_path), HeldSignals():
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
        return Model(config, metadata, params, record["step"], conditions, fitted, _privacy_of(record))

    def privacy(self) -> PrivacyRecord | None:
        """With what differential privacy the newest checkpoint was trained."""
        return _privacy_of(self._record()[2])

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
            for _ in files_below(self.run.checkpoints_path / str(step)):
                pass  # orbax would wait for a pipe
            return self._manager.restore(step, args=args)
        except Exception as error:
            first = str(error).strip().splitlines()[:1]
            raise RunMismatch(
                f"checkpoint {step} of {self.run.path} cannot be read ({' '.join(first)[:200]}); "
                f"delete {self.run.checkpoints_path / str(step)} to use the one before"
            ) from error


@dataclass
class _LateThreadsIgnored:
    otherwise: Callable[[Any], Any]

    def __call__(self, unraisable: Any) -> None:
        """Report what has nothing to do with it."""
        if not str(unraisable.exc_value).startswith(("Event loop is closed", "Encountered error while reading array")):
            self.otherwise(unraisable)


def _of_this_process(state: Any) -> Any:
    """Arrays on the host where processes train together: orbax would have those on devices be everybody's."""
    return state if jax.process_count() == 1 else jax.device_get(state)


def _privacy_of(record: Mapping[str, Any]) -> PrivacyRecord | None:
    return PrivacyRecord.from_dict(record["privacy"]) if "privacy" in record else None


def _without_score(checkpoints: Path) -> str:
    """The checkpoints whose scores are no JSON."""
    found = []
    for score in sorted(checkpoints.glob("*/metrics/metrics")):
        try:
            dict(strict_json.read(score))
        except (OSError, ValueError, TypeError):
            found.append(str(score.parents[1]))
    return " and ".join(found) or "the folder of the newest step"


def _best(metrics: Mapping[str, float], *, name: str) -> float:
    return -metrics[name]


def load_model(run: Run | Path | str) -> Model:
    """The newest model of a run folder; RunMismatch if it holds none."""
    run = run if isinstance(run, Run) else Run(Path(run))
    run.config()
    with Checkpoints(run) as checkpoints:
        return checkpoints.load()
