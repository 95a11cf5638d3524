"""The fake device that the host is measured with."""

import contextlib
import time

import numpy as np
import pytest

from benchmarks.speed import fake_device, host
from benchmarks.speed.stages import BESIDE, FILE, FUNCTIONS, HDF5, REST
from scrdit_jax.conditioning.assignment import Assignment
from scrdit_jax.conditioning.request import Quotas
from scrdit_jax.data.packed import Packed
from scrdit_jax.generation.composition import CellSampler, collect, dispatch_ahead
from scrdit_jax.generation.plan import Shard


@pytest.fixture(autouse=True)
def small(monkeypatch):
    for module in (fake_device, host):
        monkeypatch.setattr(module, "GENES", 100, raising=False)
        monkeypatch.setattr(module, "BATCH_SIZE", 64)
    monkeypatch.setattr(host, "SMALL", host.SMALL | {"genes": 100})


def test_batches_come_at_their_time_and_hold_the_packed_cells():
    device = fake_device.FakeDevice(0.9, pace=64 / 0.2)
    sampler = CellSampler((device,), (320,), Assignment.of(Quotas.unlabelled(320)), None)
    started, rooms, kinds = time.perf_counter(), [], []
    for number, done in enumerate(dispatch_ahead(sampler.jobs([Shard(0, 0, 320)]))):
        # Where the host stood still meanwhile, the batch is there.
        assert not done.packed.values.is_ready() or time.perf_counter() >= started + 0.2 * (number + 1)
        found = collect(done)
        assert done.batch.cells.is_ready()
        assert time.perf_counter() >= started + 0.2 * (number + 1)
        kinds.append(type(found.cells))
        rooms.append(done.packed.values.shape[1])
        cells = sampler.block(done.job, found).cells.toarray()
        np.testing.assert_array_equal(cells, device._dense[number % 4])
        assert 0.85 < np.mean(cells == 0) < 0.95
    assert rooms[0] == rooms[1] > rooms[2]
    transferred = [
        64 * room * 6 + 64 * 4 + (kind is np.ndarray) * 64 * 400 for room, kind in zip(rooms, kinds, strict=True)
    ]
    assert Packed in kinds
    assert device.bytes == sum(transferred)


def test_cells_are_written_and_every_stage_is_measured(tmp_path):
    found = host.written(tmp_path, 0.9, None, 64 * 10, True)
    assert found["cells_per_second"] > 0
    assert found["bytes_written_per_cell"] > found["values_per_cell"] > 5
    stages = found["cpu_us_per_cell"]
    assert set(stages) == {REST, *BESIDE, *(stage for _, _, stage in FUNCTIONS)}
    assert all(spent > 0 for spent in stages.values())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("rates", "serial", "file", "bound", "rate"),
    [
        ({"1": 1e5, "2": 1.8e5}, 2.0, 4.0, "the device", 150_000),
        ({"1": 1e5, "2": 1.8e5}, 10.0, 4.0, "the serial part", 100_000),
        ({"1": 1e5, "2": 1.8e5}, 2.0, 19.0, "the writers", 100_000),
        ({"1": 1e4, "2": 1.5e4}, 2.0, 4.0, "the cores", 120_000),
    ],
)
def test_what_bounds_many_cores_is_the_slowest(rates, serial, file, bound, rate):
    stages = dict.fromkeys(BESIDE, 50.0) | {FILE: file, REST: serial / 2, HDF5: serial / 2}
    found = host.extrapolated(rates, stages)
    assert found["bounded_by"] == bound
    assert found["cells_per_second_on_16_cores"] == pytest.approx(rate)
    assert found["device_waits_on_16_cores"] == pytest.approx(1 - rate / 150_000)


def test_a_table_is_made_of_what_was_measured(monkeypatch, tmp_path):
    """Of processes that are not started here."""
    fake = {
        "cells_per_second": 9e4, "cells_per_cpu_second": 1e5, "device_waited": 0.4, "bytes_transferred_per_cell": 10.0,
        "cpu_us_per_cell": dict.fromkeys((*BESIDE, REST), 1.0),
    }  # fmt: skip
    monkeypatch.setattr(host, "in_own_process", lambda *call: fake)
    monkeypatch.setattr(host, "on_cores", lambda count: contextlib.nullcontext())
    row = host.measure(tmp_path, 0.9, 100, rounds=2)
    assert row["bytes_transferred_per_cell"] == 10
    assert "| 90% | 90,000 | 90,000 | 90,000 | 40% | 6.0 | 1.0 | 150,000 | the device |" in host.table([row])
    assert f"| {REST} | one core | 1.00 |" in host.table([row])
    assert np.isfinite(row["serial_us_per_cell"])
