"""A benchmark from its beginning to its report: the model, the real cells, the folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ..checkpoint import Model, Run, load_model
from ..config import RunConfig
from ..data.metadata import DatasetMetadata
from ..data.normalizing import Normalization
from ..data.scaling import Scaling
from ..diffusion.predictions import is_distribution, make_prediction
from ..evaluation.metrics import dense
from ..extras import optional
from ..generation.settings import default_dtype
from ..io.reading import read_cells
from ..networks import make_network
from .cases import choose, standard_cases
from .harness import Settings, benchmark, conditions
from .results import open_results, write_report

# About what zero-negated log expression has; with random weights only the speed is measured.
SCALING = Scaling(-10.0, -8.0, 4.0)


def random_model(config: RunConfig) -> Model:
    """A model of `config` with random weights and genes that have no names; for timing alone."""
    metadata = random_metadata(config)
    genes = config.data.genes
    prediction = make_prediction(config.diffusion.prediction, metadata.scaling)
    network = make_network(config.network, genes, prediction.outputs)

    @jax.jit
    def begin():
        params = network.init(jax.random.key(0), jnp.zeros((1, genes)), jnp.ones((1,), jnp.int32))
        leaves, structure = jax.tree.flatten(params)
        keys = jax.random.split(jax.random.key(1), len(leaves))
        # Layers that begin at zero would be passed through untouched.
        noisy = [leaf + 0.02 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
        return jax.tree.unflatten(structure, noisy)

    return Model(config, metadata, jax.tree.map(np.asarray, begin()), 0)


def random_metadata(config: RunConfig) -> DatasetMetadata:
    """What is known of the cells of a `random_model`: their scale, and genes that have no names."""
    genes = config.data.genes
    return DatasetMetadata(
        genes=tuple(f"gene_{i}" for i in range(genes)),
        normalization=Normalization("none", None, False, "no cells: random weights"),
        scaling=replace(SCALING, quantiles=_even_bins(genes, config.data.quantiles)),
        cell_type_key=None,
        cell_types={},
        n_train=0,
        n_held_out=0,
        settings=config.data,
        source="random weights",
        digest="",
    )


def _even_bins(genes: int, bins: int) -> tuple[tuple[float, ...], ...] | None:
    return (tuple(np.linspace(0.5, 5.0, bins + 1).tolist()),) * genes if bins else None


def held_out_cells(run: Path, model: Model) -> np.ndarray:
    """The cells a run never trained on, (cell, gene) on the log scale, genes in the model's order."""
    cells = read_cells(Run(run).held_out_path)
    return dense(cells[:, list(model.metadata.genes)].X)


def run_benchmark(source: Path | RunConfig, out: Path, settings: Settings, *, patterns: Sequence[str] = ()) -> str:
    """Benchmark a trained run, or a config with random weights, into the folder `out`; returns the table (Markdown).

    Started again, it measures what is missing. Compiled programs are not taken from disk: compiling is timed too.
    """
    for module in ("sklearn", "matplotlib.figure"):
        optional(module)  # before the work, not after it
    real = None
    if isinstance(source, RunConfig):
        model = random_model(source)
    else:
        model = load_model(source)
        if Run(source).held_out_path.is_file():
            real = held_out_cells(source, model)
    settings = replace(settings, dtype=settings.dtype or default_dtype())
    draws = is_distribution(model.config.diffusion.prediction)
    cases = choose(standard_cases(model.config.diffusion.timesteps, fitted=real is not None, draws=draws), patterns)
    weights = "trained" if isinstance(source, Path) else "random"
    results = open_results(out, conditions(model, settings, weights=weights, cells=0 if real is None else len(real)))
    kept = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        benchmark(model, cases, settings, real=real, results=results)
    finally:
        jax.config.update("jax_enable_compilation_cache", kept)
    return write_report(results)
