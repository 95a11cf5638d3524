"""Which changes of a preset make better cells: one row an idea and seed, on validation cells, kept or dropped.

    python -m benchmarks.fidelity.recipes --preset demo --steps 1500 --out DIR      all of ideas.json, three seeds each
    python -m benchmarks.fidelity.recipes --preset demo --minutes 10 --idea baseline --idea v-prediction --out DIR
    python -m benchmarks.fidelity.recipes --ideas mine.json --data lung.h5ad --minutes 10 --out DIR

mine.json is a list of {"name": ..., "why": ..., "settings": {"width": 192}, "sampling": {"steps": 10}}. With --minutes
every idea has as many steps as it can do in that time here, found by a short trial, so that what is slower has fewer.
Ideas that differ in sampling alone share their training. The same command goes on where it was stopped, and other ideas
are added to what is there. Test cells are not used: that is `benchmarks.fidelity --on test`, once, for the choice.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.commands import as_json, command_line, one_line_errors, write_files
from benchmarks.fidelity.cell_sets import OF_THE_MODEL, SYNTAX, CellSet, Source
from benchmarks.fidelity.comparing import STORE, compare_all
from benchmarks.fidelity.generators import Generator, controls, ours_from_preset, require_finished, training_seconds
from benchmarks.fidelity.tables import difference_text, mean_over_types
from scrdit_jax.api import train
from scrdit_jax.benchmarking.store import ResultStore, Row
from scrdit_jax.config import RunConfig, SamplingConfig, load_preset
from scrdit_jax.devices import describe_devices, use_every_core
from scrdit_jax.errors import BadConfig, ScrditError
from scrdit_jax.evaluation.comparison import REAL, Estimate, estimate_text
from scrdit_jax.evaluation.tables import markdown_table
from scrdit_jax.extras import optional
from scrdit_jax.generation.settings import coefficients_for
from scrdit_jax.io.reading import EMBEDDED

BASELINE = "baseline"
# These decide whether an idea is kept; the others are shown.
DECIDING = {"random_forest_auc": "AUC to 0.5", "mmd_pca": "PCA-50 MMD"}
SHOWN = {"gene_correlation_error": "gene-gene error", "zero_fraction_difference": "zero fraction, difference",
         "library_size_spread": "library size, sd ratio"}  # fmt: skip
RULE = (
    "The rule: over the seeds, paired, an idea is kept if its mean difference from the baseline is better by more than "
    "the differences' standard deviation in its AUC's distance to 0.5 or in PCA-50 MMD, and in neither worse by more "
    "than that; else it is dropped. One seed decides nothing."
)
IDEAS = Path(__file__).parent / "ideas.json"
TRIAL_STEPS = 60


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
                raise BadConfig(f"idea {self.name!r}: {name} changes the cells that are compared; leave it out")
        return config


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
    if not any(idea.name == BASELINE for idea in ideas):
        ideas = [Idea(name=BASELINE), *ideas]
    return ideas


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
    run = require_finished(train(cells.prepared_for(config), out=work, preset=trial))
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
    ideas: Iterable[Idea],
    base: RunConfig,
    cells: CellSet,
    budget: Mapping[str, float],
    store: ResultStore,
    *,
    work: Path,
) -> list[Generator]:
    """One for each idea; `budget` is {"steps": ...} or {"minutes": ...}, whose steps are found once."""
    found = []
    for idea in ideas:
        config = idea.config(base)
        steps = int(budget["steps"]) if "steps" in budget else None
        if steps is None:
            # By what is trained, not by the idea's name: ideas of sampling have the baseline's steps.
            key = f"{cells.name}-{digest_of(config)}-{budget['minutes']:g}"
            steps = store.shared(
                f"steps.{key}",
                lambda c=config, k=key: steps_in(budget["minutes"], c, cells, work / "trials" / k),
            )
        found.append(ours_from_preset(idea.name, with_steps(config, steps), work / "runs", idea.sampling))
    return found


def digest_of(config: RunConfig) -> str:
    """Eight letters for the settings."""
    return hashlib.blake2b(json.dumps(config.to_dict(), sort_keys=True).encode(), digest_size=4).hexdigest()


def deciding_score(row: Row, score: str) -> float:
    """Lower is better."""
    value = row["whole"][score]
    return abs(value - 0.5) if score == "random_forest_auc" else value


def verdict(rows: Sequence[Row], baseline: Sequence[Row]) -> tuple[str, dict[str, Estimate]]:
    """("kept", "dropped" or "undecided", the difference of each deciding score from the baseline's).

    Paired by seed; below 0 the idea is better. See RULE.
    """
    there = {row["seed"]: row for row in baseline}
    pairs = [(row, there[row["seed"]]) for row in rows if row["seed"] in there]
    if not pairs:
        return "undecided", dict.fromkeys(DECIDING, Estimate(math.nan, math.nan))
    found = {
        score: Estimate.of([deciding_score(row, score) - deciding_score(base, score) for row, base in pairs])
        for score in DECIDING
    }
    if len(pairs) < 2:
        return "undecided", found
    better = any(difference.mean < -difference.sd for difference in found.values())
    worse = any(difference.mean > difference.sd for difference in found.values())
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
                  "difference in " + " / ".join(DECIDING.values()), "verdict"]  # fmt: skip
        parts.append(f"## {name}\n\n" + markdown_table(header, lines))
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
    return [*first, " / ".join(map(difference_text, differences.values())), said]


def _scores(rows: Sequence[Row]) -> list[str]:
    whole = [_text([row["whole"][score] for row in rows]) for score in (*DECIDING, *SHOWN)]
    by_type = [value for row in rows if (value := mean_over_types(row, "mmd_pca")) is not None]
    return [*whole[: len(DECIDING)], _text(by_type), *whole[len(DECIDING) :]]


def _text(values: Sequence[float]) -> str:
    return estimate_text(Estimate.of(values)) if values else "-"


@click.command()
@click.option("--preset", default="demo", show_default=True, help="What every idea is a change of.")
@click.option(
    "--ideas", "path", type=click.Path(path_type=Path), default=IDEAS, help="JSON file.  [default: ideas.json]"
)
@click.option("--idea", "names", multiple=True, help="Only this one, and the baseline.  Repeatable.")
@click.option("--data", "data", multiple=True, metavar=SYNTAX, help=f"Repeatable.  [default: {EMBEDDED}]")
@click.option("--steps", type=click.IntRange(1), help="Training steps of every idea.  [default: the preset's]")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Training time of every idea instead.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder.")
def main(
    preset: str,
    path: Path,
    names: tuple[str, ...],
    data: tuple[str, ...],
    steps: int | None,
    minutes: float | None,
    seeds: int,
    out: Path,
) -> None:
    """Train and score what is missing, then write results.json and table.md."""
    use_every_core()
    with one_line_errors():
        optional("sklearn.decomposition")
        if steps is not None and minutes is not None:
            raise BadConfig("--steps and --minutes both say how long to train; give one of them")
        base = load_preset(preset)
        budget = {"minutes": minutes} if minutes is not None else {"steps": steps or base.training.steps}
        ideas = select(read_ideas(path), names)
        configs = [idea.config(base) for idea in ideas]
        multiple = math.lcm(*(config.network.gene_multiple for config in configs))
        sources = [Source.parse(text) for text in data or (EMBEDDED,)]
        sets = [CellSet.read(source, base.data, "validation", multiple_of=multiple) for source in sources]
        store, work, rows = ResultStore(out / STORE), out / "work", []
        for cells in sets:
            chosen = [controls()[0], *generators(ideas, base, cells, budget, store, work=work)]
            rows += compare_all([cells], chosen, seeds, store, work)[0]
        about = {"command": command_line("benchmarks.fidelity.recipes"), "seeds": seeds, **budget, **describe_devices()}
        about |= {"ideas": [asdict(idea) for idea in ideas]}
        table = page(rows, ideas, about)
        write_files(out, {"results.json": as_json({**about, "rows": rows}), "table.md": table})
        click.echo(table)


if __name__ == "__main__":
    main()
