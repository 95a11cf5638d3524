"""The chips that are compiled for on a host without one: what they are called, and what they can do at most."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.speed.peaks import PEAKS

# Both are read as JAX starts: nothing is to look for a device, or for the cloud that it would be in.
ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
# Without a GPU nothing can be timed; what is timed there at compilation is left as it is without.
CUDA_FLAGS = "--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false"


@dataclass(frozen=True)
class Chip:
    """`peak` FLOP/s in bfloat16 and `bandwidth` bytes/s of the main memory; `topology` is that of `most` devices. A TPU
    has the `clock` of the cycles that its compiler estimates, a GPU the `memory` and `cache` that XLA asks for.
    """

    name: str
    platform: str
    topology: str
    most: int
    peak: float
    bandwidth: float
    clock: float = 0.0
    memory: float = 0.0
    cache: int = 0

    @property
    def attention(self) -> str:
        """What keeps scores on the chip."""
        return "pallas" if self.platform == "tpu" else "cudnn"

    @property
    def narrow(self) -> str:
        """The dtype of 8 bits that its matrix units multiply."""
        return "int8" if self.platform == "tpu" else "fp8"

    def devices(self, count: int) -> Sequence[Any]:
        """So many of them, to compile for."""
        from jax.experimental import topologies

        if self.platform == "tpu":
            return topologies.get_topology_desc(self.topology, platform="tpu").devices[:count]
        described = topologies.get_topology_desc(
            "", platform="cuda", topology=f"1x1x{count}", target_config=self._target()
        )
        return described.devices[:count]

    def _target(self) -> str:
        """What XLA asks a driver about a Hopper GPU, in its text form."""
        return f"""gpu_device_info {{
            threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048 core_count: 132
            fpus_per_core: 128 shared_memory_per_block: 49152 shared_memory_per_core: 233472
            shared_memory_per_block_optin: 232448 registers_per_core_limit: 65536 registers_per_block_limit: 65536
            block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535 clock_rate_ghz: 1.98
            memory_bandwidth: {self.bandwidth:.0f} l2_cache_size: {self.cache} device_memory_size: {self.memory:.0f}
            cuda_compute_capability {{ major: 9 minor: 0 feature_extension: ACCELERATED_FEATURES }}
        }}
        platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 10 }} runtime_version {{ major: 13 minor: 0 }}
        device_description_str: "NVIDIA {self.name}" """


# Of H100 and H200 790 TFLOP/s are taken where the vendor says 989: large products come to some 80 %.
CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v5e", "tpu", "v5e:2x2", 4, PEAKS["TPU v5e"], 819e9, 1.5e9),
        Chip("v6e", "tpu", "v6e:2x2", 4, PEAKS["TPU v6e"], 1640e9, 1.75e9),
        Chip("v5p", "tpu", "v5p:2x2x1", 4, PEAKS["TPU v5p"], 2765e9, 1.75e9),
        Chip("H100", "cuda", "1x1x1", 1, 790e12, 3352e9, memory=84.9e9, cache=52428800),
        Chip("H200", "cuda", "1x1x1", 1, 790e12, 4800e9, memory=150e9, cache=62914560),
    )
}


def prepare_environment(chip: Chip) -> None:
    """Before JAX is imported."""
    os.environ.update(ENVIRONMENT)
    if chip.platform == "cuda":
        os.environ["XLA_FLAGS"] = CUDA_FLAGS
