"""Which changes of a preset make better cells: one row an idea and seed, judged on validation cells, kept or dropped.

    python -m benchmarks.recipes --preset demo --steps 1500 --out DIR                all ideas below, three seeds each
    python -m benchmarks.recipes --preset demo --minutes 10 --idea baseline --idea v-prediction --out DIR
    python -m benchmarks.recipes --ideas mine.json --data lung.h5ad --minutes 10 --out DIR

mine.json is a list of {"name": ..., "why": ..., "settings": {"width": 192}, "sampling": {"steps": 10}}. With --minutes
every idea has as many steps as it can do in that time here, found by a short trial, so that what is slower has fewer.
Ideas that differ in sampling alone share their training. The same command goes on where it was stopped, and other ideas
are added to what is there. Test cells are not looked at: that is `benchmarks.fidelity --on test`, once, for the choice.
"""

from __future__ import annotations

import hashlib
import json
import math
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.cell_sets import OF_THE_MODEL, CellSet, Source
from benchmarks.fidelity import Refused, compare_all
from benchmarks.fidelity_pages import mean_over_types
from benchmarks.generators import REAL, Generator, controls, ours_from_preset, training_seconds, whole
from benchmarks.rows import Row, Rows, markdown, put
from scrdit_jax.api import train
from scrdit_jax.config import RunConfig, SamplingConfig, load_preset
from scrdit_jax.devices import describe_devices, use_every_core
from scrdit_jax.errors import BadConfig, ScrditError
from scrdit_jax.evaluation.scores import figure
from scrdit_jax.extras import optional
from scrdit_jax.generation.settings import coefficients_for
from scrdit_jax.io.atomic import check_parents
from scrdit_jax.io.reading import EMBEDDED

BASELINE = "baseline"
TRIAL_STEPS = 60
# An idea is judged by the first two; the others are shown.
JUDGED = {"random_forest_auc": "AUC to 0.5", "mmd_pca": "PCA-50 MMD"}
SHOWN = {"gene_correlation_error": "gene-gene error", "zero_fraction_difference": "zero fraction, difference",
         "library_size_spread": "library size, sd ratio"}  # fmt: skip
RULE = (
    "The rule: over the seeds, paired, an idea is kept if its mean difference from the baseline is better by more than "
    "the differences' standard deviation in its AUC's distance to 0.5 or in PCA-50 MMD, and in neither worse by more "
    "than that; else it is dropped. One seed decides nothing."
)


@dataclass(frozen=True, kw_only=True)
class Idea:
    """A change of the preset's `settings` by bare name, and of `sampling` by SamplingConfig's; `why` it may help."""

    name: str
    why: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    sampling: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, values: Any, source: str) -> Idea:
        """From JSON; BadConfig for anything that is no idea."""
        known = {"name": str, "why": str, "settings": dict, "sampling": dict}
        if not isinstance(values, dict) or "name" not in values:
            raise BadConfig(f"{source}: every idea is an object with a name, not {json.dumps(values)[:60]}")
        for name, value in values.items():
            if name not in known or not isinstance(value, known[name]):
                raise BadConfig(f"{source}: {values['name']}: {name} is wrong; there are {', '.join(known)}")
        return cls(**values)

    def config(self, base: RunConfig) -> RunConfig:
        """The preset with the change; BadConfig, naming the idea, where there is no such setting or sampling."""
        try:
            config = base.with_settings(self.settings)
            coefficients_for(config.diffusion, SamplingConfig(**self.sampling))
        except (ScrditError, TypeError) as error:
            raise BadConfig(f"idea {self.name!r}: {error}") from None
        for name in self.settings:
            if name not in OF_THE_MODEL and name in asdict(base.data):
                raise BadConfig(f"idea {self.name!r}: {name} changes the cells that are judged; leave it out")
        return config


IDEAS = (
    Idea(name=BASELINE, why="the preset as it is"),
    Idea(
        name="squared-error",
        settings={"loss": "squared-error"},
        why="the error of the posterior mean, as for solvers that take the mean",
    ),
    Idea(
        name="squared-error-middle-levels",
        settings={"loss": "squared-error", "log_snr_mean": -1.5, "log_snr_std": 1.5},
        why="what the demo was before cells were drawn",
    ),
    Idea(
        name="middle-levels",
        settings={"log_snr_mean": -1.5, "log_snr_std": 1.5},
        why="less of training at the highest noise, where the first draw is made",
    ),
    Idea(
        name="levels-at-higher-noise",
        settings={"log_snr_mean": -3.5, "log_snr_std": 2.5},
        why="more of training there",
    ),
    Idea(
        name="v-prediction",
        settings={"prediction": "v", "loss": "squared-error"},
        why="identity is decided where epsilon's loss is flat",
    ),
    Idea(name="epsilon", settings={"prediction": "epsilon", "loss": "squared-error"}, why="the paper's"),
    Idea(name="levels-higher", settings={"log_snr_mean": -0.5}, why="more of training where zeros are decided"),
    Idea(name="zeros-at-5", settings={"zero_value": -5.0}, why="less of the variance is zero or not"),
    Idea(name="zeros-at-20", settings={"zero_value": -20.0}, why="more of the variance is zero or not"),
    Idea(name="no-zero-negation", settings={"zero_value": None}, why="what zero-negation brings"),
    Idea(
        name="former-demo",
        settings={"groups": 0, "clip": False, "genes_per_token": 50, "width": 128, "heads": 4},
        why="what the demo was before kinds and sizes were told and tokens were wide",
    ),
    Idea(name="no-groups", settings={"groups": 0}, why="kind and size of a cell made out of noise, and not drawn"),
    Idea(name="no-places", settings={"components": 0}, why="what varies within a kind made out of noise"),
    Idea(name="no-clip", settings={"clip": False}, why="values below 0 are zeros, and any value is left"),
    Idea(name="groups-8", settings={"groups": 8}, why="only the coarsest kinds"),
    Idea(name="groups-96", settings={"groups": 96}, why="kinds as fine as the cells allow"),
    Idea(name="tokens-of-25", settings={"genes_per_token": 25}, why="more, narrower tokens"),
    Idea(name="tokens-of-50", settings={"genes_per_token": 50, "width": 128, "heads": 4}, why="the former network"),
    Idea(name="tokens-of-200", settings={"genes_per_token": 200, "width": 256, "heads": 8}, why="fewer, wider tokens"),
    Idea(name="no-summary-token", settings={"summary_token": False}, why="what the token of all genes brings"),
    Idea(name="wider", settings={"width": 256, "heads": 8}, why="width against depth"),
    Idea(name="deeper", settings={"depth": 6}, why="depth against width"),
    Idea(name="learned-positions", settings={"positions": "learned"}, why="genes next to each other have no order"),
    Idea(name="batch-32", settings={"batch_size": 32}, why="more, noisier steps in equal time"),
    Idea(name="batch-128", settings={"batch_size": 128}, why="fewer, quieter steps in equal time"),
    Idea(name="rate-half", settings={"learning_rate": 0.0005}),
    Idea(name="rate-double", settings={"learning_rate": 0.002}),
    Idea(name="ema-shorter", settings={"ema_decay": 0.99}),
    Idea(name="ema-longer", settings={"ema_decay": 0.999}),
    Idea(name="no-weight-decay", settings={"weight_decay": 0.0}),
    Idea(name="conditional", settings={"condition_on": ["cell_type"]}, why="the network is told the type"),
    Idea(name="unipc-10", sampling={"solver": "unipc", "steps": 10}, why="quality at few evaluations"),
    Idea(name="sde-25", sampling={"solver": "dpmpp-2m-sde", "steps": 25}, why="stochastic against deterministic"),
    Idea(name="sde-100", sampling={"solver": "dpmpp-2m-sde", "steps": 100}, why="stochastic, not to be had cheaply"),
)


def read_ideas(path: Path) -> list[Idea]:
    """From a JSON file, the baseline first; BadConfig where it cannot be understood or names an idea twice."""
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BadConfig(f"{path} cannot be read as JSON ({error}); give a list of ideas") from None
    if not isinstance(values, list):
        raise BadConfig(f"{path} is no list of ideas")
    ideas = [Idea.from_dict(value, str(path)) for value in values]
    if twice := {idea.name for idea in ideas if sum(other.name == idea.name for other in ideas) > 1}:
        raise BadConfig(f"{path} has two ideas called {min(twice)!r}; give each its name")
    return ideas if any(idea.name == BASELINE for idea in ideas) else [IDEAS[0], *ideas]


def select(ideas: Sequence[Idea], names: Sequence[str]) -> list[Idea]:
    """Those of the `names`, all without any, and always the baseline; BadConfig for a name that is not there."""
    for name in names:
        if name not in [idea.name for idea in ideas]:
            raise BadConfig(f"no idea {name!r}; there are {', '.join(idea.name for idea in ideas)}")
    return sorted(
        (idea for idea in ideas if not names or idea.name in {*names, BASELINE}), key=lambda i: i.name != BASELINE
    )


def steps_in(minutes: float, config: RunConfig, cells: CellSet, work: Path) -> int:
    """Steps that `config` can do in so many minutes on this machine, by a trial of 60 that is then forgotten."""
    half = TRIAL_STEPS // 2
    trial = config.replace({"training": {"steps": TRIAL_STEPS, "warmup_steps": 0, "log_every": half}})
    run = whole(train(cells.prepared_for(config), out=work, preset=trial))
    lines = [json.loads(line) for line in run.metrics_path.read_text().splitlines()]
    # The first half compiles; the second is what steps take.
    speed = next(line["cells_per_second"] for line in lines if line["step"] == TRIAL_STEPS)
    compiling = max(training_seconds(run) - TRIAL_STEPS * config.training.batch_size / speed, 0)
    steps = (60 * minutes - compiling) * speed / config.training.batch_size
    if steps < 1:
        raise BadConfig(f"{minutes:g} minutes are too few for one step; compiling takes {compiling:.0f} s")
    return int(steps)


def with_steps(config: RunConfig, steps: int) -> RunConfig:
    """So many steps, the warm-up in proportion to the preset's, one checkpoint at the end."""
    warmup = round(config.training.warmup_steps * min(1.0, steps / config.training.steps))
    return config.replace({"training": {"steps": steps, "warmup_steps": warmup, "checkpoint_every": steps}})


def generators(
    ideas: Iterable[Idea], base: RunConfig, cells: CellSet, budget: Mapping[str, float], out: Path
) -> list[Generator]:
    """One for each idea; `budget` is {"steps": ...} or {"minutes": ...}."""
    trials, found = Rows(out / "trials"), []
    for idea in ideas:
        config = idea.config(base)
        steps = int(budget["steps"]) if "steps" in budget else None
        if steps is None:
            # By what is trained, not by the idea's name: ideas of sampling have the baseline's steps.
            key = f"{cells.name}-{digest_of(config)}-{budget['minutes']:g}"
            folder = out / "work" / "trials" / key
            steps = trials.measured(
                key, lambda c=config, f=folder: {"steps": steps_in(budget["minutes"], c, cells, f)}
            )["steps"]
        found.append(ours_from_preset(idea.name, with_steps(config, steps), out / "work" / "runs", idea.sampling))
    return found


def digest_of(config: RunConfig) -> str:
    """Eight letters for the settings."""
    return hashlib.blake2b(json.dumps(config.to_dict(), sort_keys=True).encode(), digest_size=4).hexdigest()


def judged(row: Row, score: str) -> float:
    """Lower is better."""
    value = row["whole"][score]
    return abs(value - 0.5) if score == "random_forest_auc" else value


def verdict(rows: Sequence[Row], baseline: Sequence[Row]) -> tuple[str, dict[str, tuple[float, float]]]:
    """("kept", "dropped" or "undecided", the mean and deviation of each judged score's difference from the baseline).

    Paired by seed; below 0 the idea is better. See RULE.
    """
    there = {row["seed"]: row for row in baseline}
    pairs = [(row, there[row["seed"]]) for row in rows if row["seed"] in there]
    found = {}
    for score in JUDGED:
        differences = [judged(row, score) - judged(base, score) for row, base in pairs]
        deviation = float(np.std(differences, ddof=1)) if len(differences) > 1 else math.nan
        found[score] = (float(np.mean(differences)) if differences else math.nan, deviation)
    if len(pairs) < 2:
        return "undecided", found
    better = any(mean < -deviation for mean, deviation in found.values())
    worse = any(mean > deviation for mean, deviation in found.values())
    return ("kept" if better and not worse else "dropped"), found


def page(rows: Sequence[Row], ideas: Sequence[Idea], about: Mapping[str, Any]) -> str:
    """The table, one row an idea, for every data set."""
    parts = [f"`{about['command']}`: {about['devices']} x {about['kind']}, {about['seeds']} seeds, validation cells.\n"]
    parts.append(RULE + "\n")
    for name in dict.fromkeys(row["data"] for row in rows):
        of = [row for row in rows if row["data"] == name]
        by_idea = {idea.name: [row for row in of if row["generator"] == idea.name] for idea in ideas}
        lines = [_line(idea, by_idea[idea.name], by_idea[BASELINE]) for idea in ideas]
        real = [row for row in of if row["generator"] == REAL]
        lines.append([f"*{REAL}*", "", "", "", *_scores(real), "", ""])
        header = ["idea", "change", "steps", "training, s", "AUC", "PCA-50 MMD", "MMD by type", *SHOWN.values(),
                  "difference in " + " / ".join(JUDGED.values()), "verdict"]  # fmt: skip
        parts.append(f"## {name}\n\n" + markdown(header, lines))
    reasons = [f"- {idea.name}: {idea.why}" for idea in ideas if idea.why]
    return "\n".join([*parts, "Why each was tried:\n", *reasons]) + "\n"


def _line(idea: Idea, rows: Sequence[Row], baseline: Sequence[Row]) -> list[str]:
    changes = ", ".join(f"{name} {json.dumps(value)}" for name, value in {**idea.settings, **idea.sampling}.items())
    steps = rows[0]["made_by"]["settings"]["training"]["steps"]
    seconds = f"{np.mean([row['fit_seconds'] for row in rows]):.0f}"
    first = [idea.name, changes, f"{steps:,}", seconds, *_scores(rows)]
    if idea.name == BASELINE:
        return [*first, "", ""]
    said, differences = verdict(rows, baseline)
    text = " / ".join(f"{mean:+.4f} ± {deviation:.4f}" for mean, deviation in differences.values())
    return [*first, text, said]


def _scores(rows: Sequence[Row]) -> list[str]:
    whole = [_text([row["whole"][score] for row in rows]) for score in (*JUDGED, *SHOWN)]
    by_type = [value for row in rows if (value := mean_over_types(row, "mmd_pca")) is not None]
    return [*whole[: len(JUDGED)], _text(by_type), *whole[len(JUDGED) :]]


def _text(values: Sequence[float]) -> str:
    if not values:
        return "-"
    spread = np.std(values, ddof=1) if len(values) > 1 else 0.0
    return f"{figure(float(np.mean(values)))} ± {spread:.4f}"


@click.command()
@click.option("--preset", default="demo", show_default=True, help="What every idea is a change of.")
@click.option("--ideas", "path", type=click.Path(path_type=Path), help="JSON file.  [default: those in this module]")
@click.option("--idea", "names", multiple=True, help="Only this one, and the baseline.  Repeatable.")
@click.option("--data", "data", multiple=True, metavar="PATH[:COLUMN]", help=f"Repeatable.  [default: {EMBEDDED}]")
@click.option("--steps", type=click.IntRange(1), help="Training steps of every idea.  [default: the preset's]")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Training time of every idea instead.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder.")
def main(
    preset: str,
    path: Path | None,
    names: tuple[str, ...],
    data: tuple[str, ...],
    steps: int | None,
    minutes: float | None,
    seeds: int,
    out: Path,
) -> None:
    """Train and judge what is missing, then write results.json and table.md."""
    use_every_core()
    try:
        optional("sklearn.decomposition")
        if steps is not None and minutes is not None:
            raise BadConfig("--steps and --minutes both say how long to train; give one of them")
        base = load_preset(preset)
        budget = {"minutes": minutes} if minutes is not None else {"steps": steps or base.training.steps}
        ideas = select(IDEAS if path is None else read_ideas(path), names)
        configs = [idea.config(base) for idea in ideas]
        multiple = math.lcm(*(config.network.gene_multiple for config in configs))
        sources = [Source.parse(text) for text in data or (EMBEDDED,)]
        sets = [CellSet.read(source, base.data, "validation", multiple_of=multiple) for source in sources]
        check_parents(out / "rows")
        rows: list[Row] = []
        for cells in sets:
            chosen = [controls()[0], *generators(ideas, base, cells, budget, out)]
            rows += compare_all([cells], chosen, seeds, out)[0]
        command = shlex.join(["python", "-m", "benchmarks.recipes", *sys.argv[1:]])
        about = {"command": command, "seeds": seeds, **budget, **describe_devices()}
        about |= {"ideas": [asdict(idea) for idea in ideas]}
        put(out / "results.json", (json.dumps({**about, "rows": rows}, indent=1) + "\n").encode())
        put(out / "table.md", page(rows, ideas, about).encode())
    except ScrditError as error:
        raise Refused(" ".join(str(error).split())) from None
    click.echo((out / "table.md").read_text())


if __name__ == "__main__":
    main()
