"""What a compiled program is like: operations, bytes, attention, kernels, and the least time they can take."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from .chips import Chip
from .costs import COLLECTIVES, HOST, bytes_of, flops_of, is_asynchronous, is_kernel, products
from .hlo import Instruction, Module

KERNELS_OF_OURS = "tpu_custom_call"
NARROW = ("s8", "f8e4m3fn", "f8e5m2")


class Step(NamedTuple):
    """A kernel, how often it runs, and what it costs each time; of its `flops`, so many are products of 8 bits."""

    line: Instruction
    times: int
    flops: int
    bytes: int
    narrow: int = 0

    def seconds(self, chip: Chip) -> float:
        """The least that it can take, all times together; 8 bits are multiplied twice as fast as 16."""
        return self.times * max((self.flops - self.narrow / 2) / chip.peak, self.bytes / chip.bandwidth)


def steps(module: Module, computation: str, times: int = 1) -> Iterator[Step]:
    """The kernels of a computation in order, those of the loops in it as often as they run."""
    for line in module.computations.get(computation, ()):
        if line.opcode == "while":
            yield from steps(module, line.attribute("body") or "", times * module.trips(line))
        elif is_kernel(line):
            inside = [line, *module.inside(line.attribute("calls") or "")]
            flops = {one: count for one in inside if (count := flops_of(module, one))}
            narrow = sum(count for one, count in flops.items() if _is_narrow(module, one))
            yield Step(line, times, sum(flops.values()), bytes_of(module, line), narrow)


def _is_narrow(module: Module, line: Instruction) -> bool:
    """Whether a product's factors have 8 bits."""
    return all(operand.arrays[0].dtype in NARROW for operand in module.operands(line)[:2])


def judge(module: Module, computation: str, chip: Chip, cells: int, *, kernel_cycles: float = 0.0) -> dict[str, Any]:
    """Of one evaluation, or one training step, of `cells` a device: everything that can be told without one.

    `kernel_cycles` are those of our own kernels for each cell, which the compiler's estimate leaves out; without them,
    a program that has such kernels gets no estimate.
    """
    found = list(steps(module, computation))
    flops, moved = sum(step.times * step.flops for step in found), sum(step.times * step.bytes for step in found)
    # Copies that begin and end go on beside the rest, as far as the memory keeps up.
    beside = [step for step in found if is_asynchronous(step.line)]
    one_by_one = sum(step.seconds(chip) for step in found) - sum(step.seconds(chip) for step in beside)
    seconds = max(one_by_one, moved / chip.bandwidth)
    cycles = sum(step.times * step.line.cycles for step in found)
    calls = sum(step.times for step in found if step.line.target == KERNELS_OF_OURS)
    known = chip.clock and cycles and (kernel_cycles or not calls)
    estimated = (cycles + kernel_cycles * cells * calls) / chip.clock if known else None
    return {
        "gflop_a_cell": flops / cells / 1e9,
        "megabytes_a_cell": moved / cells / 1e6,
        "kernels": sum(step.times for step in found if not is_asynchronous(step.line)),
        "seconds_by_operation": seconds,
        "cells_a_second_by_operation": cells / seconds,
        "cells_a_second_by_flops": cells * chip.peak / flops,
        "cells_a_second_by_cycles": cells / estimated if estimated else None,
        "products": product_dtypes(module, computation),
        "attention": attention(module, computation),
        "copies": sum(step.line.opcode in ("copy", "transpose") for step in found),
        "collectives": _count(module, computation, COLLECTIVES),
        "host_transfers": _count(module, computation, HOST),
        "scaled_bias": scaled_bias(module, computation),
        "slowest": [
            {"what": f"{step.line.opcode} {step.line.source.rpartition('DiT.denoise/')[2]}"[-80:],
             "share": step.seconds(chip) / one_by_one}
            for step in sorted(found, key=lambda step: -step.seconds(chip))[:5]
        ],
    }  # fmt: skip


def everything_in(module: Module, computation: str) -> Iterator[Instruction]:
    """All instructions, those of loops and fusions too."""
    for line in module.inside(computation):
        yield line
        if line.opcode == "while":
            yield from everything_in(module, line.attribute("body") or "")


def product_dtypes(module: Module, computation: str) -> dict[str, float]:
    """Of the operations of all matrix products, the share in each combination of element types."""
    shares: Counter[str] = Counter()
    bodies = [computation, *(line.attribute("body") or "" for line in everything_in(module, computation)
                             if line.opcode == "while")]  # fmt: skip
    for body in bodies:
        for product in products(module, body):
            *sides, result = product.dtypes
            shares[f"{' x '.join(sides)} -> {result}"] += product.flops
    total = sum(shares.values()) or 1
    return {name: round(flops / total, 4) for name, flops in shares.most_common()}


def attention(module: Module, computation: str) -> dict[str, Any]:
    """Which kernel computes it, and the megabytes of scores that lie in the main memory."""
    lines = list(everything_in(module, computation))
    fused = {line.target for line in lines if "fmha" in line.target or line.target == KERNELS_OF_OURS}
    scores = [
        array.bytes
        for line in lines
        for array in line.arrays
        if is_kernel(line) and array.in_main_memory and len(array.sizes) == 4 and _square(array.sizes)
    ]
    return {"kernel": sorted(fused)[0] if fused else None, "scores_megabytes": max(scores, default=0) / 1e6}


def _square(sizes: tuple[int, ...]) -> bool:
    """Whether it may be scores: two axes of as many tokens, more than there are numbers in a head."""
    return any(size >= 20 and count > 1 for size, count in Counter(sizes).items())


def _count(module: Module, computation: str, opcodes: tuple[str, ...]) -> int:
    return sum(line.opcode.removesuffix("-start") in opcodes for line in everything_in(module, computation))


def scaled_bias(module: Module, computation: str) -> int:
    """Products whose factor would not reach their bias (jax#39336): a factor other than 1 and a bias in one call."""
    found = 0
    for line in everything_in(module, computation):
        config = line.backend.get("gemm_backend_config", {})
        if config and not math.isclose(float(config.get("alpha_real", 1)), 1):
            found += "BIAS" in config.get("epilogue", "") or float(config.get("beta", 0)) != 0
    return found
