"""Tables against the paper's formulas in epsilon form, against each other, and against what they must refuse."""

import numpy as np
import pytest

from scrdit_jax.config import DiffusionConfig
from scrdit_jax.diffusion.schedule import linear_schedule
from scrdit_jax.diffusion.timesteps import make_timesteps
from scrdit_jax.errors import BadConfig
from scrdit_jax.sampling.solvers import SOLVERS, Coefficients, NoiseLevels, make_coefficients, noise_levels

SCHEDULE = linear_schedule(DiffusionConfig())
EVERY_TIMESTEP = np.arange(1000, 0, -1)
LISTS = {
    "every": EVERY_TIMESTEP,
    "uniform": make_timesteps("uniform", SCHEDULE, 50),
    "quadratic": make_timesteps("quadratic", SCHEDULE, 10),
    "logsnr": make_timesteps("logsnr", SCHEDULE, 25),
    "not ending at 1": np.array([1000, 420, 37]),
    "one": np.array([1000]),
}
# Every solver with its defaults, with each choice of its options, and DDIM between its ends.
TABLES = [
    *((name, {}) for name in SOLVERS),
    *((n, {o: c}) for n, solver in SOLVERS.items() for o, option in solver.options.items() for c in option.choices),
    ("ddim", {"eta": 0.5}),
    ("ddim", {"eta": 1.0}),
]

everywhere = pytest.mark.parametrize("taus", LISTS.values(), ids=LISTS.keys())
with_every_solver = pytest.mark.parametrize(("solver", "options"), TABLES, ids=[f"{n} {o}" for n, o in TABLES])


def one_row(table: Coefficients, i: int, x: float, eps: float, z: float) -> float:
    """x' of a solver without history, for a network that predicts `eps` at x."""
    abar = SCHEDULE.alpha_bars[table.timestep[i]]
    clean = (x - np.sqrt(1 - abar) * eps) / np.sqrt(abar)
    return table.a[i] * x + table.b[i] * clean + table.s[i] * z


@everywhere
@pytest.mark.parametrize("variance", ["beta", "posterior"])
def test_ddpm_is_equation_8_in_epsilon_form(taus, variance):
    table = make_coefficients("ddpm", noise_levels(SCHEDULE, taus), variance=variance)
    for i, t in enumerate(taus):
        abar = SCHEDULE.alpha_bars[t]
        following = SCHEDULE.alpha_bars[taus[i + 1]] if i + 1 < len(taus) else 1.0
        alpha = abar / following
        sigma = np.sqrt(1 - alpha if variance == "beta" else (1 - following) / (1 - abar) * (1 - alpha))
        for x, eps, z in ((0.7, -0.2, 1.1), (-3.0, 0.5, 0.0), (0.0, 0.0, 1.0)):
            mean = (x - (1 - alpha) / np.sqrt(1 - abar) * eps) / np.sqrt(alpha)
            wanted = mean + (sigma * z if i + 1 < len(taus) else 0.0)
            assert one_row(table, i, x, eps, z) == pytest.approx(wanted, rel=1e-10, abs=1e-10)
    assert not table.c.any()


@everywhere
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_ddim_is_equations_13_and_14_in_epsilon_form(taus, eta):
    table = make_coefficients("ddim", noise_levels(SCHEDULE, taus), eta=eta)
    for i, t in enumerate(taus):
        abar = SCHEDULE.alpha_bars[t]
        following = SCHEDULE.alpha_bars[taus[i + 1]] if i + 1 < len(taus) else 1.0
        sigma = eta * np.sqrt((1 - following) / (1 - abar)) * np.sqrt(1 - abar / following)
        for x, eps, z in ((0.7, -0.2, 1.1), (-3.0, 0.5, 0.0), (0.0, 0.0, 1.0)):
            clean = (x - np.sqrt(1 - abar) * eps) / np.sqrt(abar)
            wanted = np.sqrt(following) * clean + np.sqrt(1 - following - sigma**2) * eps + sigma * z
            assert one_row(table, i, x, eps, z) == pytest.approx(wanted, rel=1e-10, abs=1e-10)
    assert not table.c.any()


@everywhere
def test_dpm_solver_2m_is_algorithm_2_of_lu_et_al(taus):
    table = make_coefficients("dpmpp-2m", noise_levels(SCHEDULE, taus))
    alpha, sigma = np.sqrt(SCHEDULE.alpha_bars), np.sqrt(1 - SCHEDULE.alpha_bars)
    x, m0, m1 = 0.7, -1.2, 0.4
    for i, t in enumerate(taus[:-1]):
        following = taus[i + 1]
        h = np.log(alpha[following] / sigma[following]) - np.log(alpha[t] / sigma[t])
        direction = m0
        if i:
            before = np.log(alpha[t] / sigma[t]) - np.log(alpha[taus[i - 1]] / sigma[taus[i - 1]])
            r = before / h
            direction = (1 + 1 / (2 * r)) * m0 - 1 / (2 * r) * m1
        wanted = sigma[following] / sigma[t] * x - alpha[following] * (np.exp(-h) - 1) * direction
        assert table.a[i] * x + table.b[i] * m0 + table.c[i] * m1 == pytest.approx(wanted, rel=1e-10, abs=1e-10)
    assert not table.s.any()


@everywhere
@with_every_solver
def test_the_last_row_lands_exactly_on_the_predicted_clean_cell(taus, solver, options):
    table = make_coefficients(solver, noise_levels(SCHEDULE, taus), **options)
    last = (table.a[-1], table.b[-1], table.c[-1], table.s[-1])
    assert last == pytest.approx((0, 1, 0, 0), abs=1e-15)


@everywhere
@with_every_solver
def test_a_table_has_one_finite_row_an_evaluation_with_its_level(taus, solver, options):
    table = make_coefficients(solver, noise_levels(SCHEDULE, taus), **options)
    assert table.timestep.tolist() == taus.tolist()
    np.testing.assert_array_equal(table.alpha_bar, SCHEDULE.alpha_bars[taus])
    for column in table[1:]:
        assert column.shape == taus.shape
        assert column.dtype == np.float64
        assert np.all(np.isfinite(column))
    assert np.all(table.s >= 0)


@pytest.mark.parametrize("taus", [LISTS["quadratic"], LISTS["logsnr"]], ids=["quadratic", "logsnr"])
def test_the_third_order_solver_is_exact_for_what_is_quadratic_in_lambda(taus):
    """x' = (sigma'/sigma) x + alpha' int_0^h exp(u - h) m(u) du (Lu et al. 2022b, eq. 8), by a fine sum."""
    levels = noise_levels(SCHEDULE, taus)
    table = make_coefficients("dpmpp-3m", levels)
    lambdas = 0.5 * SCHEDULE.log_snr[taus - 1]

    def m(x):
        return 0.3 - 0.7 * x + 0.2 * x**2

    for i in range(2, len(taus) - 1):
        h = lambdas[i + 1] - lambdas[i]
        u = (np.arange(200_000) + 0.5) * h / 200_000
        integral = np.mean(np.exp(u - h) * m(lambdas[i] + u)) * h
        wanted = table.a[i] * 0.4 + np.sqrt(levels.next_alpha_bars[i]) * integral
        ours = table.a[i] * 0.4 + sum(w * m(lambdas[i - k]) for k, w in enumerate((table.b[i], table.c[i], table.d[i])))
        assert ours == pytest.approx(wanted, rel=1e-7)


@everywhere
@with_every_solver
def test_a_known_clean_cell_stays_on_its_noisy_path(taus, solver, options):
    # With m0 = m1 = x_0 the mean of x' must be sqrt(next) x_0 when x is sqrt(abar) x_0, whatever the solver.
    levels = noise_levels(SCHEDULE, taus)
    table = make_coefficients(solver, levels, **options)
    reached = table.a * np.sqrt(levels.alpha_bars) + table.b + table.c + table.d
    np.testing.assert_allclose(reached, np.sqrt(levels.next_alpha_bars), rtol=1e-10)


@everywhere
@pytest.mark.parametrize(
    ("solver", "options"), [("ddpm", {"variance": "posterior"}), ("ddim", {"eta": 0.0}), ("ddim", {"eta": 0.6})]
)
def test_a_known_clean_cell_keeps_the_noise_of_its_level(taus, solver, options):
    # Var x' = a^2 (1 - abar) + s^2 = 1 - next: the marginal of eq. 5.
    levels = noise_levels(SCHEDULE, taus)
    table = make_coefficients(solver, levels, **options)
    np.testing.assert_allclose(
        table.a**2 * (1 - levels.alpha_bars) + table.s**2, 1 - levels.next_alpha_bars, atol=1e-12
    )


@everywhere
def test_ddim_with_eta_1_is_ddpm_with_the_posterior_variance(taus):
    levels = noise_levels(SCHEDULE, taus)
    ours, theirs = make_coefficients("ddim", levels, eta=1.0), make_coefficients("ddpm", levels, variance="posterior")
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-12)


@everywhere
def test_deterministic_ddim_is_first_order_dpm_solver(taus):
    _, abar, following = levels = noise_levels(SCHEDULE, taus)
    table = make_coefficients("ddim", levels, eta=0.0)
    with np.errstate(divide="ignore"):
        h = np.log(np.sqrt(following / (1 - following))) - np.log(np.sqrt(abar / (1 - abar)))
    np.testing.assert_allclose(table.a, np.sqrt((1 - following) / (1 - abar)), atol=1e-12)
    np.testing.assert_allclose(table.b, -np.sqrt(following) * np.expm1(-h), atol=1e-12)


@pytest.mark.parametrize("taus", [[1000], [1000, 1], [700, 300]])
def test_dpm_solver_2m_without_history_is_ddim(taus):
    levels = noise_levels(SCHEDULE, np.array(taus))
    ours, theirs = make_coefficients("dpmpp-2m", levels), make_coefficients("ddim", levels, eta=0.0)
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-12)


def test_ddim_is_deterministic_and_ddpm_takes_beta_unless_told_otherwise():
    levels = noise_levels(SCHEDULE, LISTS["uniform"])
    np.testing.assert_array_equal(make_coefficients("ddim", levels), make_coefficients("ddim", levels, eta=0.0))
    for options in ({}, {"variance": None, "eta": None}):
        table = make_coefficients("ddpm", levels, **options)
        np.testing.assert_array_equal(table, make_coefficients("ddpm", levels, variance="beta"))


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_stays_finite_where_almost_nothing_is_left_of_the_cells(eta):
    # 1 - next - s^2 is then the difference of two numbers next to 1; its root must not be taken of less than 0.
    abar = 10.0 ** -np.arange(30, 0, -0.5)
    levels = NoiseLevels(np.arange(60, 0, -1), abar, np.append(abar[1:], 1.0))
    table = make_coefficients("ddim", levels, eta=eta)
    for column in table[2:]:
        assert np.all(np.isfinite(column))


@pytest.mark.parametrize("eta", [-0.1, 1.01, float("nan"), float("inf")])
def test_eta_outside_0_to_1_is_refused(eta):
    with pytest.raises(BadConfig, match=rf"eta is {eta:g}; it must be within 0\.\.1"):
        make_coefficients("ddim", noise_levels(SCHEDULE, LISTS["uniform"]), eta=eta)


def test_an_unknown_solver_is_told_the_names_there_are():
    with pytest.raises(BadConfig, match="no solver 'euler'; there are " + ", ".join(SOLVERS)):
        make_coefficients("euler", noise_levels(SCHEDULE, LISTS["uniform"]))


def test_an_unknown_variance_is_told_the_names_there_are():
    with pytest.raises(BadConfig, match="variance is 'large'; it must be one of beta, posterior"):
        make_coefficients("ddpm", noise_levels(SCHEDULE, LISTS["uniform"]), variance="large")


@pytest.mark.parametrize(
    ("solver", "options", "takers"),
    [("ddpm", {"eta": 0.5}, "ddim"), ("dpmpp-2m", {"eta": 0.0}, "ddim"), ("ddim", {"variance": "beta"}, "ddpm")],
)
def test_an_option_that_a_solver_does_not_take_is_refused_with_who_does(solver, options, takers):
    (name,) = options
    with pytest.raises(BadConfig, match=f"solver {solver} takes no {name} .*leave it out, or use .*{takers}"):
        make_coefficients(solver, noise_levels(SCHEDULE, LISTS["uniform"]), **options)


def test_an_option_that_no_solver_takes_is_refused():
    with pytest.raises(BadConfig, match=r"solver ddim takes no order .*leave it out$"):
        make_coefficients("ddim", noise_levels(SCHEDULE, LISTS["uniform"]), order=2)
