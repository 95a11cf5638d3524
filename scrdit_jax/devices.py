"""What hardware is here, in plain values."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import re
import signal
import sys
from pathlib import Path

import jax

from .errors import BadConfig

# Beyond this the cores of one CPU are left to the operations themselves: a batch split further has parts too small.
MOST_CPU_DEVICES = 8


_cores_are_devices = False
# Of mallopt(3). M_ARENA_MAX: large blocks in an arena for each thread would always be given back. M_MMAP_THRESHOLD:
# blocks up to 1 GB lie on the heap. M_TRIM_THRESHOLD: so much of it is kept.
ENOUGH_MEMORY = 8 << 30
_KEEP_FREED_MEMORY = ((-8, 1), (-3, 1 << 30), (-1, 2**31 - 1))


def use_every_core() -> None:
    """Let a CPU's cores be devices of their own, each with its share of a batch.

    Shares side by side keep cores busier than one batch whose every operation is split over them (1.15 to 1.25 times
    the cells a second on two cores). Nothing happens where JAX has started or the user has chosen.
    """
    global _cores_are_devices
    chosen = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if chosen or jax.config.jax_num_cpu_devices > 0:
        return
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", min(usable_cores(), MOST_CPU_DEVICES))
        _cores_are_devices = True


def keep_freed_memory() -> None:
    """Have glibc keep the memory of one training step's buffers for the next step's, up to 2 GB of it.

    Otherwise it goes back to the system after each step, which then fills every page with zeros anew: of a training
    step on two cores that was 28 to 35 % of the CPU time. What is kept is in pieces, so a process may take twice the
    memory: nothing happens where less than ENOUGH_MEMORY is free, nor with another C library.
    """
    if free_host_memory() < ENOUGH_MEMORY:
        return
    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in _KEEP_FREED_MEMORY:
            mallopt(parameter, value)


def usable_cores() -> int:
    """Cores this process may use: those of its affinity, and no more than its control group grants."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def describe_devices() -> dict[str, str | int]:
    """Platform, kind and number of this process's devices, and the JAX version that found them."""
    devices = jax.local_devices()
    return {
        "platform": devices[0].platform,
        "kind": device_kind(),
        "devices": len(devices),
        "jax": jax.__version__,
    }


def device_kind() -> str:
    """What the devices are called: "NVIDIA H200", "TPU v5e", or the processor's name."""
    device = jax.local_devices()[0]
    if device.platform != "cpu":
        return device.device_kind
    with contextlib.suppress(OSError):
        names = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if names:
            return names[0].strip()
    return platform.processor() or platform.machine()


def usable_devices(batch_size: int, *, collectives: bool = False) -> list[jax.Device]:
    """As many local devices as divide the batch evenly: all of them where possible, one always.

    For work with `collectives`, cores that `use_every_core` made devices count as one: with a step dispatched before
    the last has ended, their all-reduce was seen to wait for a thread for ever, and one after the other small batches
    are no faster on two (benchmarks/speed/training.py).
    """
    devices = jax.local_devices()
    if collectives and _cores_are_devices and devices[0].platform == "cpu":
        return devices[:1]
    count = next(n for n in range(len(devices), 0, -1) if batch_size % n == 0)
    return devices[:count]


def free_memory(device: jax.Device) -> int:
    """Bytes that a program may still take on `device`; the devices of one CPU share what the host has free."""
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    return free_host_memory() // len(jax.local_devices())


def free_host_memory() -> int:
    """Bytes available on the host, and no more than its control group grants."""
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    else:
        free = 4 << 30
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = 1024 * int(next(line.split()[1] for line in lines if line.startswith("MemAvailable:")))
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        limit, used = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
        free = min(free, int(limit) - int(used))
    return max(free, 0)


def peak_memory() -> tuple[int, str]:
    """The most bytes in use so far on the first device, or, on a CPU, by the process; and which of the two it is."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"], "device"
    if sys.platform == "win32":
        return 0, "unknown"
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used * (1 if sys.platform == "darwin" else 1024), "process"


def join_processes(
    coordinator: str | None = None, processes: int | None = None, process_id: int | None = None
) -> tuple[int, int]:
    """(this process's number, how many there are); before JAX first looks for devices.

    Given `processes` and `process_id`, nobody is asked. Otherwise JAX finds out from where it runs (Cloud TPU, SLURM,
    GKE, Open MPI), or meets the others at `coordinator` ("host:port"). Then the processes part: none needs another to
    work, so one that dies takes no other with it, and each sees its local devices only.
    """
    _check_place(coordinator, processes, process_id)
    if processes is not None and coordinator is None:
        return process_id, processes
    # The number is to be known before devices are: asked with jax.process_index(), JAX would bind them all together.
    from jax._src.distributed import global_state

    on_sigterm = signal.getsignal(signal.SIGTERM)
    _meet(coordinator, processes, process_id, remedy="give --processes N and --process-id I, without --coordinator")
    place = global_state.process_id, global_state.num_processes
    jax.distributed.shutdown()
    # JAX has put a handler of its own in that place, which for a process alone would do nothing at all.
    with contextlib.suppress(ValueError):  # only the main thread may
        signal.signal(signal.SIGTERM, signal.SIG_DFL if on_sigterm is None else on_sigterm)
    global_state.process_id, global_state.num_processes = 0, 1
    return place


def bind_processes(
    coordinator: str | None = None, processes: int | None = None, process_id: int | None = None
) -> tuple[int, int]:
    """(this process's number, how many there are); before JAX first looks for devices.

    Unlike with `join_processes` they stay bound: each sees the devices of all, and one that dies takes the others with
    it. Given `processes` and `process_id`, they meet at `coordinator`; otherwise JAX finds out from where it runs.
    """
    _check_place(coordinator, processes, process_id)
    if processes is not None and processes > 1 and coordinator is None:
        raise BadConfig("processes that train together must meet; give --coordinator HOST:PORT, the same to each")
    if processes == 1:
        return 0, 1
    # Where the devices are CPUs; others have means of their own.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    _meet(coordinator, processes, process_id, remedy="give --coordinator, --processes and --process-id to each")
    return jax.process_index(), jax.process_count()


def _check_place(coordinator: str | None, processes: int | None, process_id: int | None) -> None:
    if (processes is None) != (process_id is None):
        raise BadConfig("--processes and --process-id go together; give both, or neither where JAX finds them itself")
    if coordinator is not None and processes is None:
        raise BadConfig("--coordinator needs --processes and --process-id")
    if processes is not None and not 0 <= process_id < processes:
        raise BadConfig(f"there is no process {process_id} among {processes}; they are numbered 0 to {processes - 1}")


def _meet(coordinator: str | None, processes: int | None, process_id: int | None, *, remedy: str) -> None:
    try:
        jax.distributed.initialize(coordinator, processes, process_id)
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadConfig(f"the processes could not find each other ({reason}); {remedy}") from error
