"""What hardware is here, in plain values."""

from __future__ import annotations

import jax


def describe_devices() -> dict[str, str | int]:
    """Platform, kind and number of this process's devices, and the JAX version that found them."""
    devices = jax.local_devices()
    return {
        "platform": devices[0].platform,
        "kind": devices[0].device_kind,
        "devices": len(devices),
        "jax": jax.__version__,
    }


def usable_devices(batch_size: int) -> list[jax.Device]:
    """As many local devices as divide the batch evenly: all of them where possible, one always."""
    devices = jax.local_devices()
    count = next(n for n in range(len(devices), 0, -1) if batch_size % n == 0)
    return devices[:count]
