"""The same network and sampler in PyTorch, in turn with ours: python -m benchmarks.speed.pytorch RUN --out FILE.json.

Same weights, same evaluations, the batch that each side is fastest with; A B C A B C, and the ratio round by round.
Then, for a model that can be drawn from, ours as it samples by default against the peer's own DDIM at a tenth of the
timesteps, cell for cell. Needs the extra `torch`.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import jax
import numpy as np
import torch

from benchmarks.commands import Refused, as_json, one_line_errors, write_files
from benchmarks.speed import torch_dit
from scrdit_jax.benchmarking.run import random_model
from scrdit_jax.benchmarking.timing import Timing, in_turn, matrix_product_rate, seconds_of
from scrdit_jax.checkpoint import Model, load_model
from scrdit_jax.config import DTYPES, SamplingConfig, load_preset
from scrdit_jax.devices import describe_devices, use_every_core
from scrdit_jax.diffusion.predictions import is_distribution, make_prediction
from scrdit_jax.generation.engine import Engine, make_engine
from scrdit_jax.generation.settings import coefficients_for
from scrdit_jax.networks import flops_per_evaluation
from scrdit_jax.sampling.sampler import cell_keys, cell_noise
from scrdit_jax.sampling.solvers import Coefficients

CPU_BATCHES, GPU_BATCHES = (4, 8, 16, 32, 64, 128), (256, 512, 1024, 2048)
LONGEST_BATCH_SECONDS = 4.0
# What both sides do alike; and what the peer would do by itself: the paper's accelerated sampler.
ALIKE, OWN = "dpmpp-2m", {"solver": "ddim", "acceleration": 10.0}
OWN_ROUNDS = 3
AGREEMENT = {"float32": 2e-3, "bfloat16": 0.05}

Sample = Callable[[int], np.ndarray]


def unconditioned(model: Model) -> Model:
    """The model without what it is conditioned on: both sides leave it out."""
    conditions = ("label_embeddings", "state_in", "state_out")
    layers = {name: layer for name, layer in model.params["params"].items() if name not in conditions}
    metadata = replace(model.metadata, variables=(), state=())
    return replace(model, metadata=metadata, params={"params": layers}, conditions=None)


def start_of(engine: Engine, genes: int, cells: int) -> torch.Tensor:
    """The noise our sampler begins cells 0 to `cells` - 1 with, for the peer to begin with."""
    keys = cell_keys(jax.random.key(engine.program.arguments[3]), np.arange(cells, dtype=np.uint32))
    return torch.from_numpy(np.array(cell_noise(keys, 0, genes)))


def fastest_batch(sample: Sample, evaluations: int, batches: tuple[int, ...]) -> tuple[int, dict[int, float]]:
    """(the batch size with most cells a second, cell-evaluations a second by batch size)."""
    found: dict[int, float] = {}
    for batch in batches:
        sample(batch)
        seconds = min(seconds_of(lambda b=batch: sample(b))[0] for _ in range(3))
        found[batch] = batch * evaluations / seconds
        if seconds > LONGEST_BATCH_SECONDS:
            break
    return max(found, key=found.__getitem__), found


def torch_samplers(
    model: Model, engine: Engine, dtype: str, coefficients: Coefficients | None = None
) -> tuple[dict[str, Sample], Callable[[Sample], float]]:
    """Ways for PyTorch to sample a batch, by name; and how far one is from our cells (median of |difference|).

    By the engine's table, or by `coefficients` of their own.
    """
    coefficients = engine.coefficients if coefficients is None else coefficients
    genes = len(model.metadata.genes)
    prediction = make_prediction(model.config.diffusion.prediction, model.metadata.scaling)
    device = "cuda" if torch.cuda.is_available() and jax.local_devices()[0].platform == "gpu" else "cpu"
    network = torch_dit.load_params(torch_dit.DiT(model.config.network, genes, prediction.outputs), model.params)
    network = network.to(device=device, dtype=getattr(torch, dtype))

    def sampler(forward: Callable) -> Sample:
        starts: dict[int, torch.Tensor] = {}

        def sample(batch: int) -> np.ndarray:
            if batch not in starts:
                starts[batch] = start_of(engine, genes, batch).to(device)
            return torch_dit.sample(
                network, forward, prediction, model.metadata.scaling, coefficients, starts[batch],
                dtype=getattr(torch, dtype),
            )  # fmt: skip

        return sample

    def difference(sample: Sample) -> float:
        batch = min(engine.batch_size, 32)
        ours = engine.fetch(engine.dispatch(0), 0, batch)
        return float(np.median(np.abs(ours - sample(batch))))

    return {"eager": sampler(network), "compiled": sampler(torch.compile(network, dynamic=False))}, difference


def side(name: str, batch: int, evaluations: int, timing: Timing, flops: int) -> dict[str, Any]:
    """One side's figures, as plain values."""
    rate = batch * evaluations / timing.median
    return {
        "name": name,
        "batch_size": batch,
        "batch_seconds": list(timing.seconds),
        "cells_per_second": batch / timing.median,
        "cell_evaluations_per_second": rate,
        "flops_per_second": rate * flops,
    }


def against_its_own(model: Model, engine: Engine, dtype: str, batch: int) -> dict[str, Any]:
    """Cells a second of ours, as sampled by default, over those of the peer by OWN, round by round."""
    default = make_engine(model, SamplingConfig(dtype=dtype))
    table = coefficients_for(model.config.diffusion, SamplingConfig(**OWN))
    sample = torch_samplers(model, engine, dtype, table)[0]["eager"]
    ours, theirs = in_turn([lambda: default.fetch(default.dispatch(0), 0, 0), lambda: sample(batch)], OWN_ROUNDS)
    pairs = (np.array(theirs.seconds) / batch) / (np.array(ours.seconds) / default.batch_size)
    return {
        "ours": default.evaluations, "theirs": len(table.timestep),
        "cells_per_second": default.batch_size / ours.median,
        "cells_per_second_of_peer": batch / theirs.median,
        "ratio": {"median": float(np.median(pairs)), "pairs": pairs.tolist()},
    }  # fmt: skip


def require_agreement(
    ways: Mapping[str, Sample], difference: Callable[[Sample], float], dtype: str
) -> dict[str, float]:
    """How far each side's cells are from ours; Refused where that is more than rounding."""
    differences = {name: difference(sample) for name, sample in ways.items()}
    for name, found in differences.items():
        if not found <= AGREEMENT[dtype]:
            raise Refused(f"{name} and our cells differ by {found:.2g}, more than {AGREEMENT[dtype]:g}")
    return differences


def time_sides(engine: Engine, ways: Mapping[str, Sample], flops: int, rounds: int) -> dict[str, Any]:
    """Every side's sweep of batch sizes, its figures, and the ratio to ours round by round."""
    candidates = CPU_BATCHES if jax.local_devices()[0].platform == "cpu" else GPU_BATCHES
    steps, batches, sweeps = engine.evaluations, {}, {}
    for name, sample in ways.items():
        batches[name], sweeps[name] = fastest_batch(sample, steps, candidates)
        click.echo(f"{name}: {', '.join(f'{b}: {rate:,.0f}/s' for b, rate in sweeps[name].items())}")
    calls = [lambda: engine.fetch(engine.dispatch(0), 0, 0)]
    calls += [lambda sample=sample, name=name: sample(batches[name]) for name, sample in ways.items()]
    ours, *theirs = in_turn(calls, rounds)
    sides = [side("scrdit_jax", engine.batch_size, steps, ours, flops)]
    sides += [side(n, batches[n], steps, timing, flops) for n, timing in zip(ways, theirs, strict=True)]
    ratios = {}
    for name, timing in zip(ways, theirs, strict=True):
        per_cell = np.array(timing.seconds) / batches[name], np.array(ours.seconds) / engine.batch_size
        pairs = per_cell[0] / per_cell[1]
        low, high = np.percentile(pairs, [25, 75])
        ratios[name] = {"median": float(np.median(pairs)), "low": low, "high": high, "pairs": pairs.tolist()}
        click.echo(f"{ratios[name]['median']:.2f} times {name} ({low:.2f} to {high:.2f})")
    return {"sweeps": sweeps, "sides": sides, "ratios": ratios}


@click.command()
@click.argument("run", type=click.Path(path_type=Path), required=False)
@click.option("--preset", help="Instead of RUN: this preset's network with random weights.")
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--dtype", type=click.Choice(DTYPES), default="float32", show_default=True)
@click.option("--steps", default=20, show_default=True, help="Network evaluations a cell.")
@click.option("--rounds", default=9, show_default=True)
def main(run: Path | None, preset: str | None, out: Path, dtype: str, steps: int, rounds: int) -> None:
    """Time both sides and write what came out."""
    use_every_core()
    with one_line_errors():
        if (run is None) == (preset is None):
            raise Refused("give a RUN or a --preset, one of them")
        model = random_model(load_preset(preset)) if preset else unconditioned(load_model(run))
    engine = make_engine(model, SamplingConfig(solver=ALIKE, steps=steps, dtype=dtype))
    flops = flops_per_evaluation(engine.network)
    ways, difference = torch_samplers(model, engine, dtype)
    differences = {} if preset else require_agreement(ways, difference, dtype)
    timed = time_sides(engine, ways, flops, rounds)
    own = None
    if is_distribution(model.config.diffusion.prediction):
        own = against_its_own(model, engine, dtype, timed["sides"][1]["batch_size"])
        click.echo(f"{own['ratio']['median']:.1f} times the cells/s of its own DDIM with {own['theirs']} evaluations")
    matrix_rates = {"scrdit_jax": matrix_product_rate(dtype, jax.local_devices()), "torch": torch_matrix_rate(dtype)}
    values = {
        "device": describe_devices(),
        "versions": {"python": platform.python_version(), "jax": jax.__version__, "torch": torch.__version__},
        "network": asdict(model.config.network),
        "weights": "random" if preset else "trained",
        "dtype": dtype,
        "evaluations": steps,
        "median_difference_from_ours": differences,
        "matrix_product_flops_per_second": matrix_rates,
        **timed,
        "by_default": own,
    }
    write_files(out.parent, {out.name: as_json(values)})


def torch_matrix_rate(dtype: str) -> float:
    """FLOP/s of PyTorch's matrix product, as a reading on the machine; see `matrix_product_rate`."""
    cuda = torch.cuda.is_available() and jax.local_devices()[0].platform == "gpu"
    side_length = 8192 if cuda else 2048
    a, b = (torch.randn(side_length, side_length).to("cuda" if cuda else "cpu", getattr(torch, dtype)) for _ in "ab")
    wait = torch.cuda.synchronize if cuda else lambda: None
    (timing,) = in_turn([lambda: (a @ b, wait())[1]], 7)
    return 2 * side_length**3 / timing.median


if __name__ == "__main__":
    main()
