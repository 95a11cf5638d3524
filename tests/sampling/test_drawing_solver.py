"""Ancestral sampling with a sampled x_0, against distributions whose posterior and marginals are known in closed form.

The clean cells are drawn here, from the equations, in NumPy and float64; the table and the loop are what is tested.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from scrdit_jax.config import DiffusionConfig
from scrdit_jax.diffusion.predictions import ZeroInflated
from scrdit_jax.diffusion.schedule import linear_schedule
from scrdit_jax.diffusion.timesteps import make_timesteps
from scrdit_jax.sampling.sampler import cell_keys, draw_keys, integrate
from scrdit_jax.sampling.solvers import SOLVERS, noise_levels
from scrdit_jax.sampling.solvers.ddpm import ddpm
from scrdit_jax.sampling.solvers.distributional import distributional

SCHEDULE = linear_schedule(DiffusionConfig())
CELLS = 20_000
# Every test below is of a true hypothesis, with fixed seeds: at 1 % none may fail.
LEVEL = 0.01


def levels_of(steps: int):
    """`steps` levels of which the first is T, where pure noise is right."""
    if steps == 1:
        return noise_levels(SCHEDULE, np.array([1000]))
    return noise_levels(SCHEDULE, make_timesteps("uniform", SCHEDULE, steps))


def walk_drawing(levels, start, draw, rng):
    """x at t = 0, one row at a time: x' = a x + b x_0 + s z with x_0 = draw(x, abar)."""
    table, x = distributional(levels), start
    for i in range(len(table.timestep)):
        x = table.a[i] * x + table.b[i] * draw(x, table.alpha_bar[i]) + table.s[i] * rng.standard_normal(x.shape)
    return x


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_gaussian_genes_come_out_with_their_exact_distribution(steps):
    mean, variance = np.array([0.5, -2.0, 3.0]), np.array([0.25, 0.04, 4.0])
    rng = np.random.default_rng(steps)

    def draw(x, alpha_bar):
        precision = 1 / variance + alpha_bar / (1 - alpha_bar)
        centre = (mean / variance + np.sqrt(alpha_bar) * x / (1 - alpha_bar)) / precision
        return centre + rng.standard_normal(x.shape) / np.sqrt(precision)

    cells = walk_drawing(levels_of(steps), rng.standard_normal((CELLS, 3)), draw, rng)
    for gene in range(3):
        assert stats.kstest((cells[:, gene] - mean[gene]) / np.sqrt(variance[gene]), "norm").pvalue > LEVEL


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_zero_inflated_genes_come_out_with_their_exact_zeros_and_values(steps):
    """Through the package's own draw and its one loop; the share of zeros and the values are what was put in."""
    zero, mean, std = -0.5, -8.0, 4.0
    shares, centres, spreads = np.array([0.02, 0.5, 0.97]), np.array([1.0, 2.0, 3.0]), np.array([0.3, 0.5, 0.4])
    prediction = ZeroInflated(zero, mean, std)
    # What a network would say that has nothing to learn: log-odds, mean and log-deviation on the log scale.
    predicted = jnp.asarray(np.stack([np.log(shares / (1 - shares)), centres, np.log(spreads)], axis=-1))[None]
    levels = levels_of(steps)
    table = distributional(levels)
    keys = cell_keys(jax.random.key(steps), jnp.arange(CELLS))

    def predict_clean(noisy, alpha_bar, row):
        timestep, noise = row
        said = jnp.broadcast_to(predicted, (*noisy.shape, 3))
        return prediction.draw(noisy, said, alpha_bar, draw_keys(keys, timestep), noise=noise)

    rows = jnp.asarray(table.timestep), jnp.asarray(table.s / table.b, jnp.float32)
    run = jax.jit(lambda: integrate(predict_clean, keys, table, rows, genes=3, noise=False).cells)
    cells = np.asarray(run(), np.float64)
    for gene in range(3):
        expressed = cells[:, gene] != np.float32(zero)  # zeros are exactly where zeros are put
        error = np.sqrt(shares[gene] * (1 - shares[gene]) / CELLS)
        assert abs(expressed.mean() - shares[gene]) < 4 * error
        values = cells[expressed, gene] * std + mean
        assert stats.kstest((values - centres[gene]) / spreads[gene], "norm").pvalue > LEVEL


def test_what_independent_draws_miss_of_correlated_genes_falls_with_the_number_of_steps():
    covariance = np.array([[1.0, 0.8, -0.5], [0.8, 1.0, -0.3], [-0.5, -0.3, 1.0]])
    errors = []
    for steps in (1, 2, 4, 16, 64):
        rng = np.random.default_rng(steps)

        def draw(x, alpha_bar, rng=rng):
            # The true posterior's mean and marginal variances, but each gene by itself.
            precision = np.linalg.inv(covariance) + alpha_bar / (1 - alpha_bar) * np.eye(3)
            posterior = np.linalg.inv(precision)
            centre = np.sqrt(alpha_bar) / (1 - alpha_bar) * x @ posterior
            return centre + rng.standard_normal(x.shape) * np.sqrt(np.diag(posterior))

        levels = noise_levels(SCHEDULE, make_timesteps("logsnr", SCHEDULE, steps)) if steps > 1 else levels_of(1)
        cells = walk_drawing(levels, rng.standard_normal((CELLS, 3)), draw, rng)
        errors.append(np.abs(np.cov(cells.T) - covariance).max())
    assert errors[0] > 0.75
    assert np.all(np.diff(errors) < 0)
    assert errors[-1] < 0.1


def test_its_table_is_ancestral_sampling_with_the_posterior_variance():
    levels = levels_of(7)
    for ours, theirs in zip(distributional(levels), ddpm(levels, "posterior"), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    # By Bayes' rule from q(x_t | x_s) and q(x_s | x_0), both Gaussian.
    table = distributional(levels)
    for i in range(6):
        before, after = levels.alpha_bars[i], levels.next_alpha_bars[i]
        gain, noise = np.sqrt(before / after), 1 - before / after
        precision = gain**2 / noise + 1 / (1 - after)
        expected = gain / noise / precision, np.sqrt(after) / (1 - after) / precision, precision**-0.5
        np.testing.assert_allclose((table.a[i], table.b[i], table.s[i]), expected, rtol=1e-9)
    one = distributional(levels_of(1))
    np.testing.assert_allclose((one.a[0], one.b[0], one.s[0]), (0, 1, 0), atol=1e-12)


def test_a_cells_draws_have_keys_of_their_own_at_every_timestep_apart_from_those_of_its_noise():
    keys, times = cell_keys(jax.random.key(0), jnp.arange(50)), (0, 1, 2, 1000)
    of_noise = [jax.vmap(lambda key, t=t: jax.random.fold_in(key, t))(keys) for t in times]
    of_draws = [draw_keys(keys, jnp.asarray(t)) for t in times]
    data = np.concatenate([np.asarray(jax.random.key_data(found)) for found in (*of_noise, *of_draws)])
    assert len(np.unique(data, axis=0)) == 8 * 50


def test_only_it_draws_and_only_it_may_take_one_step():
    assert [name for name, solver in SOLVERS.items() if solver.draws] == ["distributional"]
    assert {name: solver.least_steps for name, solver in SOLVERS.items()} == {
        name: 1 if name == "distributional" else 2 for name in SOLVERS
    }
