"""What is timed once: the choices, on figures that are given, and that they are remembered."""

import itertools
import json

import pytest

from scrdit_jax import cache as caches
from scrdit_jax.attention import attention_seconds, choose_attention
from scrdit_jax.cache import cached_measurement
from scrdit_jax.checkpoint import load_model
from scrdit_jax.config import SamplingConfig
from scrdit_jax.generation import tuning
from scrdit_jax.generation.engine import make_engine
from scrdit_jax.generation.tuning import batch_sizes, choose_batch_size, stops_paying


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SCRDIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_smallest_batch_that_is_nearly_the_fastest_is_chosen():
    assert choose_batch_size([[8, 100.0], [16, 198.0], [32, 200.0], [64, 150.0]]) == 16
    assert choose_batch_size([[8, 100.0], [16, 150.0], [32, 200.0]]) == 32
    assert choose_batch_size([[64, 5.0]]) == 64


def test_the_sweep_ends_when_two_more_sizes_bring_nothing():
    assert not stops_paying([1.0])
    assert not stops_paying([1.0, 1.0])
    assert not stops_paying([1.0, 1.0, 1.2])
    assert stops_paying([1.0, 1.01, 1.0])


@pytest.mark.parametrize(
    ("devices", "platform", "first"),
    [(2, "cpu", [8, 16, 32, 64]), (1, "gpu", [64, 256, 1024, 4096]), (4, "tpu", [32, 64, 128, 256])],
)
def test_candidates_are_shared_out_evenly(devices, platform, first):
    assert list(itertools.islice(batch_sizes(devices, platform), 4)) == first


def test_cudnn_is_used_where_it_is_there_and_faster():
    assert choose_attention({"xla": 2.0, "cudnn": 1.0}) == "cudnn"
    assert choose_attention({"xla": 1.0, "cudnn": 2.0}) == "xla"
    assert choose_attention({"xla": 1.0, "cudnn": None}) == "xla"
    assert choose_attention({"xla": None, "cudnn": 1.0}) == "cudnn"
    assert choose_attention({"xla": 1.0, "cudnn": 1.0}) == "xla"


def test_attention_is_timed_and_what_a_device_cannot_do_is_not_an_error(tiny_run):
    model = load_model(tiny_run)
    network = make_engine(model, SamplingConfig(steps=2, batch_size=8)).network
    for gradient in (False, True):
        seconds = attention_seconds(network, "bfloat16", ("xla", "cudnn", "pallas"), gradient=gradient)
        assert seconds["xla"] > 0
        assert seconds["cudnn"] is seconds["pallas"] is None
    assert network.attention == "xla"


def test_the_batch_size_is_found_once_and_then_remembered(tiny_run, cache, monkeypatch):
    model = load_model(tiny_run)
    found = make_engine(model, SamplingConfig(steps=2)).batch_size
    assert found % 2 == 0
    assert found >= 8
    record = json.loads(next((cache / "choices").iterdir()).read_text())
    assert record["key"]["width"] == 16
    assert [size for size, _ in record["value"]][:2] == [8, 16]
    monkeypatch.setattr(tuning, "seconds_a_call", None)  # a second sweep would fail
    assert make_engine(model, SamplingConfig(steps=2)).batch_size == found


def test_the_batch_size_grows_no_further_than_memory(tiny_run, cache, monkeypatch):
    monkeypatch.setattr(tuning, "free_memory", lambda device: 1000)
    monkeypatch.setattr(tuning, "seconds_a_call", lambda call: 1e-3)  # larger would be better
    assert make_engine(load_model(tiny_run), SamplingConfig(steps=2)).batch_size == 8


def test_what_is_remembered_is_told_apart_by_its_key_and_may_be_lost(cache):
    assert cached_measurement({"a": 1}, lambda: (1, 2)) == [1, 2]
    assert cached_measurement({"a": 1}, lambda: None) == [1, 2]
    assert cached_measurement({"a": 2}, lambda: {"x": None}) == {"x": None}
    for path in (cache / "choices").iterdir():
        path.write_text("{ not JSON")
    assert cached_measurement({"a": 1}, lambda: 3) == 3


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SCRDIT_CACHE", str(tmp_path / "file" / "below"))
    assert cached_measurement({"a": 1}, lambda: 5) == 5
    caches.enable_compilation_cache()
