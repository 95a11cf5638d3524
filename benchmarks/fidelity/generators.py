"""What is compared: controls, peers and ours, trained anew or already; each makes cells and is timed."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from anndata import AnnData

import scrdit_jax as scrdit
from benchmarks.commands import slug
from benchmarks.fidelity.cell_sets import OF_THE_MODEL, SIDES, CellSet
from benchmarks.peers import PEERS, Made, Skipped
from scrdit_jax.checkpoint import Model, Run
from scrdit_jax.config import OPERATIONAL, RunConfig
from scrdit_jax.data.splitting import same_split
from scrdit_jax.errors import BadConfig, ScrditError
from scrdit_jax.evaluation.comparison import REAL, SHUFFLED, shuffle_genes
from scrdit_jax.evaluation.metrics import dense
from scrdit_jax.families import FamilyFolder, is_family, load, models_of
from scrdit_jax.training.evaluator import VALIDATION
from scrdit_jax.training.metric_logger import read_lines

# A schedule: timesteps fitted to the model by `scrdit schedule` when cells are made.
FIT = "fit"
# A thousand evaluations a cell cost as much as all other samplers together.
MANY_EVALUATIONS = 200


@dataclass(frozen=True)
class Generator:
    """`make(real cells, how many, seed)`; `record` is what decides the cells beside those, as plain values for JSON."""

    name: str
    record: Mapping[str, Any]
    make: Callable[[CellSet, int, int], Made]

    @property
    def is_slow(self) -> bool:
        """Whether it is a sampler of so many evaluations a cell that its cells are to be few."""
        return self.record.get("sampling", {}).get("steps", 0) >= MANY_EVALUATIONS


def controls() -> list[Generator]:
    """Training cells, which nothing can be expected to beat, and the same with each gene permuted on its own."""

    def real(cells: CellSet, count: int, seed: int) -> Made:
        rows = np.random.default_rng([seed, 2]).permutation(len(cells.training))[:count]
        return Made(cells.training[rows], None if cells.training_types is None else cells.training_types[rows])

    def shuffled(cells: CellSet, count: int, seed: int) -> Made:
        return Made(shuffle_genes(real(cells, count, seed).cells, np.random.default_rng([seed, 3])))

    return [Generator(REAL, {}, real), Generator(SHUFFLED, {}, shuffled)]


def peer(name: str) -> Generator:
    """The peer of that name."""
    return Generator(name, {"settings": dict(PEERS[name].settings)}, PEERS[name])


@dataclass(frozen=True)
class Sampler:
    """How ours are sampled: `options` are SamplingConfig's, `suffix` goes to the generator's name in the tables."""

    options: dict[str, Any] = field(default_factory=dict)
    suffix: str = ""

    @classmethod
    def parse(cls, text: str) -> Sampler:
        """SOLVER[:EVALUATIONS[:SCHEDULE]]."""
        solver, _, rest = text.partition(":")
        steps, _, schedule = rest.partition(":")
        options: dict[str, Any] = {"solver": solver}
        if steps:
            if not steps.isdecimal():
                raise BadConfig(f"--sampler {text}: {steps!r} is no number of evaluations; write e.g. {solver}:10")
            options["steps"] = int(steps)
        if schedule:
            options["schedule"] = schedule
        evaluations = "1 evaluation" if steps == "1" else f"{steps} evaluations"
        words = [solver, *([evaluations] if steps else []), *([schedule] if schedule else [])]
        return cls(options, ", " + ", ".join(words))

    def computed_in(self, dtype: str) -> Sampler:
        """The same with a network that computes in `dtype`."""
        return Sampler(self.options | {"dtype": dtype}, f"{self.suffix}, {dtype}")


def ours_from_preset(name: str, config: RunConfig, work: Path, sampling: Mapping[str, Any]) -> Generator:
    """Trained anew with every seed, into a folder below `work`; runs that are there are gone on with."""
    settings = config.to_dict()
    settings["data"] = {key: settings["data"][key] for key in OF_THE_MODEL}
    for key in OPERATIONAL:
        del settings["training"][key]
    digest = hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=4).hexdigest()

    def make(cells: CellSet, count: int, seed: int) -> Made:
        folder = work / f"{slug(cells.name)}.{digest}.{seed}"
        # Held-out cells are for the comparison: none may stop the training or choose its checkpoint.
        training = {"seed": seed, "evaluate_every": None, "patience": None}
        run = require_finished(
            scrdit.train(cells.prepared_for(config), out=folder, preset=config.replace({"training": training}))
        )
        return sampled(run.path, cells, count, seed, sampling)

    return Generator(name, {"settings": settings, "sampling": dict(sampling)}, make)


def ours_from_run(name: str, path: Path, sampling: Mapping[str, Any]) -> Generator:
    """A run, or a family of runs, that is there already: seeds are of its cells alone."""
    model = models_of(load(path))[0]

    def make(cells: CellSet, count: int, seed: int) -> Made:
        check_comparable(cells, path, model)
        return sampled(path, cells, count, seed, sampling)

    training_seed = model.config.training.seed
    return Generator(name, {"step": model.step, "seed": training_seed, "sampling": dict(sampling)}, make)


def check_comparable(cells: CellSet, path: Path, model: Model) -> None:
    """Skipped, with the reason, where a run's cells cannot be compared with these: they are others, or it saw them."""
    here, there = cells.prepared.metadata, model.metadata
    if here.digest != there.digest:
        raise Skipped(f"was trained on other cells ({there.source})")
    if set(here.genes) != set(there.genes) or not same_split(here.settings, there.settings):
        raise Skipped("was trained with other genes or another split")
    sides = fair_sides(path, model.config)
    if cells.side not in sides:
        raise Skipped(
            "held-out cells of this comparison were scored against in its training (--evaluate-every); compare it "
            f"--on {' or '.join(sides)}"
        )


def fair_sides(path: Path, config: RunConfig) -> tuple[str, ...]:
    """The sides of the held-out cells that a run or family may be compared on; validation is for choices, so always.

    Evaluations in training are of validation cells, which every row of the log says. Earlier versions evaluated on all
    held-out cells, and so did, as far as anyone knows, a model that comes without its log.
    """
    if config.training.evaluate_every is None:
        return tuple(SIDES)
    rows = [row for run in runs_of(path) for row in read_lines(run.evaluations_path)]
    of_validation = bool(rows) and all(row.get("on") == VALIDATION for row in rows)
    return ("validation", "test") if of_validation else ("validation",)


def runs_of(path: Path) -> list[Run]:
    """The runs of a family, or the one run that is there."""
    return [Run(path / member) for member in (FamilyFolder.read(path).members.values() if is_family(path) else [""])]


def sampled(run: Path, cells: CellSet, count: int, seed: int, sampling: Mapping[str, Any]) -> Made:
    with tempfile.TemporaryDirectory() as folder:
        if sampling.get("schedule") == FIT:
            sampling = {**sampling, "schedule": str(Path(folder) / "timesteps.json")}
            scrdit.fit_schedule(run, sampling["steps"], solver=sampling["solver"], out=sampling["schedule"])
        scrdit.sample(run, 1, seed=seed, **sampling)  # compiles; kept for the process
        started = time.perf_counter()
        made = scrdit.sample(run, count, seed=seed, **sampling)
        seconds = time.perf_counter() - started
    return as_made(made, cells, run, seed, count / seconds)


def as_made(made: AnnData, cells: CellSet, run: Path, seed: int, cells_per_second: float | None) -> Made:
    """Cells that the run made, in random order and with the genes of `cells` in theirs."""
    count = made.n_obs
    key = cells.prepared.metadata.cell_type_key
    # Cells of a model that is conditioned on the types come type by type.
    order = np.random.default_rng([seed, 9]).permutation(count)
    types = made.obs[key].astype(str).to_numpy()[order] if key in made.obs else None
    runs = runs_of(run)
    # A model that was trained elsewhere has no log.
    logged = all(run.metrics_path.is_file() for run in runs)
    # The order of genes is that of the compared cells, whatever the network's.
    genes = made.var_names.get_indexer(cells.prepared.cells.var_names)
    return Made(
        dense(made.X[order][:, genes]),
        types,
        sum(map(training_seconds, runs)) if logged else None,
        cells_per_second,
    )


def require_finished(run: Run) -> Run:
    """The run; ScrditError where its training was stopped before its end: what it makes is not the recipe's."""
    if run.stopped is not None:
        raise ScrditError(f"stopped: {run.stopped}")
    return run


def training_seconds(run: Run) -> float:
    """Seconds that all steps of a run took, compiling included, from its log."""
    batch, before, seconds = run.config().training.batch_size, 0, 0.0
    for line in map(json.loads, run.metrics_path.read_text().splitlines()):
        if "cells_per_second" in line:
            seconds += (line["step"] - before) * batch / line["cells_per_second"]
            before = line["step"]
    return seconds
