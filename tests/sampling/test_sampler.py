"""The scan against a plain loop, what it costs, and where its randomness comes from."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from scrdit_jax.config import DiffusionConfig
from scrdit_jax.diffusion.schedule import linear_schedule
from scrdit_jax.diffusion.timesteps import make_timesteps
from scrdit_jax.sampling.sampler import cell_keys, cell_noise, integrate
from scrdit_jax.sampling.solvers import SOLVERS, Coefficients, make_coefficients, noise_levels

SCHEDULE = linear_schedule(DiffusionConfig())
ROOT = jax.random.key(11)
GENES = 5
TABLES = [*((name, {}) for name in SOLVERS), ("ddim", {"eta": 0.5})]


def table_of(solver: str, steps: int = 12, schedule: str = "logsnr", **options) -> Coefficients:
    return make_coefficients(solver, noise_levels(SCHEDULE, make_timesteps(schedule, SCHEDULE, steps)), **options)


def wavy(x, alpha_bar, row=0.0):
    """A prediction that bends, mixes genes, and depends on the level and on the conditioning; NumPy or JAX."""
    library = jnp if isinstance(x, jax.Array) else np
    return library.tanh(x + 0.5 * library.roll(x, 1, axis=1)) * (0.5 + alpha_bar) + row


@partial(jax.jit, static_argnums=0)
def compiled(predict_clean: Callable, keys: jax.Array, coefficients: Coefficients, conditioning: Any) -> jax.Array:
    """Shared by the tests, so that each batch shape is compiled once."""
    return integrate(predict_clean, keys, coefficients, conditioning, genes=GENES).cells


def sample(indices, coefficients: Coefficients, predict_clean: Callable = wavy, conditioning: Any = None) -> np.ndarray:
    conditioning = jnp.zeros(len(coefficients.timestep)) if conditioning is None else conditioning
    return np.asarray(compiled(predict_clean, cell_keys(ROOT, jnp.asarray(indices)), coefficients, conditioning))


@pytest.mark.parametrize(("solver", "options"), TABLES)
def test_the_scan_is_a_plain_loop_over_the_rows_with_the_same_noise(solver, options, walk):
    table, conditioning = table_of(solver, **options), np.linspace(-0.2, 0.3, 12)
    keys = cell_keys(ROOT, jnp.arange(8))
    rows = iter(conditioning)
    slow = walk(
        table,
        np.asarray(cell_noise(keys, 0, GENES)),
        lambda x, alpha_bar: wavy(x, alpha_bar, next(rows)),
        noise=lambda i: np.asarray(cell_noise(keys, int(table.timestep[i]), GENES)),
    )[-1]
    cells = sample(range(8), table, conditioning=jnp.asarray(conditioning, jnp.float32))
    assert cells.dtype == np.float32
    np.testing.assert_allclose(cells, slow, atol=2e-5)


TRACED, EVALUATED = [], []


def counted(x, alpha_bar, row):
    """`wavy`, noting when it is traced, and with what when it is run."""
    TRACED.append(x.shape)
    jax.debug.callback(lambda i, level: EVALUATED.append((int(i), float(level))), row, alpha_bar[0, 0])
    return wavy(x, alpha_bar)


def test_the_network_is_evaluated_exactly_once_a_step_by_every_solver():
    for solver, options in TABLES:
        EVALUATED.clear()
        table = table_of(solver, **options)
        sample(range(8), table, counted, jnp.arange(12))
        jax.effects_barrier()
        assert sorted(i for i, _ in EVALUATED) == list(range(12))
        np.testing.assert_allclose([level for _, level in sorted(EVALUATED)], table.alpha_bar, rtol=1e-6)


def test_another_solver_eta_or_schedule_of_the_same_length_does_not_compile_again():
    sample(range(8), table_of("ddpm"), counted, jnp.arange(12))
    traced, programs = len(TRACED), compiled._cache_size()
    assert traced > 0
    for table in (
        table_of("ddim", eta=0.0),
        table_of("ddim", eta=0.7),
        table_of("ddpm", schedule="uniform", variance="posterior"),
        table_of("dpmpp-2m", schedule="quadratic"),
        table_of("dpmpp-2m", schedule="logsnr"),
    ):
        sample(range(8), table, counted, jnp.arange(12))
    assert len(TRACED) == traced
    assert compiled._cache_size() == programs
    compiled.lower(counted, cell_keys(ROOT, jnp.arange(8)), table_of("ddim", steps=11), jnp.arange(11))
    assert len(TRACED) > traced


def test_conditioning_may_be_any_pytree_with_a_row_a_step():
    conditioning = {"shift": jnp.zeros(12), "scale": (jnp.ones((12, 2, GENES)),)}
    seen = []

    def predict_clean(x, alpha_bar, row):
        seen.append(jax.tree.map(jnp.shape, row))
        return wavy(x, alpha_bar, row["shift"]) * row["scale"][0][:1]

    compiled.lower(predict_clean, cell_keys(ROOT, jnp.arange(8)), table_of("ddim"), conditioning)
    assert seen[0] == {"shift": (), "scale": ((2, GENES),)}


@pytest.mark.parametrize(("solver", "options"), TABLES)
def test_a_cell_is_the_same_in_whatever_batch_it_is_made(solver, options):
    table = table_of(solver, **options)
    together = sample(range(8), table)
    np.testing.assert_array_equal(sample([6, 2, 7, 0, 1, 5, 3, 4], table), together[[6, 2, 7, 0, 1, 5, 3, 4]])
    np.testing.assert_allclose(sample([3, 1_000_000, 5], table)[[0, 2]], together[[3, 5]], atol=1e-5)


@pytest.mark.parametrize(("solver", "options"), TABLES)
def test_cells_differ_from_each_other_and_with_the_root_key(solver, options):
    table = table_of(solver, **options)
    cells = sample(range(8), table)
    assert len(np.unique(cells, axis=0)) == 8
    other = compiled(wavy, cell_keys(jax.random.key(12), jnp.arange(8)), table, jnp.zeros(12))
    assert not np.isclose(cells, other).all(axis=1).any()


def test_the_network_is_traced_as_often_for_a_hundred_steps_as_for_ten():
    def traces_of(steps: int) -> int:
        traces = []

        def predict_clean(x, alpha_bar, row):
            traces.append(steps)
            return wavy(x, alpha_bar, row)

        jax.eval_shape(
            lambda keys, table: integrate(predict_clean, keys, table, jnp.zeros(steps), genes=GENES),
            cell_keys(ROOT, jnp.arange(2)),
            table_of("ddim", steps),
        )
        return len(traces)

    assert traces_of(100) == traces_of(10)


def test_noise_is_standard_normal():
    noise = np.asarray(cell_noise(cell_keys(ROOT, jnp.arange(400)), 500, 50))
    assert noise.shape == (400, 50)
    assert noise.dtype == np.float32
    assert abs(noise.mean()) < 4 / np.sqrt(noise.size)
    assert abs(noise.var() - 1) < 4 * np.sqrt(2 / noise.size)
    assert stats.kstest(noise.ravel(), "norm").pvalue > 0.001


def test_noise_is_its_own_for_each_cell_and_timestep_and_the_same_when_asked_again():
    keys = cell_keys(ROOT, jnp.arange(400))
    at = {t: np.asarray(cell_noise(keys, t, 50)) for t in (0, 1, 2, 1000)}
    rows = np.concatenate([noise[:30] for noise in at.values()])
    correlation = np.corrcoef(rows) - np.eye(len(rows))
    # 120 independent rows of 50 genes: the largest of 7140 correlations stays near 4 / sqrt(50) = 0.57.
    assert np.abs(correlation).max() < 0.7
    for t, noise in at.items():
        np.testing.assert_array_equal(cell_noise(keys, jnp.asarray(t), 50), noise)


def test_the_key_of_a_cell_depends_on_its_global_index_alone():
    indices = [4, 1_000_000, 3_000_000_000]
    data = np.asarray(jax.random.key_data(cell_keys(ROOT, jnp.array(indices, jnp.uint32))))
    for i, index in enumerate(indices):
        np.testing.assert_array_equal(data[i], jax.random.key_data(jax.random.fold_in(ROOT, index)))
    many = np.asarray(jax.random.key_data(cell_keys(ROOT, jnp.arange(400))))
    assert len(np.unique(many, axis=0)) == 400
