"""Every file of `hostile` is read as it should be or refused in one line: loaded, streamed, and by `scrdit info`."""

import contextlib
import signal

import pytest
from hostile import FILES

from scrdit_jax import api
from scrdit_jax.config import RunConfig
from scrdit_jax.errors import ScrditError, one_line
from scrdit_jax.io import limits

SECONDS = 20


@contextlib.contextmanager
def in_time():
    """TimeoutError instead of a test that never ends."""

    def late(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def config():
    return RunConfig.from_dict(
        {
            "data": {"genes": 16, "min_cells": 1, "held_out": 0.3},
            "network": {"genes_per_token": 4, "width": 16, "depth": 1, "heads": 2},
            "diffusion": {"timesteps": 20, "beta_start": 0.01, "beta_end": 0.6},
            "training": {"steps": 12, "batch_size": 8},
        }
    )


@pytest.fixture(autouse=True)
def small_limits(monkeypatch):
    """So that a bomb of some MB is one."""
    monkeypatch.setattr(limits, "ALWAYS_TAKEN", 8 << 20)
    monkeypatch.setattr(limits, "MOST_BYTES_A_LINE", 4 << 20)


def outcome_of(action):
    """What a user would see; None where it worked. Anything but a ScrditError is a failure of the test."""
    with in_time():
        try:
            action()
        except ScrditError as error:
            return one_line(str(error))
    return None


@pytest.mark.filterwarnings("error::RuntimeWarning")  # users would see it, between or instead of our lines
@pytest.mark.parametrize("name", FILES)
def test_a_hostile_file_is_read_or_refused_in_one_line(name, tmp_path, config):
    make, expected = FILES[name]
    path = make(tmp_path)
    streamed = outcome_of(lambda: api.prepare(path, preset=config, stream=True))
    loaded = outcome_of(lambda: api.prepare(path, preset=config, stream=False))
    described = outcome_of(lambda: api.describe(path))
    for said in (streamed, loaded, described):
        assert said is None or (len(said) < 2100 and said.isprintable())
    if not expected:
        assert loaded is None
        assert described is None
    elif expected != ("",):
        assert loaded is not None
        assert any(part in loaded for part in expected), loaded
    # Streamed files are judged as loaded ones are, but for their formats and where memory is what is lacking.
    if streamed is None or "cannot be streamed" not in streamed:
        assert (streamed is None) == (loaded is None), (streamed, loaded)
