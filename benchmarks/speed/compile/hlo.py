"""Compiled programs as XLA prints them (HLO text), read: computations, instructions, shapes, loops."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

BITS = {"pred": 8, "bf16": 16, "token": 0, "opaque": 0}
# Memory spaces of a TPU's layouts: S(1) is on the chip; arrays there cost no traffic to its main memory.
ON_CHIP = re.compile(r"S\(1\)")
_ARRAY = re.compile(r"(\w+)\[([\d,<=]*)\](\{[^}]*\})?")
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$")
_NAME = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")


class Array(NamedTuple):
    """An array's element type, its sizes, and whether it lies in the main memory of the device."""

    dtype: str
    sizes: tuple[int, ...]
    in_main_memory: bool

    @property
    def elements(self) -> int:
        """How many there are."""
        return math.prod(self.sizes)

    @property
    def bytes(self) -> int:
        """That it takes without padding, wherever it lies."""
        found = re.search(r"\d+", self.dtype)
        bits = BITS.get(self.dtype, int(found.group()) if found else 0)
        return self.elements * bits // 8


def arrays(shape: str) -> tuple[Array, ...]:
    """The arrays of a shape as it is printed; several where it is a tuple."""
    return tuple(
        Array(dtype, tuple(int(n.lstrip("<=")) for n in sizes.split(",") if n), not ON_CHIP.search(layout))
        for dtype, sizes, layout in _ARRAY.findall(re.sub(r"/\*.*?\*/", "", shape))
    )


@dataclass(frozen=True)
class Instruction:
    """One line: its `name`, what it makes, its `opcode`, the names of its `operands`, and all else as `rest`."""

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    rest: str
    root: bool

    @cached_property
    def arrays(self) -> tuple[Array, ...]:
        """What it makes."""
        return arrays(self.shape)

    def attribute(self, name: str) -> str | None:
        """The value of `name=...`, without braces."""
        found = re.search(rf"\b{name}=(?:\{{([^}}]*)\}}|%?([\w.\->]+))", self.rest)
        return None if found is None else found.group(1) if found.group(1) is not None else found.group(2)

    @property
    def target(self) -> str:
        """Of a custom call, whom it calls."""
        found = re.search(r'custom_call_target="([^"]*)"', self.rest)
        return found.group(1) if found else ""

    @property
    def source(self) -> str:
        """Where in the program it comes from, as JAX names it."""
        found = re.search(r'op_name="([^"]*)"', self.rest)
        return found.group(1) if found else ""

    @cached_property
    def backend(self) -> dict[str, Any]:
        """The backend's own account of it."""
        at = self.rest.find("backend_config={")
        if at < 0:
            return {}
        try:
            return json.JSONDecoder().raw_decode(self.rest, at + len("backend_config="))[0]
        except json.JSONDecodeError:
            return {}

    @property
    def cycles(self) -> int:
        """As a TPU's compiler estimates them; 0 where it does not."""
        found = re.search(r'"estimated_cycles":"(\d+)"', self.rest)
        return int(found.group(1)) if found else 0


@dataclass(frozen=True)
class Module:
    """A program: its computations by name, and the name of that it begins with."""

    computations: dict[str, tuple[Instruction, ...]]
    entry: str

    @classmethod
    def parse(cls, text: str) -> Module:
        """From what `compiled.as_text()` gives."""
        computations: dict[str, list[Instruction]] = {}
        entry, current = "", None
        for line in text.splitlines():
            header = _HEADER.match(line)
            if header:
                current = computations.setdefault(header.group(2), [])
                entry = header.group(2) if header.group(1) else entry
            elif current is not None and (read := _instruction(line)) is not None:
                current.append(read)
        return cls({name: tuple(lines) for name, lines in computations.items()}, entry)

    @cached_property
    def by_name(self) -> dict[str, Instruction]:
        """Every instruction; XLA gives each a name of its own."""
        return {line.name: line for lines in self.computations.values() for line in lines}

    def operands(self, line: Instruction) -> list[Instruction]:
        """Those that are known by name."""
        return [self.by_name[name] for name in line.operands if name in self.by_name]

    def called(self, line: Instruction) -> tuple[Instruction, ...]:
        """The instructions that a fusion is made of."""
        return self.computations.get(line.attribute("calls") or "", ())

    def loops(self) -> list[Instruction]:
        """Every `while`, where it stands."""
        return [line for line in self.by_name.values() if line.opcode == "while"]

    def trips(self, loop: Instruction) -> int:
        """How often its body runs: as the backend says, or the one number that its condition compares with."""
        known = loop.backend.get("known_trip_count", {}).get("n")
        if known is not None:
            return int(known)
        lines = list(self.inside(loop.attribute("condition") or ""))
        numbers = [int(n.group(1)) for line in lines if (n := re.match(r"constant\((\d+)\)", _whole(line)))]
        return max(numbers, default=1)

    def inside(self, computation: str) -> Iterator[Instruction]:
        """The instructions of a computation and of all that it calls but loops' bodies and conditions."""
        for line in self.computations.get(computation, ()):
            yield line
            for attribute in ("calls", "to_apply", "called_computations"):
                if name := line.attribute(attribute):
                    yield from self.inside(name)

    def body(self, evaluations: int) -> str:
        """The loop over evaluations: that which runs so often and holds the most matrix products."""
        found = [loop for loop in self.loops() if self.trips(loop) == evaluations]
        bodies = [loop.attribute("body") or "" for loop in found]
        return max(bodies, key=lambda body: len(list(self.inside(body))), default=self.entry)


def _whole(line: Instruction) -> str:
    return f"{line.opcode}({','.join(line.operands)})"


def _instruction(line: str) -> Instruction | None:
    found = _NAME.match(line)
    if found is None:
        return None
    at = found.end()
    end = _balanced(line, at) if line[at] == "(" else line.find(" ", at)
    shape, rest = line[at:end], line[end:].lstrip()
    opcode, bracket, _ = rest.partition("(")
    if not bracket:
        return None
    close = _balanced(rest, len(opcode))
    inner = rest[len(opcode) + 1 : close - 1]
    # A literal or a number is kept as it is; operands may have their shapes before their names.
    literal = opcode in ("constant", "parameter")
    operands = (inner,) if literal else tuple(re.findall(r"%([\w.\-]+)", inner))
    return Instruction(found.group(2), shape, opcode, operands, rest[close:], bool(found.group(1)))


def _balanced(text: str, start: int) -> int:
    """Where the bracket that opens at `start` has been closed."""
    depth = 0
    for place in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0:
            return place + 1
    return len(text)
