"""What devices could do at most, as their makers say, to hold what they did against it."""

from __future__ import annotations

# FLOP/s of dense products in bfloat16 (T4: float16, for lack of it), by the beginning of what JAX calls the device: the
# longest that fits. From the data sheets of NVIDIA and Google Cloud.
PEAKS = {
    "NVIDIA A100": 312e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H200": 989e12,
    "NVIDIA L4": 121e12,
    "Tesla T4": 65e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
}


def peak_flops(kind: str) -> float | None:
    """FLOP/s of one device of this kind in bfloat16; None where it is not known, as for CPUs."""
    fitting = [name for name in PEAKS if kind == name or kind.startswith((f"{name} ", f"{name}-"))]
    return PEAKS[max(fitting, key=len)] if fitting else None


def share_of_peak(flops_per_second: float, kind: str, devices: int) -> float | None:
    """What share that is of so many devices' peak in bfloat16, whatever was computed in."""
    peak = peak_flops(kind)
    return None if peak is None else flops_per_second / (devices * peak)
