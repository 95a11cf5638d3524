"""What is no file, and names that are odd."""

import os
import socket

import numpy as np
from scipy import sparse

from .making import CELLS, FILES, GENES, case, h5ad, small_cells


@case("named pipe", name="fifo")
def fifo(folder):
    os.mkfifo(folder / "cells.h5ad")
    return folder / "cells.h5ad"


@case("named pipe", name="fifo as a table")
def fifo_csv(folder):
    os.mkfifo(folder / "cells.csv")
    return folder / "cells.csv"


@case("socket", name="socket")
def a_socket(folder):
    here = os.getcwd()
    os.chdir(folder)  # a socket's name has 107 bytes at most
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("cells.h5ad")
    finally:
        os.chdir(here)
    return folder / "cells.h5ad"


for device in ("/dev/zero", "/dev/urandom", "/dev/full", "/dev/null", "/dev/stdin"):
    case("device", "named pipe", "format", "folder", name=f"link to {device}")(
        lambda folder, device=device: _link(folder / "cells.csv", device)
    )
    case("device", "named pipe", "format", "folder", name=device)(lambda folder, device=device: device)


def _link(path, target):
    path.symlink_to(target)
    return path


case("link", name="broken link")(lambda folder: _link(folder / "cells.h5ad", folder / "nowhere"))
case("link", name="circular link")(lambda folder: _link(folder / "cells.h5ad", folder / "cells.h5ad"))
case("format", "process", "system", name="/proc/self/mem")(lambda folder: "/proc/self/mem")
case("", name="/proc")(lambda folder: "/proc")
case("", name="/proc/self/mem as csv")(lambda folder: _link(folder / "cells.csv", "/proc/self/mem"))
case("", name="/proc/self/fd")(lambda folder: "/proc/self/fd")
case("255", name="name of 300 bytes")(lambda folder: folder / ("x" * 300 + ".h5ad"))
case("NUL", name="NUL in the name")(lambda folder: f"{folder}/ce\0lls.h5ad")
case("empty", name="empty name")(lambda folder: "")
case("does not exist", name="surrogate in the name")(lambda folder: folder / "ce\udcfflls.h5ad")
case("does not exist", name="escapes in the name")(lambda folder: folder / "\x1b[31mcells.h5ad")
case("", name="very deep path")(lambda folder: folder / "/".join(["d"] * 3000) / "cells.h5ad")
case("folder", name="a folder called .h5ad")(lambda folder: _folder(folder / "cells.h5ad"))
case("folder", name="a folder called .csv")(lambda folder: _folder(folder / "cells.csv"))
case("", name="below a file")(lambda folder: h5ad(folder) / "more.h5ad")


def _folder(path):
    path.mkdir()
    return path


for suffix in (".h5ad", ".h5", ".mtx", ".csv", ".tsv.gz", ".npy"):
    case("empty", "cells", name=f"{suffix} of 0 bytes")(lambda folder, suffix=suffix: _empty(folder / f"cells{suffix}"))


def _empty(path):
    path.write_bytes(b"")
    return path


# Names that are odd


def odd(*outcomes, name):
    def register(change):
        def make(folder):
            cells = small_cells()
            cells = cells if (found := change(cells)) is None else found
            cells.write_h5ad(folder / "cells.h5ad")
            return folder / "cells.h5ad"

        FILES[f"odd, {name}"] = (make, outcomes)
        return change

    return register


@odd(name="cells of one name")
def _(cells):
    cells.obs_names = ["c"] * CELLS


@odd("repeats the gene name", name="genes of one name")
def _(cells):
    cells.var_names = ["G"] * GENES


@odd("repeats the gene name", name="escapes in a gene's name")
def _(cells):
    cells.var_names = ["\x1b[2J\r\n\x07evil"] * GENES


@odd(name="escapes in every name")
def _(cells):
    cells.var_names = [f"\x1b[31mG{j}\n" for j in range(GENES)]
    cells.obs["cell_type"] = cells.obs["cell_type"].cat.rename_categories({"A": "\x1b[2JA\r\n", "B": "\x07"})


@odd(name="empty names")
def _(cells):
    cells.var_names = ["", *cells.var_names[1:]]
    cells.obs["cell_type"] = cells.obs["cell_type"].cat.rename_categories({"A": ""})


@odd(name="names of a megabyte")
def _(cells):
    cells.var_names = ["x" * 1_000_000, *cells.var_names[1:]]


@odd(name="missing cell types")
def _(cells):
    cells.obs.loc[cells.obs_names[3], "cell_type"] = np.nan


@odd("", name="cell types that are numbers")
def _(cells):
    cells.obs["cell_type"] = np.arange(CELLS) / 7


@odd("every value is zero", name="nothing but zeros")
def _(cells):
    cells.X = sparse.csr_matrix((CELLS, GENES), dtype=np.float32)


@odd("", name="constant genes")
def _(cells):
    cells.X = sparse.csr_matrix(np.ones((CELLS, GENES), np.float32))


@odd("", name="one cell")
def _(cells):
    return cells[:1].copy()


@odd("", name="one gene")
def _(cells):
    return cells[:, :1].copy()


@odd("is empty", name="no cells")
def _(cells):
    return cells[:0].copy()


@odd("is empty", name="no genes")
def _(cells):
    return cells[:, :0].copy()


@odd(name="a cell without expression")
def _(cells):
    matrix = cells.X.toarray()
    matrix[5] = 0
    cells.X = sparse.csr_matrix(matrix)


@odd(name="a column called a/b and one called ..")
def _(cells):
    cells.obs["a b"] = 1.0
