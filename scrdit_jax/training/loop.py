"""The loop around the training step: batches in, metrics and checkpoints out; the same call again continues."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from anndata import AnnData
from tqdm import tqdm

from ..checkpoint import Checkpoints, Model, Run
from ..conditioning.variables import encode
from ..config import RunConfig
from ..data.batches import Batch, Batches
from ..data.marginals import gene_marginals
from ..data.preparing import Prepared
from ..devices import free_memory, usable_devices
from ..diffusion.predictions import is_distribution, make_prediction
from ..errors import BadConfig, Diverged, RunMismatch
from ..networks.registry import flops_per_evaluation, make_network
from .evaluator import HeldOut, ModelScorer, evaluation_due, has_stalled, score_of
from .metric_logger import MetricLogger, Rates
from .multihost import broadcast, broadcast_text, is_primary
from .parallel import ParallelStep, parallelise
from .prefetch import prefetched
from .run_directory import begin, claimed, condition_table, raise_everywhere, require_same_origin
from .state import TrainState, initial_state
from .stopping import Stopper

# A gradient costs about twice what the evaluation costs that it is of.
EVALUATIONS_A_STEP = 3
# Of a device's free memory, what all training cells may take there.
RESIDENT_SHARE = 0.4
# What a usual loss counts as at least where divergence is looked for: a log-likelihood, in nats a gene, may be near 0.
LEAST_LOSS = {"squared-error": 0.0, "likelihood": 0.1}


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a run is trained, and no part of what it is.

    `stop_after` ends this call at that step, `max_minutes` at the first step's end after so long. `judge` makes, of
    the held-out cells, what is asked at every evaluation; `fit`, of the finished model and those cells, the timesteps
    that it carries. `matrix_rate` (FLOP/s of all devices) is what speed is held against. `resident` says whether the
    training cells lie on the devices; None: where those have memory of their own, and enough.
    """

    stop_after: int | None = None
    max_minutes: float | None = None
    tensorboard: bool = False
    judge: Callable[[AnnData], ModelScorer] | None = None
    fit: Callable[[Model, AnnData], Mapping[int, Sequence[int]]] | None = None
    matrix_rate: float | None = None
    resident: bool | None = None


def train(
    prepared: Prepared | Callable[[Run], Prepared], config: RunConfig, out: Path | str, options: Options | None = None
) -> Run:
    """Train into the run folder `out` until `config.training.steps`, continuing from its newest checkpoint.

    Interrupted at any moment and started again, the run ends with the parameters it would have had. `prepared` may be
    a function, which is called once the folder is ours. Raises RunMismatch if `out` holds a run of other settings or
    data, OutputExists if it holds something else or another process trains there, Diverged when the loss is no longer
    finite or has risen for good.
    """
    run, options = Run(Path(out)), options or Options()
    with claimed(run, config):
        with raise_everywhere():
            prepared = prepared(run) if callable(prepared) else prepared
        if broadcast_text(prepared.metadata.digest) != prepared.metadata.digest:
            raise RunMismatch("the processes were not given the same cells; give each the same data")
        session = _Session(run, prepared, config, options)
        with Checkpoints(run, keep=config.training.keep) if is_primary() else nullcontext() as checkpoints:
            return Run(run.path, session.advance(checkpoints))


class _Session:
    """One call of `train`: what stays the same while it steps."""

    def __init__(self, run: Run, prepared: Prepared, config: RunConfig, options: Options) -> None:
        self.run, self.config, self.options, self.metadata = run, config, options, prepared.metadata
        settings = config.training
        training, genes = prepared.train, len(prepared.metadata.genes)
        prediction = make_prediction(config.diffusion.prediction, prepared.metadata.scaling)
        sizes = self.metadata.categories
        self.network: nn.Module = make_network(config.network, genes, prediction.outputs, labels=sizes)
        self.conditions = condition_table(training.obs, prepared.metadata)
        labels = self.conditions.codes if sizes else None
        self.batches = Batches(training.X, settings.batch_size, settings.seed, labels)
        self.cells = training.n_obs
        several = jax.process_count() > 1
        self.devices = (
            jax.devices() if several else usable_devices(settings.batch_size // settings.accumulate, collectives=True)
        )
        self.resident = self._fits() if options.resident is None else options.resident
        resident = Batch(training.X.toarray(), labels) if self.resident else None
        with raise_everywhere():
            self.step: ParallelStep = parallelise(
                self.network, config, prepared.metadata.scaling, self.devices, resident=resident
            )
            if settings.evaluate_every is not None and not prepared.metadata.n_held_out:
                raise BadConfig("no cells are held out to evaluate on; raise --held-out or leave --evaluate-every out")
            if is_primary():
                begin(run, prepared, config)
        share = settings.batch_size // jax.process_count()
        self.share = slice(jax.process_index() * share, (jax.process_index() + 1) * share)
        self.state = initial_state(self.network, genes, settings, gene_bias=gene_marginals(training.X))
        self.held_out, self.prepared_held_out = None, prepared.held_out
        if settings.evaluate_every is not None and is_primary():
            held_out = prepared.held_out.copy()
            judge = None if options.judge is None else options.judge(held_out)
            labels = encode(held_out.obs, self.metadata.variables) if sizes else None
            self.held_out = HeldOut(
                run,
                self.network,
                config,
                prepared.metadata,
                Batch(held_out.X, labels),
                judge,
                conditions=self.conditions,
            )

    def _fits(self) -> bool:
        """Whether the training cells may lie on the devices, which are then fed row numbers only."""
        device = self.devices[0]
        if device.platform == "cpu" or not self.batches.in_memory:
            return False
        return self.cells * self.network.genes * 4 < RESIDENT_SHARE * free_memory(device)

    def advance(self, checkpoints: Checkpoints | None) -> str | None:
        """Step until the last step; why it was not reached, if it was not."""
        state = self._restored(checkpoints)
        first = int(state.step)
        last = min(self.config.training.steps, self.options.stop_after or self.config.training.steps)
        if first >= last:
            return None
        flops = EVALUATIONS_A_STEP * flops_per_evaluation(self.network)
        rates = Rates(self.config.training.batch_size, flops, self.options.matrix_rate)
        logger = MetricLogger(
            self.run, first, rates, tensorboard=self.options.tensorboard, writes=is_primary(),
            least_loss=LEAST_LOSS[self.config.training.loss],
        )  # fmt: skip
        bar = tqdm(total=last, initial=first, unit="step", disable=None if is_primary() else True, desc="train")
        with closing(logger), bar, Stopper(self.options.max_minutes) as stopper:
            try:
                return self._steps(self.step.place(state), first, last, checkpoints, logger, stopper, bar)
            except Diverged as error:
                raise self._with_remedy(error, checkpoints) from None

    def _steps(
        self,
        state: TrainState,
        first: int,
        last: int,
        checkpoints: Checkpoints | None,
        logger: MetricLogger,
        stopper: Stopper,
        bar: tqdm,
    ) -> str | None:
        settings = self.config.training
        if why := self._stalled():
            return why
        for done, fed in enumerate(prefetched(self._feed, first, last), start=first + 1):
            state, metrics = self.step.run(state, fed)
            logger.collect(metrics)
            bar.update()
            logged = done % settings.log_every == 0 or done == last
            if logged:
                bar.set_postfix_str(logger.close_interval(done))
            why = stopper.reason(done, look=logged)
            stopped = why and f"{why} at step {done} of {settings.steps}; the same command continues"
            due = evaluation_due(done, settings.batch_size, self.cells, settings.evaluate_every)
            if not (due or stopped or done % settings.checkpoint_every == 0 or done == last):
                continue
            calm, score = logger.require_sound(done), None
            if due:
                score = self._evaluate(state, done, logger)
                stopped = stopped or self._stalled()
            if checkpoints is not None and (calm or stopped or done == last):
                fetched = self.step.fetch(state)
                fitted = self._fitted(fetched, logger) if done == settings.steps else None
                checkpoints.save(fetched, self.config, self.metadata, self.conditions, score=score, fitted=fitted)
            if stopped:
                return stopped
        return None

    def _feed(self, number: int) -> Any:
        """What step `number` + 1 is fed, on its way to the devices."""
        if self.resident:
            return self.step.feed(self.batches.indices_at(number)[self.share].astype(np.int32))
        return self.step.feed(self.batches.at(number, self.share))

    def _restored(self, checkpoints: Checkpoints | None) -> TrainState:
        """The newest state there is, on every process."""
        state = self.state
        with raise_everywhere():
            if checkpoints is not None and checkpoints.latest() is not None:
                require_same_origin(checkpoints, self.config, self.metadata)
                state = checkpoints.restore(state)
        return broadcast(state)

    def _evaluate(self, state: TrainState, done: int, logger: MetricLogger) -> float | None:
        """Look at the held-out cells; the score, in the process that writes."""
        if self.held_out is None:
            return None
        with logger.pause():
            fetched = self.step.fetch(state)
            epoch = done * self.config.training.batch_size / self.cells
            row = self.held_out.look(fetched.params if fetched.ema is None else fetched.ema, done, epoch, logger)
        return score_of(row)

    def _fitted(self, state: TrainState, logger: MetricLogger) -> Mapping[int, Sequence[int]] | None:
        """Timesteps fitted to the finished model, where its prediction can be drawn from."""
        fit = self.options.fit
        if fit is None or not self.metadata.n_held_out or not is_distribution(self.config.diffusion.prediction):
            return None
        params = jax.device_get(state.params if state.ema is None else state.ema)
        with logger.pause():
            return fit(
                Model(self.config, self.metadata, params, int(state.step), self.conditions), self.prepared_held_out
            )

    def _stalled(self) -> str | None:
        """Why training ends before its time: the held-out score has stopped getting better."""
        patience = self.config.training.patience
        if patience is None:
            return None
        text = ""
        if self.held_out is not None:
            rows = self.held_out.rows()
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
