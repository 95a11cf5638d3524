"""Damage to valid files: of their bytes, and of what their format is made of. All of it follows from one Generator."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Random = np.random.Generator
DEEP = 5000
HOSTILE: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**53, 2**63, 2**64, -(2**64), 10**400, 0.5, 1e308, -1e308, float("nan"),
    float("inf"), "", "no", "a", "\x00", "../../../etc/passwd", "/dev/zero", "1e12", "ä" * 300, "x" * 100_000, "\ud800",
    "nan", [], [[]], {}, [None], [1e12], {"a": 1}, [[0] * 3] * 3, ["dit"], {"": {}}, 10**12, 10**15,
]  # fmt: skip
CELLS_OF_TABLES = [
    "", "NaN", "nan", "inf", "-inf", "-1", "1e400", "1e308", "text", "0x10", "1_000", "ä", "\u202e", "\x00", '"', "'",
    "1,5", "9" * 400, "=1+1", "NA", "None", "true", "2**63", str(2**63), str(10**15), "0.5", " ", "\ufeff", "T cell",
]  # fmt: skip
NUMBERS = [0, 1, -1, 2**31 - 1, -(2**31), 2**31, 2**32, 2**53, 2**62, 2**63 - 1, -(2**63), 10**12, 40, 41, 89, 90, 91]


def pick(random: Random, choices: Any) -> Any:
    """One of a list, as it is."""
    return choices[int(random.integers(len(choices)))]


# Bytes


def bytes_of(data: bytes, random: Random) -> tuple[bytes, str]:
    """Some damage to bytes, and what it was."""
    data, size = bytearray(data), max(len(data), 1)
    a, b = sorted(int(random.integers(size + 1)) for _ in range(2))
    b = min(b, a + int(2 ** random.integers(0, 14)))
    what = pick(random, ["flip", "flip", "flip", "cut", "insert", "delete", "double", "swap", "fill", "number", "tail"])
    if what == "flip":
        for _ in range(int(2 ** random.integers(0, 6))):
            place = int(random.integers(size))
            if place < len(data):
                data[place] ^= 1 << int(random.integers(8))
    elif what == "cut":
        del data[pick(random, [0, a, a, len(data) - 1]) :]
    elif what == "insert":
        data[a:a] = random.bytes(int(2 ** random.integers(0, 10)))
    elif what == "delete":
        del data[a:b]
    elif what == "double":
        data[a:a] = data[a:b]
    elif what == "swap":
        c = int(random.integers(size + 1))
        data[a:b], data[c : c + b - a] = data[c : c + b - a], data[a:b]
    elif what == "fill":
        data[a:b] = bytes([pick(random, [0, 255, 32, 48])]) * (b - a)
    elif what == "number":
        width = pick(random, [1, 2, 4, 8])
        value = pick(random, NUMBERS) % 256**width
        data[a : a + width] = value.to_bytes(width, pick(random, ["little", "big"]))
    else:
        data += random.bytes(100)
    return bytes(data), f"{what} at {a}"


# JSON


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """The paths of all values within, the whole first."""
    found = [path]
    inside = value.items() if isinstance(value, dict) else enumerate(value[:50]) if isinstance(value, list) else ()
    for key, below in inside:
        found += places(below, (*path, key))
    return found


def json_of(text: str, random: Random, finish: Callable[[Any], Any] = lambda value: value) -> tuple[str, str]:
    """Some damage to a JSON text; `finish` may put right what would give it away, as a digest of the rest."""
    value = json.loads(text)
    what = pick(random, ["value"] * 6 + ["drop", "add", "type", "type", "rename", "twice", "deep", "wide"])
    path = pick(random, places(value)[1:] or [()])
    if what in ("twice", "deep") or not path:
        return _json_text(json.dumps(value), what, random)
    *above, key = path
    holder = value
    for step in above:
        holder = holder[step]
    if what == "value":
        holder[key] = pick(random, HOSTILE)
    elif what == "drop":
        del holder[key]
    elif what == "add":
        new = pick(random, HOSTILE)
        holder.append(new) if isinstance(holder, list) else holder.update({pick(random, ["", "extra", "steps"]): new})
    elif what == "type":
        old = holder[key]
        holder[key] = pick(
            random, [[old], {"0": old}, str(old), json.dumps(old), [old] * 1000, bool(old), _as_float(old)]
        )
    elif what == "rename" and isinstance(holder, dict):
        holder[pick(random, ["", str(key).upper(), f"{key} ", "__class__"])] = holder.pop(key)
    elif what == "wide":
        holder[key] = list(range(100_000))
    text = json.dumps(finish(value))
    return text, f"JSON {what} at {'/'.join(map(str, path))}"


def _as_float(value: Any) -> Any:
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        return float(value) + 0.5
    return float("nan")


def _json_text(text: str, what: str, random: Random) -> tuple[str, str]:
    if what == "twice" and text.startswith("{") and len(text) > 2:
        end = text.find(",")
        return f"{{{text[1:end]}, {text[1:]}", "JSON key twice"
    deep = pick(random, ["[", '{"a":'])
    return pick(
        random, [deep * DEEP, deep * DEEP + "1" + {"[": "]"}.get(deep, "}") * DEEP, f"[{text}]", "1", "null"]
    ), "JSON deep"


# Tables


def table_of(text: str, separator: str, random: Random) -> tuple[str, str]:
    """Some damage to a table of text."""
    rows = [line.split(separator) for line in text.splitlines()]
    what = pick(
        random,
        ["cell"] * 6 + ["ragged", "ragged", "drop", "double", "swap", "separator", "quote", "long", "header", "end"],
    )
    i = int(random.integers(len(rows)))
    j = int(random.integers(len(rows[i])))
    if what == "cell":
        rows[i][j] = pick(random, CELLS_OF_TABLES)
    elif what == "ragged":
        rows[i] = pick(random, [rows[i][:j], rows[i] * 2, [*rows[i], "1"], []])
    elif what == "drop":
        pick(random, [lambda: rows.pop(i), lambda: [row.pop(min(j, len(row) - 1)) for row in rows if row]])()
    elif what == "double":
        pick(
            random,
            [lambda: rows.insert(i, rows[i]), lambda: [row.insert(j, row[min(j, len(row) - 1)]) for row in rows]],
        )()
    elif what == "swap":
        rows[i], rows[0] = rows[0], rows[i]
    elif what == "quote":
        rows[i][j] = pick(random, ['"', '"a', 'a"b', '""', "'"]) + rows[i][j]
    elif what == "long":
        rows[i][j] = "7" * 300_000
    elif what == "header":
        rows[0] = pick(random, [rows[0][1:], [""] * len(rows[0]), [rows[0][-1]] * len(rows[0]), ["0"] * len(rows[0])])
    joined = pick(random, [";", " ", ",", "\t", "|"]) if what == "separator" else separator
    end = pick(random, ["\r\n", "\r", "\n\n", "\x0b", "\u2028"]) if what == "end" else "\n"
    return end.join(joined.join(row) for row in rows) + end, f"table {what} at {i}, {j}"


def text_file(path: Path, change: Callable[[str], tuple[str, str]]) -> str:
    """`change` the text of a file, compressed or not."""
    data = path.read_bytes()
    packed = data[:2] == b"\x1f\x8b"
    text, what = change((gzip.decompress(data) if packed else data).decode("utf-8"))
    new = text.encode("utf-8", "surrogatepass")
    path.write_bytes(gzip.compress(new) if packed else new)
    return what


# HDF5


def hdf5_of(path: Path, random: Random) -> str:
    """Some damage to what is inside an HDF5 file, which stays one."""
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        names.sort(key=os.fsencode)  # bytes, where damage has made them no text
        name = pick(random, names)
        node = file[name]
        is_data = isinstance(node, h5py.Dataset)
        choices = ["attribute"] * 4 + ["delete", "link", "link", "kind"] + ["values", "dtype", "shape"] * 3 * is_data
        what = pick(random, choices)
        if what == "attribute":
            detail = _attribute(node, random)
        elif what == "delete":
            del file[name]
            detail = ""
        elif what == "link":
            detail = _link(file, name, names, random)
        elif what == "kind":
            del file[name]
            detail = "other kind"
            if is_data:
                file.create_group(name)
            else:
                file[name] = pick(random, [0, "text", np.arange(3), np.zeros((90, 40))])
        elif what == "values":
            detail = _values(file, name, random)
        else:
            detail = (_dtype if what == "dtype" else _shape)(file, name, random)
    return f"HDF5 {what} of {name}: {detail}"


def _attribute(node: Any, random: Random) -> str:
    known = [*node.attrs, "encoding-type", "encoding-version", "shape", "_index", "column-order"]
    key = pick(random, known)
    old = node.attrs.get(key)
    if random.random() < 0.2:
        with contextlib.suppress(KeyError):
            del node.attrs[key]
        return f"{key} deleted"
    types = [
        "csr_matrix", "csc_matrix", "array", "dict", "dataframe", "categorical", "string-array", "rec-array", "anndata",
        "raw", "nullable-integer", "awkward-array", "null", "string", "numeric-scalar", "unheard-of",
    ]  # fmt: skip
    new = pick(
        random,
        [
            pick(random, types), pick(random, types), pick(random, ["0.0.1", "9.9.9", ""]), -1, 2**62, 1e300, np.nan,
            np.array([10**12, 10**12]), np.array([-1, 40]), np.array([90]), np.array([90, 41]), np.array([0, 0]),
            np.zeros(0), h5py.Empty("f"), np.array([1.5, 2.5]), b"\xff\xfe", "ä" * 1000, np.bytes_(b"\xff"), True,
            np.array(["a", "b"], "S1"), node.ref, np.zeros((3, 3)), old if old is None else [old, old],
        ],
    )  # fmt: skip
    with contextlib.suppress(TypeError, ValueError, OSError):
        node.attrs[key] = "" if new is None else new
    return f"{key} = {str(new)[:40]!r}"


def _link(file: h5py.File, name: str, names: list[str], random: Random) -> str:
    target = pick(
        random,
        [
            h5py.SoftLink("/nowhere"), h5py.SoftLink(f"/{name}"), h5py.ExternalLink("nowhere.h5", "/X"),
            h5py.ExternalLink("/dev/zero", "/X"), h5py.ExternalLink("/etc/passwd", "/"), file["/"],
            file[pick(random, names)], h5py.SoftLink(f"/{pick(random, names)}"), h5py.SoftLink("."),
        ],
    )  # fmt: skip
    del file[name]
    file[name] = target
    return str(target)


def _values(file: h5py.File, name: str, random: Random) -> str:
    data = file[name]
    if data.shape is None or data.shape == () or 0 in data.shape:
        return "none"
    place = tuple(int(random.integers(size)) for size in data.shape)
    if data.dtype.kind in "iu":
        new: Any = pick(random, NUMBERS)
        limits = np.iinfo(data.dtype)
        new = min(max(new, int(limits.min)), int(limits.max))
    elif data.dtype.kind == "f":
        new = pick(random, [np.nan, np.inf, -np.inf, -1.0, 0.5, 1e38, 1e-45, 2.0**53])
    elif data.dtype.kind == "b":
        new = True
    else:
        new = pick(random, ["", "ä", "x" * 10_000, "\x00", b"\xff\xfe", "GENE1", "T cell"])
    if random.random() < 0.3:
        place = (slice(None),) * len(place)
    with contextlib.suppress(TypeError, ValueError, OSError, OverflowError):
        data[place] = new
    return f"{place} = {str(new)[:40]!r}"


def _dtype(file: h5py.File, name: str, random: Random) -> str:
    shape = file[name].shape or ()
    strings = h5py.string_dtype()
    kind = pick(
        random,
        [
            np.float16, np.float64, np.complex64, np.int8, np.uint64, bool, "S3", strings, h5py.vlen_dtype(np.int32),
            h5py.ref_dtype, h5py.regionref_dtype, np.dtype([("a", "i4"), ("b", "f8")]), np.dtype("V5"),
            h5py.enum_dtype({"a": 0, "b": 1}), np.dtype((np.int32, (3,))), ">f4", ">i8", h5py.opaque_dtype("M8[s]"),
        ],
    )  # fmt: skip
    del file[name]
    try:
        file.create_dataset(name, shape, kind)
    except (TypeError, ValueError, OSError):
        file[name] = 0
    return str(kind)


def _shape(file: h5py.File, name: str, random: Random) -> str:
    data = file[name]
    kind, old = data.dtype, data.shape or ()
    huge = 10 ** int(random.integers(9, 17))
    shape = pick(
        random,
        [
            (), (0,), (1,), old[:-1], (*old, 1), (*old, 2), tuple(size + 1 for size in old), (huge,), (huge,),
            tuple(max(size - 1, 0) for size in old), (90, 40), (40, 90), (3,) * 20, "null", (huge, huge // 10**8),
        ],
    )  # fmt: skip
    del file[name]
    try:
        if shape == "null":
            file[name] = h5py.Empty(kind)
        elif len(shape) and random.random() < 0.5 and max(shape) > 10**8:
            file.create_dataset(name, shape, kind, chunks=tuple(min(size, 1000) for size in shape), compression="gzip")
        else:
            file.create_dataset(name, shape, kind)
    except (TypeError, ValueError, OSError):
        file[name] = 0
    return str(shape)


# Arrays of NumPy


def npy_of(path: Path, random: Random) -> str:
    """A header that says something else than what follows."""
    data = path.read_bytes()
    head = data[10 : 10 + int.from_bytes(data[8:10], "little")].decode()
    old = pick(random, ["<f4", "False", "(90, 40)"])
    new = pick(
        random,
        [
            "|O", "<f8", "<U10", "|V8", "<c8", "|b1", ">f4", "M8[s]", "True", "(10**12,)", "(1000000000000, 40)", "()",
            "(90,)", "(-1, 40)", "(90, 40, 1)", "(40, 90)", "(0, 40)", "(90, 1000000000)", "(18446744073709551616, 1)",
            "__import__('os')", "(" * 200, "[('a', '<f4')]", "('<f4', (3,))",
        ],
    )  # fmt: skip
    head = head.replace(old, new).encode()
    path.write_bytes(
        data[:8] + len(head).to_bytes(2, "little") + head + data[10 + int.from_bytes(data[8:10], "little") :]
    )
    return f"header {old} -> {new}"


# Folders


def entry_of(path: Path, random: Random) -> str:
    """Something else in the place of a file or a folder."""
    what = pick(random, ["gone", "empty", "folder", "loop", "pipe", "null", "dangling", "unreadable"])
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
    if what == "empty":
        path.write_bytes(b"")
    elif what == "folder":
        path.mkdir()
    elif what == "loop":
        path.symlink_to(path)
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "null":
        path.symlink_to("/dev/null")
    elif what == "dangling":
        path.symlink_to("nowhere")
    elif what == "unreadable":
        path.symlink_to("/proc/self/mem")
    return f"{path.name} {what}"


# Whole files by what they are


def damage(path: Path, random: Random, finish: dict[str, Callable[[Any], Any]]) -> str:
    """Some damage to one file, as befits its name; `finish` by the name of a JSON file, see json_of."""
    if random.random() < 0.04:
        return entry_of(path, random)
    name = path.name.removesuffix(".gz")
    structured = random.random() < 0.75
    try:
        if structured and name.endswith((".h5ad", ".h5")):
            return hdf5_of(path, random)
        if structured and name.endswith(".json"):
            right = finish.get(path.name, lambda value: value) if random.random() < 0.7 else lambda value: value
            return text_file(path, lambda text: json_of(text, random, right))
        if structured and name.endswith((".csv", ".tsv", ".txt", ".mtx")):
            separator = "," if name.endswith(".csv") else " " if name.endswith(".mtx") else "\t"
            return text_file(path, lambda text: table_of(text, separator, random))
        if structured and name.endswith(".npy"):
            return npy_of(path, random)
    except (OSError, ValueError, KeyError, RuntimeError, EOFError, zlib.error):  # damaged before by another damage
        pass
    data = path.read_bytes()
    if structured and data[:2] == b"\x1f\x8b":
        with contextlib.suppress(OSError, EOFError, zlib.error):
            new, what = bytes_of(gzip.decompress(data), random)
            path.write_bytes(gzip.compress(new))
            return what
    new, what = bytes_of(data, random)
    path.write_bytes(new)
    return what


def damage_somewhere(path: Path, random: Random, finish: dict[str, Callable[[Any], Any]]) -> str:
    """One to three damages to a file, or to files of a folder, of which small ones are as likely as large ones."""
    done = []
    for _ in range(pick(random, [1, 1, 1, 1, 2, 3])):
        files = sorted(inside for inside in path.rglob("*") if inside.is_file()) if path.is_dir() else [path]
        files = [file for file in files if file.is_file() and not file.is_symlink()]
        if not files:
            break
        chosen = pick(random, files)
        done.append(f"{chosen.relative_to(path.parent)}: {damage(chosen, random, finish)}")
    return "; ".join(done)
