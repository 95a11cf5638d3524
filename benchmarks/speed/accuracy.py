"""How far apart the ways to compute the same cells are: python -m benchmarks.speed.accuracy RUN.

Other dtypes against float32, the conditioning table against conditioning every cell, and, where there is one, the
accelerator against the CPU (start it with JAX_PLATFORMS=cuda,cpu). Exits with status 1 if one is too far. How far int8
and fp8 are is said and not judged: whether their cells are as good is for scores to say (benchmarks.fidelity --dtype).
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import click
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.commands import as_json, write_files
from scrdit_jax.checkpoint import Model, load_model
from scrdit_jax.config import SamplingConfig
from scrdit_jax.devices import describe_devices, use_every_core
from scrdit_jax.errors import MissingExtra
from scrdit_jax.generation.composition import dense_batches
from scrdit_jax.generation.conditions import draw_conditions, new_conditions, states_of
from scrdit_jax.generation.engine import make_engine
from scrdit_jax.generation.program import network_of
from scrdit_jax.generation.quantisation import EIGHT_BITS
from scrdit_jax.generation.settings import coefficients_for
from scrdit_jax.registry import PREDICTIONS
from scrdit_jax.sampling.sampler import cell_keys, integrate

# Of posterior means: a drawn gene that falls on the other side of its threshold would be no rounding.
SOLVER, CELLS, STEPS = "dpmpp-2m", 64, 20
# Of log expression, after all steps. A gene near zero may fall on either side of it, hence a share and not a maximum.
NEAR = 0.1
TOLERANCES = {"table against per cell": 0.001, "bfloat16 against float32": 0.005, "accelerator against CPU": 0.005}


def unrounded(model: Model) -> Model:
    """The model without whole counts in the end: one that is rounded the other way would be no rounding of floats.

    One whose prediction is of counts is left as it is.
    """
    if PREDICTIONS[model.config.diffusion.prediction].needs_library_size:
        return model
    normalization = replace(model.metadata.normalization, method="none")
    return replace(model, metadata=replace(model.metadata, normalization=normalization))


def cells_of(model: Model, devices: list[jax.Device] | None = None, **options) -> np.ndarray:
    """The first CELLS cells of `model`."""
    options = {"dtype": "float32"} | options
    engine = make_engine(
        model, SamplingConfig(solver=SOLVER, steps=STEPS, batch_size=CELLS, **options), devices=devices
    )
    return next(dense_batches(engine, CELLS))


def conditioned_one_by_one(model: Model) -> np.ndarray:
    """The same cells with the timestep and the state of every cell embedded for itself, as in training."""
    (network, prediction), params = network_of(model), jax.device_put(model.params)
    keys = cell_keys(jax.random.key(0), jnp.arange(CELLS))
    known = new_conditions(model, np.zeros((1, 0), np.int32))
    states = draw_conditions(known, jnp.zeros(CELLS, jnp.int32), keys, states_of(model))
    prediction = prediction.for_cells(states.log_sizes)
    table = coefficients_for(model.config.diffusion, SamplingConfig(solver=SOLVER, steps=STEPS))

    def predict_clean(noisy, alpha_bar, timestep):
        predicted = network.apply(params, noisy, jnp.full(len(noisy), timestep), None, states.states)
        return prediction.clean(noisy, predicted, alpha_bar)

    run = jax.jit(lambda: integrate(predict_clean, keys, table, jnp.asarray(table.timestep), genes=network.genes).cells)
    return np.asarray(model.metadata.scaling.unscale(run()))


def share_far(a: np.ndarray, b: np.ndarray) -> float:
    """Of all values, the share that differ by more than NEAR."""
    return float(np.mean(np.abs(a - b) > NEAR))


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path))
def main(run: Path, out: Path | None) -> None:
    """Compare, print, write, and exit with 1 where a tolerance is passed."""
    use_every_core()
    model = unrounded(load_model(run))
    plain = cells_of(model)
    found = {
        "table against per cell": share_far(plain, conditioned_one_by_one(model)),
        "bfloat16 against float32": share_far(plain, cells_of(model, dtype="bfloat16")),
    }
    if jax.local_devices()[0].platform != "cpu":
        found["accelerator against CPU"] = share_far(
            plain, cells_of(model, devices=jax.local_devices(backend="cpu")[:1])
        )
    try:
        found |= {f"{dtype} against float32": share_far(plain, cells_of(model, dtype=dtype)) for dtype in EIGHT_BITS}
    except MissingExtra as missing:
        click.echo(f"without {', '.join(EIGHT_BITS)}: {missing}", err=True)
    for name, share in found.items():
        limit = f" (allowed {TOLERANCES[name]:.1%})" if name in TOLERANCES else ""
        click.echo(f"{name}: {share:.2%} of values differ by more than {NEAR}{limit}")
    if out is not None:
        values = {"device": describe_devices(), "near": NEAR, "share_far": found, "allowed": TOLERANCES}
        write_files(out.parent, {out.name: as_json(values)})
    sys.exit(any(found[name] > TOLERANCES[name] for name in TOLERANCES if name in found))


if __name__ == "__main__":
    main()
