"""The folders are the design: imports point down, modules and functions stay small, maths knows no files."""

import ast
from pathlib import Path

import pytest

import scrdit_jax

PACKAGE = Path(scrdit_jax.__file__).parent
# From the ground up; a room imports its own layer and those below.
LAYERS = [
    {"errors"},
    {"registry", "devices", "progress", "extras", "strict_json", "paths", "records"},
    {"config", "options"},
    {"io", "cache"},
    {"conditioning"},
    {"data", "diffusion"},
    {"networks", "sampling"},
    {"attention", "checkpoint", "families", "privacy", "provenance"},
    {"evaluation"},
    {"training", "generation"},
    {"importing", "simulation"},
    {"benchmarking", "info"},
    {"api", "pl"},
    {"cli"},
]
RANK = {room: rank for rank, layer in enumerate(LAYERS) for room in layer}
# Rooms that may not see each other; sampling is given a function, never a network.
APART = {("training", "generation"), ("training", "sampling"), ("sampling", "networks"), ("data", "diffusion")}
MODULES = sorted(PACKAGE.rglob("*.py"))
# JAX passes these arguments by place: they are those of a jitted program.
BY_PLACE = {("generation/program.py", "sample_batch")}
MOST_LINES, MOST_LINES_A_FUNCTION, MOST_ARGUMENTS = 350, 50, 6


def name_of(path):
    return str(path.relative_to(PACKAGE))


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


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_down(path):
    room = path.relative_to(PACKAGE).with_suffix("").parts[0]
    if room in ("__init__", "__main__"):
        return
    for other in imports_of(path) - {room}:
        assert RANK[other] <= RANK[room], f"{room} imports {other}"
        assert (room, other) not in APART, f"{room} imports {other}"
        assert (other, room) not in APART, f"{room} imports {other}"


def test_every_room_has_a_rank():
    rooms = {p.relative_to(PACKAGE).with_suffix("").parts[0] for p in MODULES} - {"__init__", "__main__"}
    assert rooms == set(RANK)


def test_maths_knows_no_files():
    rooms = ("sampling", "networks", "diffusion/predictions", "training/objectives")
    for path in [*(p for room in rooms for p in (PACKAGE / room).rglob("*.py")), PACKAGE / "training/step.py"]:
        assert not {"pathlib", "os", "json"} & {
            (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name)
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
        }, path


def without_docstring(function):
    """Lines of a function but for its docstring, which the public ones have in numpy's long form."""
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        lines -= first.end_lineno - first.lineno + 1
    return lines


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_and_functions_are_small(path):
    text = path.read_text()
    assert text.count("\n") <= MOST_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert without_docstring(node) <= MOST_LINES_A_FUNCTION, f"{node.name} is long"
            arguments = [a.arg for a in (*node.args.posonlyargs, *node.args.args) if a.arg not in ("self", "cls")]
            by_place = (name_of(path), node.name) in BY_PLACE
            # Options of a command come from click, by name.
            is_command = any("command" in ast.unparse(decorator) for decorator in node.decorator_list)
            assert by_place or is_command or len(arguments) <= MOST_ARGUMENTS, f"{node.name} has {arguments}"
