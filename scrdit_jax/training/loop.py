"""The loop around the training step: batches in, metrics and checkpoints out; the same call again continues."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from anndata import AnnData

from ..attention import with_fastest_attention
from ..checkpoint import Checkpoints, Model, Run
from ..conditioning.table import ConditionTable
from ..config import RunConfig
from ..data.batches import Batch, Batches
from ..data.packed import room_for
from ..data.preparing import Prepared
from ..data.splitting import validation_mask
from ..devices import free_memory, keep_freed_memory, usable_devices
from ..diffusion.predictions import make_prediction
from ..errors import BadConfig, Diverged, RunMismatch
from ..networks import flops_per_evaluation, make_network
from ..progress import tqdm
from .conditions import conditions_of, fit_table, in_shared_order, in_shared_space, known_origin
from .evaluator import Evaluator, HeldOutLoss, ModelScorer, evaluation_due, has_stalled, score_of
from .fine_tuning import params_to_begin
from .metric_logger import MetricLogger, Rates
from .multihost import broadcast, broadcast_text, is_primary
from .objectives import OBJECTIVES, Start
from .parallel import DEVICES, ParallelStep, parallelise, require_even_shares
from .prefetch import prefetched
from .private.session import Begun, PrivateTraining, begin, gather_drawn
from .run_directory import initialise, locked, raise_everywhere
from .state import TrainState, initial_state, require_memory, sampled_params
from .step import make_losses, make_step
from .stopping import Stopper
from .teacher import load_teacher

# A gradient costs about twice what the evaluation costs that it is of.
EVALUATIONS_A_STEP = 3
# Of a device's free memory, what all training cells may take there.
RESIDENT_SHARE = 0.4


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How a run is trained, and no part of what it is.

    `stop_after` ends this call at that step, `max_minutes` at the first step's end after so long. `scorer` makes, of
    the validation cells, what scores the model at every evaluation; `fit`, of the finished model and the held-out
    cells, the timesteps that it carries. `matrix_rate` (FLOP/s of all devices) is what speed is held against.
    `on_notes` is given sentences on what differential privacy a run will come to.
    `resident` says whether the training cells lie on the devices; None: where those have memory of their own, and
    enough.
    """

    stop_after: int | None = None
    max_minutes: float | None = None
    tensorboard: bool = False
    scorer: Callable[[AnnData], ModelScorer] | None = None
    fit: Callable[[Model, AnnData], Mapping[int, Sequence[int] | np.ndarray]] | None = None
    matrix_rate: float | None = None
    on_notes: Callable[[Sequence[str]], None] | None = None
    resident: bool | None = None


def train(
    prepared: Prepared | Callable[[Run], Prepared],
    config: RunConfig,
    out: Path | str,
    options: TrainingOptions | None = None,
    *,
    base: Model | None = None,
) -> Run:
    """Train into the run directory `out` until `config.training.steps`, continuing from its newest checkpoint.

    A new run begins with the params of `base`, a model that it trains further on other cells (see `fine_tuning`).

    Interrupted at any moment and started again, the run ends with the parameters it would have had. `prepared` may be
    a function, which is called once the directory is locked. Raises RunMismatch if `out` holds a run of other settings
    or data, OutputExists if it holds something else or another process trains there, Diverged when the loss is no
    longer finite or has risen for good.
    """
    run, options = Run(Path(out)), options or TrainingOptions()
    keep_freed_memory()
    with locked(run, config):
        with raise_everywhere():
            prepared = prepared(run) if callable(prepared) else prepared
        if broadcast_text(prepared.metadata.digest) != prepared.metadata.digest:
            raise RunMismatch("the processes were not given the same cells; give each the same data")
        with raise_everywhere():
            begun = begin(run, config) if config.privacy.on else None
            if begun is not None:
                if begun.complete:
                    return run
                prepared = begun.without_record_of_cells(prepared)
            known, gene_order = known_origin(run, config, prepared.metadata)
            prepared = in_shared_order(prepared, gene_order)
        session = _Session(run, in_shared_space(prepared, known), config, options, known, base=base, begun=begun)
        with Checkpoints(run, keep=config.training.keep) if is_primary() else nullcontext() as checkpoints:
            return Run(run.path, session.advance(checkpoints))


class _Watch(NamedTuple):
    """What goes along with the steps; `checkpoints` in the process that writes them alone."""

    logger: MetricLogger
    bar: tqdm
    stopper: Stopper
    checkpoints: Checkpoints | None


class _Session:
    """One call of `train`: what stays the same while it steps."""

    def __init__(
        self,
        run: Run,
        prepared: Prepared,
        config: RunConfig,
        options: TrainingOptions,
        known: ConditionTable | None,
        *,
        base: Model | None,
        begun: Begun | None,
    ) -> None:
        """`known`: conditions by a checkpoint of the run, None if it is new; `begun`: with differential privacy."""
        self.run, self.prepared, self.config, self.options, self.base = run, prepared, config, options, base
        self.metadata, settings = prepared.metadata, config.training
        training = prepared.train
        self.objective = OBJECTIVES[settings.loss]
        self.prediction = make_prediction(config.diffusion.prediction, self.metadata.scaling)
        self.network: nn.Module = make_network(
            config.network,
            len(self.metadata.genes),
            self.prediction.outputs,
            labels=self.metadata.categories,
            states=self.metadata.conditioned_states,
        )
        require_memory(self.network, config)
        conditions = conditions_of(training.obs, self.metadata, self.prediction)
        self.conditions = (known or fit_table(prepared, config, base=base)) if is_primary() else None
        self.batches = Batches(training.X, settings.batch_size, settings.seed, *conditions)
        self.cells = training.n_obs
        with raise_everywhere():
            self.private = begun and PrivateTraining(begun, prepared, config, self.conditions, base)
            # Refused here, and not by the first step: nothing is written yet.
            self.prediction.for_cells(conditions.log_sizes)
            self.teacher = load_teacher(config, self.metadata)
            self.step = self._parallel_step()
            self.validation = validation_mask(prepared.held_out.obs, self.metadata.settings)
            if settings.evaluate_every is not None and not self.validation.any():
                raise BadConfig(
                    "no cells are held out to evaluate on (half of them are: the others are for the final test); raise "
                    "--held-out or leave --evaluate-every out"
                )
            if is_primary():
                initialise(run, prepared, config)
                if begun is not None:
                    begun.keep_key()
        share = settings.batch_size // jax.process_count()
        self.share = slice(jax.process_index() * share, (jax.process_index() + 1) * share)
        if self.private is not None and options.on_notes is not None:
            options.on_notes(self.private.record(settings.steps).sentences())
        self.evaluator = self._make_evaluator() if settings.evaluate_every is not None and is_primary() else None

    def _parallel_step(self) -> ParallelStep:
        """The step over all devices; all training cells lie on them where there is room."""
        settings = self.config.training
        devices = jax.devices()
        if jax.process_count() == 1:
            devices = usable_devices(settings.batch_size // settings.accumulate, collectives=True)
        if self.private is None:  # whose batches are filled up
            require_even_shares(settings, len(devices))
        if devices[0].platform != "cpu":  # whose memory is the host's
            self.batches.room = room_for(self.batches.cells)
        self.resident = self._fits(devices[0]) if self.options.resident is None else self.options.resident
        network = with_fastest_attention(self.network, settings.dtype, gradient=True)
        # One program for all processes, whatever each has found to be fastest.
        network = network.clone(attention=broadcast_text(network.attention))
        resident, scaling = self.batches.all() if self.resident else None, self.metadata.scaling
        if self.private is not None:
            step = self.private.make_step(network, scaling, DEVICES)
            return parallelise(step, devices, resident=resident, constant=self.private.keys, gather=gather_drawn)
        step = make_step(network, self.config, scaling, teacher=self.teacher, axis_name=DEVICES)
        constant = None if self.teacher is None else self.teacher.params
        return parallelise(step, devices, resident=resident, constant=constant)

    def _fits(self, device: jax.Device) -> bool:
        """Whether the training cells may lie on the devices, which then need only be given numbers of rows."""
        if device.platform == "cpu" or not self.batches.in_memory:
            return False
        return self.batches.bytes_of_all < RESIDENT_SHARE * free_memory(device)

    def _make_evaluator(self) -> Evaluator:
        # Test cells are left out: a model must not be chosen by the cells that it is reported on.
        held_out = self.prepared.held_out[self.validation].copy()
        loss = HeldOutLoss(
            make_losses(self.network, self.config, self.metadata.scaling, teacher=self.teacher),
            Batch(held_out.X, *conditions_of(held_out.obs, self.metadata, self.prediction)),
            self.config.training.batch_size,
            teacher_params=None if self.teacher is None else self.teacher.params,
        )
        scorer = None if self.options.scorer is None else self.options.scorer(held_out)
        return Evaluator(self.run, self.config, self.metadata, loss, scorer, conditions=self.conditions)

    def _initial_state(self) -> TrainState:
        def initial_params(params: Any, teacher_params: Any) -> Any:
            marginals = self.prepared.gene_marginals if self.private is None else self.private.marginals
            start = Start(self.prediction, marginals, teacher_params)
            return self.objective.initial_params(params, start)

        return initial_state(
            self.network,
            self.network.genes,
            self.config.training,
            initial_params=initial_params,
            teacher_params=None if self.teacher is None else self.teacher.params,
            params=None if self.base is None else params_to_begin(self.base, self.metadata),
        )

    def advance(self, checkpoints: Checkpoints | None) -> str | None:
        """Step until the last step; why it was not reached, if it was not."""
        state = self._restored(checkpoints)
        first = int(state.step)
        last = min(self.config.training.steps, self.options.stop_after or self.config.training.steps)
        if first >= last:
            return None
        logger = MetricLogger(
            self.run,
            first,
            self._rates(),
            tensorboard=self.options.tensorboard,
            writes=is_primary(),
            least_loss=self.objective.least_loss,
        )
        bar = tqdm(total=last, initial=first, unit="step", disable=None if is_primary() else True, desc="train")
        with closing(logger), bar, Stopper(self.options.max_minutes) as stopper:
            watch = _Watch(logger, bar, stopper, checkpoints)
            try:
                return self._steps(self.step.place(state), range(first, last), watch)
            except Diverged as error:
                raise self._with_remedy(error, checkpoints) from None

    def _rates(self) -> Rates:
        flops = EVALUATIONS_A_STEP * flops_per_evaluation(self.network)
        return Rates(self.config.training.batch_size, flops, self.options.matrix_rate)

    def _steps(self, state: TrainState, numbers: range, watch: _Watch) -> str | None:
        """Do steps of these numbers; why the last was not reached, if it was not."""
        settings, logger, last = self.config.training, watch.logger, numbers.stop
        if why := self._stalled():
            return why
        for done, batch in enumerate(prefetched(self._batch, numbers), start=numbers.start + 1):
            state, metrics = self.step.run(state, batch)
            logger.collect(metrics)
            watch.bar.update()
            logged = done % settings.log_every == 0 or done == last
            if logged:
                watch.bar.set_postfix_str(logger.close_interval(done))
            why = watch.stopper.reason(done, check_clock=logged)
            stopped = why and f"{why} at step {done} of {settings.steps}; the same command continues"
            due = evaluation_due(done, settings.batch_size, self.cells, settings.evaluate_every)
            if not (due or stopped or done % settings.checkpoint_every == 0 or done == last):
                continue
            stable, score = logger.require_sound(done), None
            if due:
                score = self._evaluate(state, done, logger)
                stopped = stopped or self._stalled()
            if watch.checkpoints is not None and (stable or stopped or done == last):
                self._save(state, done, watch, score)
            if stopped:
                return stopped
        return None

    def _save(self, state: TrainState, done: int, watch: _Watch, score: float | None) -> None:
        fetched = self.step.fetch(state)
        fitted = self._fitted(fetched, watch.logger) if done == self.config.training.steps else None
        more = {"score": score, "fitted": fitted, "privacy": self.private and self.private.record(done)}
        watch.checkpoints.save(fetched, self.config, self.metadata, self.conditions, **more)
        if self.private is not None and done == self.config.training.steps:
            self.private.finish(watch.checkpoints)

    def _batch(self, number: int) -> Any:
        """This process's share of batch `number`, on its way to the devices."""
        if self.private is not None:
            batches = None if self.resident else self.batches
            return self.step.share(self.private.feed(number, len(self.step.placement.devices), batches))
        if self.resident:
            return self.step.share(self.batches.indices_at(number)[self.share].astype(np.int32))
        return self.step.share(self.batches.at(number, self.share))

    def _restored(self, checkpoints: Checkpoints | None) -> TrainState:
        """The newest state there is, on every process."""
        state = self._initial_state()
        with raise_everywhere():
            if checkpoints is not None and checkpoints.latest() is not None:
                state = checkpoints.restore(state)
        return broadcast(state)

    def _evaluate(self, state: TrainState, done: int, logger: MetricLogger) -> float | None:
        """Evaluate the model as it is now; its score, in the process that writes."""
        if self.evaluator is None:
            return None
        with logger.pause():
            row = self.evaluator.evaluate(
                sampled_params(self.step.fetch(state)), done, done * self.config.training.batch_size / self.cells
            )
            logger.evaluation(row)
            self.evaluator.plot()
        return score_of(row)

    def _fitted(self, state: TrainState, logger: MetricLogger) -> Mapping[int, Sequence[int]] | None:
        """Timesteps fitted to the finished model, where its prediction can be drawn from."""
        fit = self.options.fit
        # Held-out cells are somebody's too, and nothing is added to what is fitted to them.
        if fit is None or self.private or not self.metadata.n_held_out or not self.prediction.is_distribution:
            return None
        params = jax.device_get(sampled_params(state))
        with logger.pause():
            model = Model(self.config, self.metadata, params, int(state.step), self.conditions)
            return fit(model, self.prepared.held_out)

    def _stalled(self) -> str | None:
        """Why training ends before its time: the held-out score has stopped getting better."""
        patience = self.config.training.patience
        if patience is None:
            return None
        text = ""
        if self.evaluator is not None:
            rows = self.evaluator.history()
            if has_stalled(rows, patience):
                best = min(rows, key=score_of)
                text = f"no better held-out score in {patience} evaluations; the best is of step {best['step']}"
        return broadcast_text(text) or None

    def _with_remedy(self, error: Diverged, checkpoints: Checkpoints | None) -> Diverged:
        if checkpoints is None:
            return error
        checkpoints.wait()
        step = checkpoints.latest()
        kept = "no checkpoint was made before"
        if step is not None:
            kept = f"the last good checkpoint is kept, {self.run.checkpoints_path / str(step)}"
        return Diverged(f"{error}; lower --learning-rate and train into another folder; {kept}")
