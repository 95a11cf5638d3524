import os
import subprocess
import sys

import jax
import pytest

from scrdit_jax import devices
from scrdit_jax.devices import describe_devices, free_memory, peak_memory, usable_cores, usable_devices


def devices_of_a_process(**environment: str) -> int:
    """How many devices JAX has in a fresh process after `use_every_core`."""
    script = (
        "from scrdit_jax.devices import use_every_core; use_every_core(); import jax; print(jax.local_device_count())"
    )
    kept = {k: v for k, v in os.environ.items() if k not in {"XLA_FLAGS", "JAX_NUM_CPU_DEVICES"}}
    found = subprocess.run(
        [sys.executable, "-c", script], env=kept | environment, capture_output=True, text=True, check=True
    )
    return int(found.stdout)


def test_every_core_is_a_device_unless_the_user_has_chosen():
    assert devices_of_a_process() == min(usable_cores(), devices.MOST_CPU_DEVICES)
    assert devices_of_a_process(JAX_NUM_CPU_DEVICES="3") == 3
    assert devices_of_a_process(XLA_FLAGS="--xla_force_host_platform_device_count=4") == 4


def test_nothing_changes_once_jax_has_started():
    before = jax.local_device_count()
    devices.use_every_core()
    assert jax.local_device_count() == before


@pytest.mark.parametrize(("batch", "count"), [(8, 2), (7, 1), (2, 2), (1, 1)])
def test_a_batch_is_shared_out_over_as_many_devices_as_divide_it(batch, count):
    assert len(usable_devices(batch)) == count


def test_memory_is_counted_in_plain_bytes():
    assert 1e6 < free_memory(jax.local_devices()[0]) < 1e14
    peak, whose = peak_memory()
    assert 1e7 < peak < 1e12
    assert whose == "process"


def test_devices_are_described_in_plain_values():
    found = describe_devices()
    assert found["platform"] == "cpu"
    assert found["devices"] == 2
    assert found["kind"]
    assert found["jax"] == jax.__version__


def test_cores_that_were_made_devices_are_one_where_they_would_have_to_wait_for_each_other(monkeypatch):
    assert len(usable_devices(8, collectives=True)) == 2  # these two were asked for
    monkeypatch.setattr(devices, "_cores_are_devices", True)
    assert len(usable_devices(8, collectives=True)) == 1
    assert len(usable_devices(8)) == 2
