"""Arrays of NumPy."""

import struct

import numpy as np

from .making import FILES, case, small_cells


def npy(header, body=b"", version=(1, 0)):
    text = header.encode() + b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H" if version[0] == 1 else "<I", len(text)) + text + body


def npy_case(*outcomes, name, content):
    def make(folder):
        path = folder / "cells.npy"
        path.write_bytes(content)
        return path

    FILES[f"npy, {name}"] = (make, outcomes)


def _npy_header(shape, descr="'<f4'", fortran="False"):
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}"


npy_case("bytes", name="of terabytes", content=npy(_npy_header("(1000000, 1000000)"), b"\0" * 64))
npy_case("bytes", name="cut short", content=npy(_npy_header("(60, 40)"), b"\0" * 640))
npy_case("bytes", name="beyond 64 bits", content=npy(_npy_header("(10000000000000, 10000000000000)"), b"\0" * 64))
npy_case("cells.npy", name="negative shape", content=npy(_npy_header("(-60, 40)"), b"\0" * 9600))
npy_case("cells.npy", name="shape of floats", content=npy(_npy_header("(60.0, 40)"), b"\0" * 9600))
npy_case("cells.npy", name="shape of booleans", content=npy(_npy_header("(True, True)"), b"\0" * 4))
npy_case("cells.npy", name="shape not a tuple", content=npy(_npy_header("2400"), b"\0" * 9600))
npy_case(
    "allow_pickle=False", name="of objects", content=npy(_npy_header("(2, 2)", "'|O'"), b"cos\nsystem\n(S'a'\ntR.")
)
npy_case("cells.npy", name="of an unknown type", content=npy(_npy_header("(2, 2)", "'<q9'"), b"\0" * 64))
npy_case("", name="of records", content=npy(_npy_header("(2, 2)", "[('a', '<f4'), ('b', '<f4')]"), b"\0" * 32))
npy_case("", name="of format 9", content=npy(_npy_header("(60, 40)"), b"\0" * 9600, version=(9, 0)))
npy_case("cells.npy", name="header nested deeply", content=npy("(" * 9000, b"\0" * 64, version=(2, 0)))
npy_case("cells.npy", name="header of 4 GB", content=b"\x93NUMPY\x02\x00\xff\xff\xff\xff{'descr'")
npy_case("cells.npy", name="no header", content=b"\x93NUMPY")
npy_case("cells.npy", name="empty", content=b"")
npy_case("cells.npy", name="a pickle", content=b"cos\nsystem\n(S'true'\ntR.")
npy_case("cells.npy", name="a zip", content=b"PK\x05\x06" + b"\0" * 18)


@case(name="npy, in Fortran's order")
def npy_fortran(folder):
    np.save(folder / "cells.npy", np.asfortranarray(small_cells(np.asarray).X))
    return folder / "cells.npy"


@case(name="npy, with a version 3 header")
def npy_version_3(folder):
    values = np.ascontiguousarray(small_cells(np.asarray).X, "<f4")
    (folder / "cells.npy").write_bytes(npy(_npy_header(values.shape), values.tobytes(), version=(3, 0)))
    return folder / "cells.npy"
