import json

import numpy as np
import pytest

from scrdit_jax.config import DiffusionConfig
from scrdit_jax.diffusion.schedule import linear_schedule
from scrdit_jax.diffusion.timesteps import (
    SCHEDULES,
    check_timesteps,
    make_timesteps,
    read_timesteps,
    steps_of_acceleration,
)
from scrdit_jax.errors import BadTimesteps

THOUSAND = linear_schedule(DiffusionConfig())


STARTING_AT_T = [name for name in SCHEDULES if name not in ("paper", "interior")]


def read_and_check(path) -> np.ndarray:
    return check_timesteps(read_timesteps(path).timesteps, 1000)


def assert_subsequence(taus: np.ndarray, timesteps: int, steps: int, *, start: int | None = None) -> None:
    assert len(taus) == steps
    assert np.issubdtype(taus.dtype, np.integer)
    assert taus[0] == (start or timesteps)
    assert np.all(np.diff(taus) < 0)
    assert taus[-1] == 1


@pytest.mark.parametrize("name", STARTING_AT_T)
@pytest.mark.parametrize(("timesteps", "beta_end"), [(2, 0.99), (3, 0.99), (10, 0.9), (41, 0.3)])
def test_every_number_of_steps_gives_that_many_from_the_last_timestep_to_the_first(name, timesteps, beta_end):
    schedule = linear_schedule(DiffusionConfig(timesteps=timesteps, beta_end=beta_end))
    for steps in range(2, timesteps + 1):
        assert_subsequence(make_timesteps(name, schedule, steps), timesteps, steps)


@pytest.mark.parametrize("name", STARTING_AT_T)
@pytest.mark.parametrize("steps", [2, 3, 10, 25, 50, 100, 333, 500, 900, 999, 1000])
def test_a_thousand_timesteps_give_exactly_the_steps_asked_for(name, steps):
    assert_subsequence(make_timesteps(name, THOUSAND, steps), 1000, steps)


@pytest.mark.parametrize("name", SCHEDULES)
def test_as_many_steps_as_timesteps_is_every_timestep(name):
    assert make_timesteps(name, THOUSAND, 1000).tolist() == list(range(1000, 0, -1))


@pytest.mark.parametrize("steps", [1, 2, 4, 8, 25])
def test_interior_steps_are_equal_in_log_snr_from_minus_6_to_1_to_within_half_a_timestep(steps):
    taus = make_timesteps("interior", THOUSAND, steps, least=1)
    assert len(taus) == steps
    assert np.all(np.diff(taus) < 0)
    levels = np.append(THOUSAND.log_snr, -np.inf)
    for i, t in enumerate(taus):
        wanted = -6.0 + 7.0 * i / max(steps - 1, 1)
        found, beside = levels[t - 1], (levels[t - 2] if t > 1 else np.inf, levels[t])
        assert all(abs(found - wanted) <= abs(other - wanted) + 1e-9 for other in beside)


@pytest.mark.parametrize(("timesteps", "beta_end"), [(2, 0.99), (3, 0.99), (10, 0.9), (41, 0.3)])
def test_interior_steps_are_distinct_where_the_schedule_is_coarse(timesteps, beta_end):
    schedule = linear_schedule(DiffusionConfig(timesteps=timesteps, beta_end=beta_end))
    for steps in range(1, timesteps + 1):
        taus = make_timesteps("interior", schedule, steps, least=1)
        assert len(taus) == steps
        assert np.all(np.diff(taus) < 0)
        assert 1 <= taus[-1] <= taus[0] <= timesteps


def test_one_step_is_for_interior_alone():
    for name in SCHEDULES:
        if name != "interior":
            with pytest.raises(BadTimesteps, match=rf"schedule {name} has 2 steps or more; .* use interior"):
                make_timesteps(name, THOUSAND, 1, least=1)


def test_the_papers_steps_are_those_it_writes():
    assert make_timesteps("paper", THOUSAND, 100).tolist() == [*range(990, 0, -10), 1]
    for acceleration in (20, 50, 100):
        taus = make_timesteps("paper", THOUSAND, steps_of_acceleration(1000, acceleration))
        assert taus.tolist() == [*range(1000 - acceleration, 0, -acceleration), 1]


@pytest.mark.parametrize("steps", [2, 3, 7, 99, 333, 667, 998, 999])
def test_the_papers_steps_are_as_many_as_asked_for_and_start_one_step_below_the_last_timestep(steps):
    taus = make_timesteps("paper", THOUSAND, steps)
    assert_subsequence(taus, 1000, steps, start=round(1000 - 1000 / steps))
    assert abs(np.diff(taus[:-1]) + 1000 / steps).max(initial=0) <= 1


def test_uniform_steps_are_equal_to_within_rounding():
    taus = make_timesteps("uniform", THOUSAND, 38)
    assert set(-np.diff(taus)) <= {27}
    assert set(-np.diff(make_timesteps("uniform", THOUSAND, 50))) == {20, 21}


def test_quadratic_steps_are_equal_in_the_square_root_of_t():
    steps = 20
    root = np.sqrt(1000)
    wanted = [(root - (root - 1) * i / (steps - 1)) ** 2 for i in range(steps)]
    np.testing.assert_allclose(make_timesteps("quadratic", THOUSAND, steps), wanted, atol=0.5)


def test_logsnr_steps_are_equal_in_log_snr_to_within_half_a_timestep():
    steps = 12
    taus = make_timesteps("logsnr", THOUSAND, steps)
    levels = THOUSAND.log_snr
    for i, t in enumerate(taus):
        wanted = levels[-1] + (levels[0] - levels[-1]) * i / (steps - 1)
        below, above = levels[min(t, 999)], levels[max(t - 2, 0)]
        assert (levels[t - 1] + below) / 2 - 1e-9 <= wanted <= (levels[t - 1] + above) / 2 + 1e-9


def test_karras_steps_are_equal_in_the_seventh_root_of_sigma_to_within_half_a_timestep():
    steps = 9
    taus = make_timesteps("karras", THOUSAND, steps)
    roots = np.array([((1 - a) / a) ** (1 / 14) for a in THOUSAND.alpha_bars[1:]])
    for i, t in enumerate(taus):
        wanted = roots[-1] + (roots[0] - roots[-1]) * i / (steps - 1)
        below, above = roots[max(t - 2, 0)], roots[min(t, 999)]
        assert (roots[t - 1] + below) / 2 - 1e-9 <= wanted <= (roots[t - 1] + above) / 2 + 1e-9


@pytest.mark.parametrize(
    "text",
    ["1000 750 500 1", "1000, 750, 500, 1", "1000\n750\n500\n1\n", "[1000, 750, 500, 1]", " \n[1000,\n 750.0, 500, 1]"],
)
def test_a_file_of_timesteps_is_read_as_json_or_as_plain_numbers(tmp_path, text):
    path = tmp_path / "taus.txt"
    path.write_text(text)
    found = read_timesteps(path)
    assert (found.timesteps.tolist(), found.solver, found.model) == ([1000, 750, 500, 1], None, None)
    assert read_and_check(path).tolist() == [1000, 750, 500, 1]


def test_what_a_schedule_gives_can_be_written_to_a_file_and_read_back(tmp_path):
    path = tmp_path / "taus.json"
    taus = make_timesteps("logsnr", THOUSAND, 17)
    path.write_text(json.dumps(taus.tolist()))
    assert read_and_check(path).tolist() == taus.tolist()


def test_a_fitted_file_says_for_which_solver_and_model(tmp_path):
    path = tmp_path / "fitted.json"
    path.write_text(json.dumps({"format": 1, "solver": "unipc", "model": "ab12", "timesteps": [900, 1]}))
    found = read_timesteps(path)
    assert (found.timesteps.tolist(), found.solver, found.model) == ([900, 1], "unipc", "ab12")
    path.write_text(json.dumps({"format": 2, "solver": "unipc", "model": "ab12", "timesteps": [900, 1]}))
    with pytest.raises(BadTimesteps, match="format 2, not 1"):
        read_timesteps(path)
    path.write_text(json.dumps({"format": 1, "timesteps": [900, 1]}))
    with pytest.raises(BadTimesteps, match="lacks 'solver'; make it again with 'scrdit schedule'"):
        read_timesteps(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1000 7.5 1", ["7.5", "whole numbers such as"]),
        ("[1000, 7.5, 1]", ["whole number", "whole numbers such as"]),
        ("1000 many 1", ["many", "whole numbers such as"]),
        ("[1000, true, 1]", ["whole numbers such as"]),
        ("[1000, null]", ["whole numbers such as"]),
        ("[[1000, 1]]", ["whole numbers such as"]),
        ("[1000, 500", ["whole numbers such as"]),
        ("[1000, NaN]", ["whole numbers such as"]),
        ("[Infinity, 1]", ["whole numbers such as"]),
        ("[1e400, 1]", ["whole numbers such as"]),
        ("1e3 1", ["1e3", "whole numbers such as"]),
        ("500 1000 1", ["1000 follows 500", "sort"]),
        ("1000 500 500 1", ["500 follows 500", "descend strictly"]),
        ("1001 500 1", ["1001", "1..1000"]),
        ("1000 500 0", ["timestep 0", "1..1000"]),
        ("1000 -5", ["-5", "1..1000"]),
        ("18446744073709551616 1", []),
        ("[18446744073709551616, 1]", []),
        ("", ["list of 0 timesteps", "at least 2"]),
        (" \n", ["list of 0 timesteps", "at least 2"]),
        ("[]", ["list of 0 timesteps", "at least 2"]),
        ("[1000]", ["list of 1 timesteps", "at least 2"]),
    ],
)
def test_a_bad_list_is_refused_in_one_line_with_value_and_remedy(tmp_path, text, said):
    path = tmp_path / "taus.txt"
    path.write_text(text)
    with pytest.raises(BadTimesteps) as caught:
        read_and_check(path)
    message = str(caught.value)
    assert "\n" not in message
    for words in said:
        assert words in message


def test_a_file_that_is_not_text_is_refused_by_name(tmp_path):
    path = tmp_path / "taus.bin"
    path.write_bytes(bytes([0xFF, 0xFE, 0x80, 0x81]))
    with pytest.raises(BadTimesteps, match=r"taus\.bin is no list of timesteps"):
        read_timesteps(path)


def test_a_schedule_that_is_neither_name_nor_file_is_told_the_names(tmp_path):
    with pytest.raises(BadTimesteps, match=r"no schedule 'cubic'.*uniform, quadratic, logsnr.*file"):
        read_timesteps("cubic")
    with pytest.raises(BadTimesteps, match=r"no schedule .*irectory"):
        read_timesteps(tmp_path)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [0, -1, 1, 1001])
def test_more_steps_than_timesteps_or_fewer_than_two_are_refused(name, steps):
    with pytest.raises(BadTimesteps, match=rf"{steps} steps are not within 2\.\.1000"):
        make_timesteps(name, THOUSAND, steps)


def test_checking_gives_back_what_it_was_given():
    taus = np.array([9, 4, 1])
    assert check_timesteps(taus, 10) is taus


@pytest.mark.parametrize(
    ("acceleration", "steps"), [(1, 1000), (10, 100), (20, 50), (50, 20), (100, 10), (3, 333), (500, 2), (1.5, 667)]
)
def test_acceleration_divides_the_timesteps(acceleration, steps):
    assert steps_of_acceleration(1000, acceleration) == steps


@pytest.mark.parametrize("acceleration", [0, 0.5, -10, 501, float("inf"), float("nan")])
def test_an_acceleration_below_one_or_down_to_one_step_is_refused(acceleration):
    with pytest.raises(BadTimesteps, match=rf"acceleration {acceleration:g} is not within 1\.\.500; 1 is every"):
        steps_of_acceleration(1000, acceleration)
