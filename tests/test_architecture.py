"""Imports point one way: errors, config <- data, diffusion <- networks, sampling <- ... <- cli."""

import ast
from pathlib import Path

import pytest

import scrdit_jax

PACKAGE = Path(scrdit_jax.__file__).parent
LAYERS = [
    {"errors"},
    {"config", "files", "devices", "caches", "claims", "extras"},
    {"data", "diffusion"},
    {"networks", "sampling"},
    {"checkpoint", "families", "evaluation"},
    {"training", "generation"},
    {"importing"},
    {"benchmarking", "describing"},
    {"api"},
    {"cli"},
]
RANK = {room: rank for rank, layer in enumerate(LAYERS) for room in layer}
# Rooms of one layer that may not see each other; sampling is given a function, never a network.
APART = {("training", "generation"), ("training", "sampling"), ("sampling", "networks"), ("data", "diffusion")}


def imports_of(path: Path) -> set[str]:
    """Rooms of the package that a module imports from, at any depth of its code."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = list(parts[: len(parts) - node.level])
            names = [node.module] if node.module else [alias.name for alias in node.names]
            rooms |= {(base + name.split("."))[0] for name in names}
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
            assert not any(name.split(".")[0] in {"benchmarks", "tests", "scripts"} for name in names), path
            assert not any(name.startswith("scrdit_jax") for name in names), f"{path}: import relatively"
    return rooms & set(RANK)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    room = path.relative_to(PACKAGE).with_suffix("").parts[0]
    if room == "__init__":
        return
    for other in imports_of(path) - {room}:
        assert RANK[other] <= RANK[room], f"{room} imports {other}"
        assert (room, other) not in APART and (other, room) not in APART, f"{room} imports {other}"


def test_every_room_has_a_rank():
    rooms = {p.relative_to(PACKAGE).with_suffix("").parts[0] for p in PACKAGE.rglob("*.py")} - {"__init__"}
    assert rooms == set(RANK)


def test_maths_knows_no_files():
    for path in [
        *(PACKAGE / "sampling").glob("*.py"),
        *(PACKAGE / "networks").glob("*.py"),
        PACKAGE / "training/step.py",
    ]:
        assert not {"pathlib", "os", "json"} & {
            (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name)
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
        }, path
