"""From what are new cells' states to be drawn? The mixture beside networks, smoothed training cells and real cells.

    python -m benchmarks.fidelity.priors --out benchmarks/results/DEVICE/priors \
        --data pbmc3k --data lung.h5ad --data kang.h5ad:condition

A state is the first PC scores, log number of detected genes and log library size, in columns of mean 0 and deviation 1
of the training cells. Drawn states are compared with those of the validation cells, as many and of the same
combinations of categories; `training cells` is the floor: what real cells that the priors have seen score.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import click
import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist, pdist
from scipy.special import logsumexp

from benchmarks.commands import as_json, command_line, one_line_errors, write_files
from benchmarks.fidelity.cell_sets import Source
from benchmarks.fidelity.prior_nets import Autoregressive, Diffusion
from scrdit_jax.conditioning.derived import principal_axes
from scrdit_jax.conditioning.prior import draw_mixture, fit_mixture, log_prob
from scrdit_jax.config import DataConfig
from scrdit_jax.data.sources import load_prepared
from scrdit_jax.data.splitting import validation_mask
from scrdit_jax.devices import describe_devices
from scrdit_jax.evaluation.metrics import dense
from scrdit_jax.evaluation.tables import markdown_table
from scrdit_jax.extras import optional, versions

SCORES = (8, 12, 16)
# All priors are compared at so many scores, and at others how well the mixture does.
OF_ALL, AT_OTHERS = 12, ("mixture", "training cells")
MOST_COMPARED, TIMED = 600, 4096
TREES, FOLDS = 300, 3
SIGMAS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4)
# Noise on both sides, as the conditioning of the cells has it.
CONDITIONING_SIGMAS = (0.1, 0.2, 0.3)


class States(NamedTuple):
    """States (cell, d) and combinations (cell,) below `count` of training and validation cells."""

    training: np.ndarray
    codes: np.ndarray
    validation: np.ndarray
    validation_codes: np.ndarray
    count: int

    def of(self, scores: int) -> States:
        """With the first so many scores, and the two sizes."""
        columns = [*range(scores), -2, -1]
        return self._replace(training=self.training[:, columns], validation=self.validation[:, columns])


class Mixed:
    """The mixture of scrdit_jax.conditioning.prior."""

    def __init__(self, states: np.ndarray, codes: np.ndarray, count: int, *, seed: int) -> None:
        """As `fit_mixture`."""
        self.mixture = fit_mixture(states, codes, count, seed=seed)

    def log_prob(self, states: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """(cell,) in nats."""
        return log_prob(self.mixture, states, codes)

    @cached_property
    def draw(self) -> Callable:
        """(codes (cell,), key) -> (cell, d)."""
        return jax.jit(lambda codes, key: draw_mixture(self.mixture, codes, jax.random.split(key, len(codes))))


class Smoothed:
    """A training cell of the combination, with noise of a width that suits a fifth of the cells set aside."""

    tried: tuple[float, ...] = SIGMAS

    def __init__(self, states: np.ndarray, codes: np.ndarray, count: int, *, seed: int) -> None:
        """The width is tried on a fifth of the cells."""
        rows = np.random.default_rng(seed).permutation(len(states))
        aside, rest = np.split(rows, [len(rows) // 5])
        densities = [self._density(states[aside], codes[aside], states[rest], codes[rest], s) for s in self.tried]
        self.sigma = self.tried[int(np.argmax([density.mean() for density in densities]))]
        self.states, self.codes = states, codes

    @staticmethod
    def _density(states, codes, known, known_codes, sigma) -> np.ndarray:
        found = []
        for code in np.unique(codes):
            near = known[known_codes == code]
            near = near if len(near) else known
            logs = -cdist(states[codes == code], near, "sqeuclidean") / (2 * sigma**2)
            constant = np.log(len(near)) + states.shape[1] * np.log(sigma * np.sqrt(2 * np.pi))
            found.append(logsumexp(logs, axis=1) - constant)
        return np.concatenate(found)

    def log_prob(self, states: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """(cell,) in nats, in the order of the codes."""
        return self._density(states, codes, self.states, self.codes, self.sigma)

    def draw(self, codes: np.ndarray, key: jax.Array) -> np.ndarray:
        """(cell, d) by combination (cell,)."""
        rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        made = np.empty((len(codes), self.states.shape[1]))
        for code in np.unique(codes):
            here = np.flatnonzero(codes == code)
            made[here] = self.states[rng.choice(np.flatnonzero(self.codes == code), len(here))]
        return made + self.sigma * rng.normal(size=made.shape)


class Bootstrap(Smoothed):
    """A training cell of the combination, as it is."""

    tried = ()

    def __init__(self, states: np.ndarray, codes: np.ndarray, count: int, *, seed: int) -> None:
        """Keeps the cells."""
        self.states, self.codes, self.sigma = states, codes, 0.0


PRIORS: dict[str, Any] = {
    "mixture": Mixed,
    "autoregressive": Autoregressive,
    "diffusion": Diffusion,
    "smoothed cells": Smoothed,
    "training cells": Bootstrap,
}


def read(source: Source, most: int) -> States:
    """The states of the cells of `source`, with so many scores; those of unknown combinations are left out."""
    column = source.cell_type_key or "cell_type"
    config = DataConfig(gene_selection="hvg", genes=2000, cell_type_key=column, condition_on=(column,))
    prepared = load_prepared(source.data, config, multiple_of=16)
    train, held_out = prepared.train, prepared.held_out
    held_out = held_out[validation_mask(held_out.obs, config)]
    categories = sorted(set(train.obs[column].astype(str)))
    held_out = held_out[held_out.obs[column].astype(str).isin(categories).to_numpy()]
    mean = dense(train.X).mean(axis=0)
    axes = principal_axes(dense(train.X) - mean, most)

    def states(cells) -> np.ndarray:
        x = dense(cells.X)
        sizes = [np.log(np.maximum((x > 0).sum(axis=1), 1)), np.log(cells.obs["library_size"].to_numpy())]
        return np.column_stack([(x - mean) @ axes, *sizes]).astype(np.float64)

    def codes(cells) -> np.ndarray:
        return np.searchsorted(categories, cells.obs[column].astype(str).to_numpy()).astype(np.int32)

    known = states(train)
    centre, width = known.mean(axis=0), known.std(axis=0)
    new = (states(held_out) - centre) / width
    return States((known - centre) / width, codes(train), new, codes(held_out), len(categories))


def auc(one: np.ndarray, other: np.ndarray, seed: int) -> float:
    """How well a forest of TREES tells two sets of states apart, cross-validated: .5 is not at all."""
    ensemble, selection = optional("sklearn.ensemble"), optional("sklearn.model_selection")
    x, y = np.vstack([one, other]), np.repeat([0, 1], [len(one), len(other)])
    forest = ensemble.RandomForestClassifier(TREES, min_samples_leaf=3, random_state=seed)
    folds = selection.StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    votes = selection.cross_val_predict(forest, x, y, cv=folds, method="predict_proba")[:, 1]
    return float(optional("sklearn.metrics").roc_auc_score(y, votes))


def energy_distance(one: np.ndarray, other: np.ndarray) -> float:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'| (Szekely and Rizzo 2013), without bias: 0 on average if equal."""
    return float(2 * cdist(one, other).mean() - pdist(one).mean() - pdist(other).mean())


def measure(name: str, states: States, seed: int) -> dict[str, Any]:
    """Everything of one prior, fitted and drawn from with this seed."""
    started = time.perf_counter()
    prior = PRIORS[name](states.training, states.codes, states.count, seed=seed)
    seconds = time.perf_counter() - started
    rows = np.random.default_rng(0).permutation(len(states.validation))[:MOST_COMPARED]
    real, codes = states.validation[rows], states.validation_codes[rows]
    made = np.asarray(prior.draw(jnp.asarray(codes), jax.random.key(seed)), np.float64)
    tree = cKDTree(states.training)
    row = {
        "prior": name,
        "seed": seed,
        "seconds_to_fit": seconds,
        "energy_distance": energy_distance(made, real),
        "auc": auc(made, real, seed),
        "nearest_ratio": float(np.median(tree.query(made)[0]) / np.median(tree.query(real)[0])),
        "microseconds_a_cell": draw_cost(prior, states),
    }
    if name != "diffusion" and name != "training cells":
        row["log_likelihood"] = float(prior.log_prob(states.validation, states.validation_codes).mean())
    if isinstance(prior, Mixed):
        row["components"] = len(prior.mixture.means)
        if states.training.shape[1] == OF_ALL + 2:
            rng = np.random.default_rng(seed)
            noises = [(sigma, *(rng.normal(size=made.shape) * sigma for _ in "ab")) for sigma in CONDITIONING_SIGMAS]
            row["auc_with_noise"] = {str(sigma): auc(made + a, real + b, seed) for sigma, a, b in noises}
    return row


def draw_cost(prior: Any, states: States) -> float:
    """Microseconds a cell, TIMED at once, compiled before."""
    codes = jnp.asarray(states.codes[np.arange(TIMED) % len(states.codes)])
    best = np.inf
    for i in range(3):
        started = time.perf_counter()
        jax.block_until_ready(prior.draw(codes, jax.random.key(i)))
        best = min(best, time.perf_counter() - started)
    return best / TIMED * 1e6


def page(rows: list[dict[str, Any]]) -> str:
    """The table: a line for each data set, number of scores and prior, mean and deviation over the seeds."""
    measured = ("log_likelihood", "auc", "energy_distance", "nearest_ratio", "seconds_to_fit", "microseconds_a_cell")
    lines = []
    for data, scores, name in dict.fromkeys((row["data"], row["scores"], row["prior"]) for row in rows):
        same = [row for row in rows if (row["data"], row["scores"], row["prior"]) == (data, scores, name)]
        values = [[row[key] for row in same if key in row] for key in measured]
        texts = [f"{np.mean(v):.3g} ± {np.std(v):.2g}" if v else "" for v in values]
        lines.append([data, str(scores), name, *texts])
    header = ["data", "PC scores", "prior", "log-likelihood, nats", "AUC", "energy distance", "nearest-cell ratio"]
    return markdown_table([*header, "seconds to fit", "µs a cell"], lines)


@click.command()
@click.option("--data", "sources", multiple=True, default=["pbmc3k"], show_default=True, help="PATH or PATH:COLUMN.")
@click.option("--scores", multiple=True, type=int, default=SCORES, show_default=True, help="PC scores in a state.")
@click.option("--seeds", default=3, show_default=True, help="Fits, each drawn from once.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for results.json and table.md.")
def main(sources: tuple[str, ...], scores: tuple[int, ...], seeds: int, out: Path) -> None:
    """Compare the priors; results so far are written after each data set."""
    rows: list[dict[str, Any]] = []
    for source in map(Source.parse, sources):
        with one_line_errors():
            every = read(source, max(scores))
        for count in scores:
            names = [name for name in PRIORS if count == OF_ALL or name in AT_OTHERS]
            for name in names:
                for seed in range(seeds):
                    known = {"data": source.name, "scores": count}
                    rows.append(known | measure(name, every.of(count), seed))
                click.echo(page(rows).splitlines()[-1])
        found = versions(("jax", "numpy", "scikit-learn"))
        result = {
            "command": command_line("benchmarks.fidelity.priors"),
            "device": describe_devices(),
            "versions": found,
        }
        write_files(out, {"results.json": as_json(result | {"rows": rows}), "table.md": page(rows)})


if __name__ == "__main__":
    main()
