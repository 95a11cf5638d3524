"""What an instruction costs: floating-point operations of its matrix products, bytes to and from the main memory."""

from __future__ import annotations

import itertools
import math
import re
from typing import NamedTuple

from .hlo import Array, Instruction, Module

# These move nothing: names for parts of what is there, or constants of the program.
FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id",
        "iota", "add-dependency", "opt-barrier"}  # fmt: skip
SLICES = {"dynamic-slice", "slice", "gather"}
ASYNC_ENDS = ("-done", "-update")
COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "reduce-scatter", "collective-permute", "collective-broadcast")
HOST = ("infeed", "outfeed", "send", "recv")


class Product(NamedTuple):
    """A matrix product: the instruction, its operations, and the element types of both sides and of the result."""

    line: Instruction
    flops: int
    dtypes: tuple[str, ...]


def products(module: Module, computation: str) -> list[Product]:
    """Those of a computation and of the fusions in it; attention that is one kernel counts as one."""
    found = []
    for line in module.inside(computation):
        flops = flops_of(module, line)
        if flops:
            sides = tuple(operand.arrays[0].dtype for operand in module.operands(line)[:2] if operand.arrays)
            found.append(Product(line, flops, (*sides, line.arrays[0].dtype)))
    return found


def flops_of(module: Module, line: Instruction) -> int:
    """Operations of a matrix product or a kernel of attention, a multiply-add as two; 0 for everything else."""
    if line.opcode == "dot":
        return 2 * line.arrays[0].elements * _contracted(module, line)
    if line.opcode == "convolution":
        return _convolution(module, line)
    if line.opcode != "custom-call":
        return 0
    if line.target.startswith("__cublas"):
        config = line.backend.get("gemm_backend_config", {})
        left = module.operands(line)[0].arrays[0]
        dims = config.get("dot_dimension_numbers", {}).get("lhs_contracting_dimensions", [])
        return 2 * line.arrays[0].elements * math.prod(left.sizes[int(d)] for d in dims)
    if "fmha" in line.target:
        return _attention(module, line)
    return int(_estimate(line).get("flops", 0))


def _estimate(line: Instruction) -> dict:
    """What the writer of a kernel says it costs."""
    return line.backend.get("custom_call_config", {}).get("cost_estimate", {}) or line.backend.get("cost_estimate", {})


def _attention(module: Module, line: Instruction) -> int:
    """cuDNN's: two products of (token, token, head) forwards, five backwards."""
    backwards = "Backward" in line.target
    config = line.backend.get("cudnn_fmha_backend_config", {})
    scores = config.get("intermediate_tensor_shape", {}).get("dimensions", [])
    head = module.operands(line)[0].arrays[0].sizes[-1]
    return (10 if backwards else 4) * math.prod(map(int, scores)) * head


def _contracted(module: Module, line: Instruction) -> int:
    left = module.operands(line)[0].arrays[0]
    dims = (line.attribute("lhs_contracting_dims") or "").split(",")
    return math.prod(left.sizes[int(d)] for d in dims if d)


def _convolution(module: Module, line: Instruction) -> int:
    """Products of a TPU's convolution, in which XLA writes matrix products, batched ones as windows."""
    left, right = (operand.arrays[0] for operand in module.operands(line)[:2])
    labels, _, result = (line.attribute("dim_labels") or "").partition("->")
    lhs, _, rhs = labels.partition("_")
    spatial = [c for c in rhs if c.isdigit()]
    window = _window(line.attribute("window") or "", len(spatial))
    valid = 1
    for i, name in enumerate(spatial):
        inputs, outputs = left.sizes[lhs.index(name)], line.arrays[0].sizes[result.index(name)]
        valid *= _valid_pairs(inputs, outputs, window[i])
    batch, features = line.arrays[0].sizes[result.index("b")], line.arrays[0].sizes[result.index("f")]
    groups = int(line.attribute("batch_group_count") or 1)
    return 2 * batch * features * right.sizes[rhs.index("i")] * valid // groups


class _Window(NamedTuple):
    size: int = 1
    stride: int = 1
    low: int = 0
    lhs_dilate: int = 1
    rhs_dilate: int = 1


def _window(text: str, count: int) -> list[_Window]:
    parts: dict[str, list[str]] = {}
    for name, values in re.findall(r"(\w+)=([\w\-]+)", text):
        parts[name] = re.findall(r"-?\d+_-?\d+", values) if name == "pad" else values.split("x")

    def of(name: str, i: int, default: int) -> int:
        return int(parts[name][i].split("_")[0]) if i < len(parts.get(name, ())) else default

    return [
        _Window(of("size", i, 1), of("stride", i, 1), of("pad", i, 0), of("lhs_dilate", i, 1), of("rhs_dilate", i, 1))
        for i in range(count)
    ]


def _valid_pairs(inputs: int, outputs: int, window: _Window) -> int:
    """How many pairs of an output and a place in the window meet an input, and neither padding nor a hole."""
    return sum(
        1
        for out, tap in itertools.product(range(outputs), range(window.size))
        for place in [out * window.stride + tap * window.rhs_dilate - window.low]
        if 0 <= place <= (inputs - 1) * window.lhs_dilate and place % window.lhs_dilate == 0
    )


def is_kernel(line: Instruction) -> bool:
    """Whether the device starts something for it."""
    return line.opcode not in FREE and not line.opcode.endswith(ASYNC_ENDS) and line.opcode != "while"


def is_asynchronous(line: Instruction) -> bool:
    """Whether it begins a copy that goes on beside what follows."""
    return line.opcode in ("copy-start", "slice-start", "async-start")


def bytes_of(module: Module, line: Instruction) -> int:
    """Bytes that an instruction reads from the main memory and writes to it."""
    if not is_kernel(line) or line.opcode in ("conditional", "call"):
        return 0
    if is_asynchronous(line):
        # Destination, source and a context, in an order of each kind's own: what is moved is the smaller of the two.
        ends = sorted(line.arrays, key=lambda array: -array.bytes)[:2]
        return min(array.bytes for array in ends) * max(1, sum(array.in_main_memory for array in ends))
    if line.opcode in SLICES:
        return 2 * _main(line.arrays)
    if line.opcode == "dynamic-update-slice":
        return 2 * _main(module.operands(line)[1].arrays)
    inside = module.called(line)
    written = _main(_without_workspace(line))
    read = 0
    for number, operand in enumerate(module.operands(line)):
        read += min(_main(operand.arrays), _used(inside, number) if inside else _main(operand.arrays))
    updated = [one for one in inside if one.root and one.opcode == "dynamic-update-slice"]
    if updated:
        # In place: the rest of the buffer is neither read nor written.
        whole, update = updated[0].arrays[0].bytes, _by_name(inside)[updated[0].operands[1]].arrays[0].bytes
        return max(0, read + written - 2 * whole) + 2 * update
    return read + written


def _without_workspace(line: Instruction) -> tuple[Array, ...]:
    """What a call makes, but for the scratch memory that libraries ask for as one more result."""
    if line.opcode == "custom-call" and line.target.startswith("__"):
        return tuple(array for array in line.arrays if not (array.dtype in ("s8", "u8") and len(array.sizes) == 1))
    return line.arrays


def _used(inside: tuple[Instruction, ...], number: int) -> int:
    """Of a fusion's parameter, the bytes that are read: a slice's where nothing but slices of it are used."""
    parameter = next((one for one in inside if one.opcode == "parameter" and one.operands == (str(number),)), None)
    if parameter is None:
        return 1 << 62
    names, users = {parameter.name}, []
    for one in inside:
        if set(one.operands) & names:
            if one.opcode == "bitcast":
                names.add(one.name)
            else:
                users.append(one)
    if users and all(one.opcode in SLICES and one.operands[0] in names for one in users):
        return sum(one.arrays[0].bytes for one in users)
    return 1 << 62


def _by_name(lines: tuple[Instruction, ...]) -> dict[str, Instruction]:
    return {line.name: line for line in lines}


def _main(found: tuple[Array, ...]) -> int:
    return sum(array.bytes for array in found if array.in_main_memory)
