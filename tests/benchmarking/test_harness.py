"""The benchmark itself: a sampler of known cost, rows that outlive a kill, a file in the form it says."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import jax
import jsonschema
import numpy as np
import pytest

import scrdit_jax as scrdit
from scrdit_jax.benchmarking import harness
from scrdit_jax.benchmarking.cases import choose, standard_cases
from scrdit_jax.benchmarking.harness import rates, summarise, time_batches
from scrdit_jax.benchmarking.results import RESULTS, SCHEMA_PATH, open_results, results_table
from scrdit_jax.benchmarking.store import ResultStore
from scrdit_jax.benchmarking.timing import Timing, in_turn, matrix_product_rate
from scrdit_jax.errors import BadConfig, OutputExists
from scrdit_jax.registry import SOLVERS


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def costs(self, seconds, result=None):
        def call():
            self.now += seconds
            return result

        return call


class FakeSampler(NamedTuple):
    """Each batch of 50 cells costs what the list says."""

    clock: Clock
    seconds: list[float]
    batch_size: int = 50

    def dispatch(self, first, donated=None):
        self.clock.now += self.seconds[first // self.batch_size]
        return np.full((self.batch_size, 3), first)

    def fetch(self, batch, first, count):
        return batch[:count]


def test_a_sampler_of_known_cost_is_timed_right():
    timing, batches = time_batches(FakeSampler(Clock(), clock_costs := [9.0, 2.0, 2.5, 2.0]), 4, clock=Clock())
    assert timing.seconds == (0, 0, 0)
    assert len(batches) == len(clock_costs)
    clock = Clock()
    timing, _ = time_batches(FakeSampler(clock, clock_costs), 4, clock=clock)
    assert timing.seconds == pytest.approx((2.0, 2.5, 2.0))  # the first warms up
    found = rates(timing, batch_size=50, evaluations=20, flops=1000, matrix_rate=1e6)
    assert found["cells_per_second"] == pytest.approx({"median": 25.0, "low": 50 / 2.25, "high": 25.0})
    assert found["cell_evaluations_per_second"] == pytest.approx(500)
    assert found["flops_per_second"] == pytest.approx(5e5)
    assert found["share_of_matrix_product"] == pytest.approx(0.5)


def test_things_are_timed_in_turn_after_a_warm_up():
    clock, order = Clock(), []

    def make(name, seconds):
        return lambda: (order.append(name), clock.costs(seconds)())

    first, second = in_turn([make("a", 1.0), make("b", 3.0)], 3, clock=clock)
    assert "".join(order) == "ab" + "ababab"
    assert first.seconds == pytest.approx((1, 1, 1))
    assert second.median == pytest.approx(3)


def test_work_that_jax_has_only_begun_is_waited_for():
    wait = jax.jit(lambda x: jax.lax.fori_loop(0, 300, lambda _, y: y @ y * 1e-3, x))
    x = np.eye(200, dtype=np.float32)
    started = time.perf_counter()
    (timing,) = in_turn([lambda: wait(x)], 3)
    assert 0 < sum(timing.seconds) < time.perf_counter() - started
    began = time.perf_counter()
    jax.block_until_ready(wait(x))
    assert timing.median > 0.1 * (time.perf_counter() - began)


def test_quartiles_and_medians():
    timing = Timing((4.0, 1.0, 2.0, 3.0, 5.0))
    assert timing.median == 3.0
    assert timing.quartiles == (2.0, 4.0)


def test_the_matrix_product_is_counted_over_all_devices():
    assert matrix_product_rate("float32", jax.local_devices()) > 1e8


def test_the_cases_are_the_papers_and_few_steps_for_fast_solvers():
    names = [case.name for case in standard_cases(1000, fitted=True, draws=True)]
    assert names[0] == "ddpm-1000"
    assert len(set(names)) == len(names)
    assert {case.solver for case in standard_cases(1000, fitted=True, draws=True)} == set(SOLVERS)
    for solver in ("ddpm", "ddim", "dpmpp-2m", "dpmpp-2m-sde", "dpmpp-3m", "unipc"):
        assert {f"{solver}-{n}" for n in (100, 50, 20, 10)} <= set(names)
    assert {"unipc-5", "dpmpp-2m-8", "unipc-15", "unipc-8-fitted"} <= set(names)
    assert "ddim-5" not in names
    assert {f"distributional-{n}" for n in (1, 2, 3, 4, 6, 8)} <= set(names)
    short = standard_cases(20, fitted=True, draws=False)[1:]
    assert all(2 <= case.steps <= 20 and case.solver != "distributional" for case in short)


def test_cases_are_chosen_by_pattern_and_an_unknown_one_is_refused():
    cases = standard_cases(1000, fitted=False, draws=False)
    assert [c.name for c in choose(cases, ["ddpm-1000", "unipc-1?"])] == ["ddpm-1000", "unipc-15", "unipc-10"]
    assert choose(cases, []) == cases
    with pytest.raises(BadConfig, match=r"no case matches 'euler-\*'; there are ddpm-1000"):
        choose(cases, ["euler-*"])


def test_scores_that_are_not_finite_are_null_in_json():
    found = summarise([{"a": 1.0, "b": float("nan")}, {"a": 3.0, "b": 1.0}])
    assert found["a"] == {"mean": 2.0, "sd": pytest.approx(2**0.5), "values": [1.0, 3.0]}
    assert found["b"]["mean"] is None
    json.dumps(found, allow_nan=False)


@pytest.fixture(scope="module")
def finished(tiny_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark") / "out"
    cases = ("ddpm-20", "unipc-5", "unipc-5-fitted")
    table = scrdit.benchmark(tiny_run, out=folder, cases=cases, seeds=2, repeats=2, batch_size=16)
    return folder, table


@pytest.fixture
def few_cells_are_enough(monkeypatch):
    monkeypatch.setattr(harness, "MINIMUM_CELLS", 4)


def test_the_results_have_the_form_that_the_schema_says(finished):
    folder, table = finished
    values = json.loads((folder / RESULTS).read_text())
    schema = json.loads(SCHEMA_PATH.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(values, schema)
    broken = json.loads(json.dumps(values))
    del broken["rows"][0]["compile_seconds"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, schema)
    assert [row["name"] for row in values["rows"]] == ["ddpm-20", "unipc-5", "unipc-5-fitted"]
    assert values["rows"][2]["timesteps"][0] == 20
    assert len(values["rows"][2]["timesteps"]) == 5
    assert (folder / "throughput.png").read_bytes().startswith(b"\x89PNG")
    assert "| ddpm-20 | 20 |" in table
    assert (folder / "table.md").read_text() == table


@pytest.mark.slow
def test_scores_stand_beside_their_floors_where_cells_were_held_out(tiny_run, tmp_path, few_cells_are_enough):
    table = scrdit.benchmark(tiny_run, out=tmp_path / "out", cases=["unipc-10"], seeds=2, repeats=1, batch_size=16)
    values = json.loads((tmp_path / "out" / RESULTS).read_text())
    jsonschema.validate(values, json.loads(SCHEMA_PATH.read_text()))
    (row,) = values["rows"]
    assert len(row["quality"]["mmd_pca"]["values"]) == 2
    assert 0 <= row["quality"]["random_forest_auc"]["mean"] <= 1
    assert set(values["found"]["floors"]) == {"real vs real", "genes shuffled"}
    assert "*real vs real*" in table
    assert "PCA-50 MMD" in table
    assert (tmp_path / "out" / "quality.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_benchmark_again_measures_nothing_and_another_is_refused(finished, tiny_run, monkeypatch):
    folder, table = finished
    monkeypatch.setattr(harness, "measure", None)
    options = {"seeds": 2, "repeats": 2, "batch_size": 16}
    assert scrdit.benchmark(tiny_run, out=folder, cases=["ddpm-20", "unipc-5"], **options) == table
    with pytest.raises(OutputExists, match=r"other conditions \(settings.batch_size 16, not 32\)"):
        scrdit.benchmark(tiny_run, out=folder, seeds=2, repeats=2, batch_size=32)


@pytest.mark.parametrize("path", sorted(Path("benchmarks/results").rglob("results.json")), ids=str)
def test_results_that_were_kept_can_still_be_read(path):
    values = json.loads(path.read_text())
    if "found" not in values:  # those of other programs in benchmarks/
        return
    jsonschema.validate(values, json.loads(SCHEMA_PATH.read_text()))
    store = ResultStore(path, {"device": values["device"], "settings": values["settings"]})
    assert store.rows == values["rows"]
    assert results_table(store.values).splitlines() == (path.parent / "table.md").read_text().splitlines()


@pytest.mark.slow
def test_a_preset_is_timed_with_random_weights(tiny_config, tmp_path):
    table = scrdit.benchmark(preset=tiny_config, out=tmp_path / "out", cases=["ddim-2"], repeats=1, batch_size=8)
    values = json.loads((tmp_path / "out" / RESULTS).read_text())
    jsonschema.validate(values, json.loads(SCHEMA_PATH.read_text()))
    assert values["weights"] == "random"
    assert values["rows"][0]["quality"] is None
    assert "random weights" in table
    with pytest.raises(BadConfig, match="give a run to benchmark, or a preset"):
        scrdit.benchmark(out=tmp_path / "none")


def test_what_is_no_benchmark_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputExists, match="holds no benchmark"):
        open_results(tmp_path, {})
    (tmp_path / RESULTS).write_text("[1, 2]")
    with pytest.raises(OutputExists, match="is no benchmark's"):
        open_results(tmp_path, {"device": {}})


@pytest.mark.slow
def test_a_benchmark_killed_midway_leaves_its_finished_rows_and_goes_on(tiny_run, tmp_path):
    """`kill -9` as the second row begins; the same command then measures what is missing and no more."""
    script = """
import sys, time
import scrdit_jax as scrdit
from scrdit_jax.benchmarking import harness
whole = harness.measure
def measure(model, case, *rest, **named):
    if case.name == "unipc-2" and sys.argv[3] == "stop":
        print("second", flush=True)
        time.sleep(60)
    return whole(model, case, *rest, **named)
harness.measure = measure
scrdit.benchmark(sys.argv[1], out=sys.argv[2], cases=["ddim-2", "unipc-2"], seeds=1, repeats=1, batch_size=8)
"""

    def start(word):
        arguments = [sys.executable, "-c", script, str(tiny_run.path), str(tmp_path / "out"), word]
        return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=dict(os.environ))

    process = start("stop")
    assert process.stdout.readline() == "second\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    first = json.loads((tmp_path / "out" / RESULTS).read_text())["rows"]
    assert [row["name"] for row in first] == ["ddim-2"]
    assert start("go").wait() == 0
    rows = json.loads((tmp_path / "out" / RESULTS).read_text())["rows"]
    assert [row["name"] for row in rows] == ["ddim-2", "unipc-2"]
    assert rows[0] == first[0]
