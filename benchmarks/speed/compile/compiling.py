"""One program compiled for one chip, and judged; in a process of its own, as JAX is set up as it starts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from .chips import CHIPS, Chip, prepare_environment


class Program(NamedTuple):
    """What is compiled: a "sampler" of so many `evaluations` or a training "step", of `batch_size` cells in all.

    Without an `attention`, that which keeps scores on the chip.
    """

    chip: str
    preset: str
    kind: str
    batch_size: int
    devices: int = 1
    evaluations: int = 20
    dtype: str = "bfloat16"
    attention: str | None = None


def compile_and_judge(*fields: Any) -> dict[str, Any]:
    """A Program's fields, and what its program is like, in plain values."""
    program = Program(*fields)
    chip = CHIPS[program.chip]
    prepare_environment(chip)
    from .hlo import Module
    from .judging import judge
    from .programs import described, sampler, training_step

    preset, devices = described(program.preset), chip.devices(program.devices)
    settings = {"dtype": program.dtype, "attention": program.attention or chip.attention}
    is_sampler, started = program.kind == "sampler", time.perf_counter()
    if is_sampler:
        lowered = sampler(preset, devices, program.batch_size, program.evaluations, **settings)
    else:
        lowered = training_step(preset, devices, program.batch_size, **settings)
    compiled = lowered.compile()
    seconds = time.perf_counter() - started
    module, cells = Module.parse(compiled.as_text()), program.batch_size // program.devices
    part = module.body(program.evaluations) if is_sampler else module.entry
    of_kernel = kernel_cycles(chip, program.preset, cells) if settings["attention"] == "pallas" and is_sampler else 0.0
    found = judge(module, part, chip, cells, kernel_cycles=of_kernel)
    for name in [name for name in found if is_sampler and name.startswith("cells_a_second") and found[name]]:
        found[name] /= program.evaluations
    memory = compiled.memory_analysis()
    return {
        **program._asdict(),
        "evaluations": program.evaluations if is_sampler else None,
        "asked_attention": settings["attention"],
        "compile_seconds": seconds,
        "temporary_megabytes": memory.temp_size_in_bytes / 1e6,
        "arguments_megabytes": memory.argument_size_in_bytes / 1e6,
        "kernels_a_block": found["kernels"] / preset.config.network.depth,
        "cycles_of_attention": of_kernel or None,
        **found,
    }


def kernel_cycles(chip: Chip, preset: str, cells: int) -> float:
    """Of a TPU's own kernel for attention, the instructions that it issues for a cell, one a cycle: those that the
    compiler has scheduled, without what waits for memory."""
    with tempfile.TemporaryDirectory() as folder:
        code = (
            "from benchmarks.speed.compile.compiling import compile_attention; "
            f"compile_attention({chip.name!r}, {preset!r}, {min(cells, 2)})"
        )
        dumped = os.environ | {"LIBTPU_INIT_ARGS": f"--xla_jf_dump_to={folder} --xla_jf_dump_llo_text=true"}
        subprocess.run([sys.executable, "-c", code], env=dumped, check=True, capture_output=True)
        counts = [
            sum(bool(re.fullmatch(r"[\d ]+", line)) and len(line.split()) > 8 for line in path.read_text().splitlines())
            for path in Path(folder).glob("*attention*final_hlo-static-per-bundle-utilization.txt")
        ]
    # The first line is what the units can do.
    return (max(counts) - 1) / min(cells, 2)


def compile_attention(chip: str, preset: str, cells: int) -> None:
    """The kernel alone, for so many cells at once."""
    known = CHIPS[chip]
    prepare_environment(known)
    import jax
    import jax.numpy as jnp
    from jax.sharding import SingleDeviceSharding

    from scrdit_jax.networks import attend, attention_shape, padded_tokens

    from .programs import described

    keys, heads, size = attention_shape(described(preset).network("pallas"))
    shape = cells, padded_tokens(keys, "pallas"), 3 * heads * size
    qkv = jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=SingleDeviceSharding(known.devices(1)[0]))
    jax.jit(lambda qkv: attend(qkv, heads, keys, "pallas")).lower(qkv).compile()
