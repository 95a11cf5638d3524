"""What training with differential privacy does otherwise in a run, in one place."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from ...checkpoint import Checkpoints, Model, Run
from ...conditioning.table import ConditionTable
from ...config import RunConfig
from ...data.batches import Batch, Batches
from ...data.preparing import Prepared
from ...data.splitting import donor_names
from ...errors import BadConfig, RunMismatch
from ...extras import optional, versions
from ...privacy import PrivacyRecord, key_path
from ..step import Step
from .accounting import ACCOUNTANT, LIBRARIES, Mechanism, calibrated
from .coverage import not_covered, record_without_cells
from .key import PrivacyKey
from .marginals import private_marginals
from .step import Drawn, make_private_step
from .units import Draw, Units

# Gradients at once, where nothing else is asked for: one after another is fastest on a CPU, whose caches hold one.
MICROBATCH, MICROBATCHED = {"cpu": 1}, 16


@dataclass(frozen=True)
class Begun:
    """A run with differential privacy as a call of `train` finds it: its `key`, a new one where it has not begun, and
    the `record` of its newest checkpoint. Nothing is left to do where it is `complete`."""

    run: Run
    key: PrivacyKey
    record: PrivacyRecord | None = None
    complete: bool = False

    @property
    def mechanism(self) -> Mechanism:
        """That of the newest checkpoint."""
        known = self.record
        return Mechanism(known.noise_multiplier, known.sampling_probability, known.marginals_noise_multiplier)

    def without_record_of_cells(self, prepared: Prepared) -> Prepared:
        """The cells with a record that tells less of them."""
        return replace(prepared, metadata=record_without_cells(prepared.metadata, self.key))

    def keep_key(self) -> None:
        """For the next call, should this one be interrupted."""
        if not key_path(self.run.path).exists():
            self.key.write(key_path(self.run.path))


def begin(run: Run, config: RunConfig) -> Begun:
    """The run as it is found; MissingExtra, BadConfig among several processes, and RunMismatch where the key of a run
    that has begun is gone."""
    optional("jax_privacy", extra="privacy")
    if jax.process_count() > 1:
        raise BadConfig("differential privacy is for training in one process; leave --distributed or --dp-epsilon out")
    key, record = PrivacyKey.read(key_path(run.path)), None
    if run.checkpoints_path.is_dir():
        with Checkpoints(run) as checkpoints:
            record = None if checkpoints.latest() is None else checkpoints.load().privacy
    if record is not None and record.steps == config.training.steps:
        key_path(run.path).unlink(missing_ok=True)
        return Begun(run, key or PrivacyKey.new(), record, complete=True)
    if key is None and record is not None:
        raise RunMismatch(
            f"{key_path(run.path)} is gone, without which the run cannot be continued; train into another --out"
        )
    return Begun(run, key or PrivacyKey.new(), record)


class PrivateTraining:
    """One call of `train` with differential privacy: its units, the mechanism and the record."""

    def __init__(
        self,
        begun: Begun,
        prepared: Prepared,
        config: RunConfig,
        conditions: ConditionTable | None,
        base: Model | None,
    ) -> None:
        """`conditions` go with the model, which trains `base` further. BadConfig for a batch that cannot be drawn."""
        self.run, self.config, self.keys, self.cells = begun.run, config, begun.key.steps, prepared.train.X
        self.microbatch = config.privacy.dp_microbatch or MICROBATCH.get(jax.default_backend(), MICROBATCHED)
        self.unit = "cell" if config.data.donor_key is None else "donor"
        self.units = _units_of(prepared, config, begun.key)
        privacy, count, batch = config.privacy, len(self.units), config.training.batch_size
        most = count * self.units.most
        if batch > most:
            each = f" of {self.units.most} cells each" if self.units.most > 1 else ""
            raise BadConfig(
                f"a batch of {batch} cells is more than {count} {self.unit}s{each}; use --batch-size {most} or less"
            )
        self.delta = privacy.delta_of(count)
        # A run keeps to its noise, whatever another version of the library would find.
        if begun.record is None:
            self.mechanism = calibrated(
                privacy.dp_epsilon, self.delta, batch / most, config.training.steps, marginals=base is None
            )
        else:
            self.mechanism = begun.mechanism
        found = not_covered(config, prepared.metadata, conditions, base, self.unit)
        self._not_covered = found if begun.record is None else begun.record.not_covered
        self._epsilon = lru_cache(lambda steps: self.mechanism.epsilon(steps, self.delta))

    def finish(self, checkpoints: Checkpoints) -> None:
        """After the last step, once it is saved: nothing will need the key again."""
        checkpoints.wait()
        key_path(self.run.path).unlink(missing_ok=True)

    def make_step(self, network: nn.Module, scaling: Any, axis_name: str) -> Step:
        """The training step."""
        return make_private_step(
            network,
            self.config,
            scaling,
            multiplier=self.mechanism.multiplier,
            expected=self.mechanism.probability * len(self.units),
            microbatch=self.microbatch,
            axis_name=axis_name,
        )

    def draw(self, step: int, devices: int) -> Draw:
        """Who takes part in a step: the units spread evenly over the devices, on each the empty slots last in the order
        in which microbatches are taken."""
        drawn = self.units.draw(step, self.mechanism.probability, devices * self.microbatch)
        share = len(drawn.rows) // devices
        order = optional("jax_privacy.sharding_utils", extra="privacy").compute_early_stopping_order(
            share, self.microbatch
        )
        slots = (np.arange(devices)[:, None] + devices * order[None, :]).ravel()
        return Draw(drawn.rows[slots], drawn.present[slots])

    def marginals(self) -> np.ndarray:
        """What the training cells say of each gene, with noise."""
        return private_marginals(self.cells, self.units, self.mechanism.marginals)

    def feed(self, step: int, devices: int, batches: Batches | None) -> Drawn | Draw:
        """What the devices are given; None for `batches` whose cells lie there already."""
        drawn = self.draw(step, devices)
        if batches is None:
            return drawn
        shape = drawn.rows.shape
        batch = jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), batches.of_rows(drawn.rows.ravel()))
        return Drawn(batch, *drawn)

    def record(self, steps: int) -> PrivacyRecord:
        """What so many steps have come to."""
        privacy, mechanism, epsilon = self.config.privacy, self.mechanism, self._epsilon(steps)
        return PrivacyRecord(
            epsilon=epsilon if math.isfinite(epsilon) else None,
            delta=self.delta,
            unit=self.unit,
            units=len(self.units),
            cells_a_unit=self.units.most,
            clip=privacy.dp_clip,
            noise_multiplier=mechanism.multiplier,
            sampling_probability=mechanism.probability,
            marginals_noise_multiplier=mechanism.marginals,
            steps=steps,
            accountant=ACCOUNTANT,
            libraries=versions(LIBRARIES),
            not_covered=self._not_covered,
        )


def gather_drawn(cells: Batch, draw: Draw) -> Drawn:
    """On a device where all training cells lie, those that were drawn."""
    return Drawn(jax.tree.map(lambda leaf: leaf[draw.rows], cells), *draw)


def _units_of(prepared: Prepared, config: RunConfig, key: PrivacyKey) -> Units:
    column, obs = config.data.donor_key, prepared.train.obs
    if column is None:
        return Units.cells(len(obs), key.draws)
    return Units.donors(donor_names(obs, column, prepared.metadata.source), config.privacy.dp_cells, key.draws)
