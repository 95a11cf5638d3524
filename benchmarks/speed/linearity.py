"""Seconds a cell at 1,000 and at 100,000 cells, a small network, once compiled.

python -m benchmarks.speed.linearity --out FILE.json
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from benchmarks.commands import as_json, write_files
from scrdit_jax.benchmarking.run import random_model
from scrdit_jax.benchmarking.timing import in_turn
from scrdit_jax.config import SamplingConfig, load_preset
from scrdit_jax.devices import describe_devices, use_every_core
from scrdit_jax.generation.composition import dense_batches
from scrdit_jax.generation.engine import make_engine

SMALL = {"genes": 200, "genes_per_token": 20, "width": 32, "depth": 1, "heads": 2}
BATCH, MOST_TIMES = 250, 100


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--cells", default=100_000, show_default=True, help="In one run; and in a hundred of a hundredth.")
@click.option("--rounds", default=5, show_default=True)
def main(out: Path, cells: int, rounds: int) -> None:
    """A hundred runs of a hundredth of the cells, then one of all, in turn."""
    use_every_core()
    model = random_model(load_preset("demo").with_settings(SMALL))
    engine = make_engine(model, SamplingConfig(steps=10, batch_size=BATCH))

    def sample(cells: int, times: int = 1) -> None:
        for _ in range(times):
            for _batch in dense_batches(engine, cells):
                pass

    times = max(1, min(MOST_TIMES, cells // BATCH))
    few = cells // times
    timings = in_turn([lambda: sample(few, times), lambda: sample(cells)], rounds)
    seconds = [np.array(timing.seconds) / cells for timing in timings]
    ratios = seconds[1] / seconds[0]
    values = {
        "device": describe_devices(),
        "settings": SMALL,
        "evaluations": engine.evaluations,
        "seconds_per_cell": {str(n): float(np.median(s)) for n, s in zip((few, cells), seconds, strict=True)},
        "ratio": {"median": float(np.median(ratios)), "rounds": ratios.tolist()},
    }
    click.echo(f"{values['seconds_per_cell']}, ratio {values['ratio']['median']:.3f}")
    write_files(out.parent, {out.name: as_json(values)})


if __name__ == "__main__":
    main()
