"""10x folders and .h5 files."""

import gzip
import os

import h5py

from .making import CELLS, FILES, GENES, case, changed, put, small_cells


def tenx_folder(folder, mtx, *, suffix="", rows=GENES, cells=CELLS):
    path = folder / "cells"
    path.mkdir()
    text = mtx if isinstance(mtx, bytes) else mtx.encode()
    (path / f"matrix.mtx{suffix}").write_bytes(gzip.compress(text) if suffix else text)
    (path / "features.tsv").write_text("".join(f"id{j}\tG{j}\tGene Expression\n" for j in range(rows)))
    (path / "barcodes.tsv").write_text("".join(f"c{i}\n" for i in range(cells)))
    return path


BANNER = "%%MatrixMarket matrix coordinate integer general\n"


def mtx_case(*outcomes, name, text, **options):
    FILES[f"mtx, {name}"] = (lambda folder: tenx_folder(folder, text, **options), outcomes)


mtx_case("matrix.mtx", name="of 1e9 x 1e9", text=BANNER + "1000000000 1000000000 3\n1 1 1\n2 2 2\n3 3 3\n")
mtx_case("matrix.mtx", name="of more entries than fit", text=BANNER + "40 60 1000000000000\n1 1 1\n")
mtx_case("matrix.mtx", name="of 1e30 entries", text=BANNER + f"40 60 {10**30}\n1 1 1\n")
mtx_case("matrix.mtx", name="negative", text=BANNER + "-40 60 3\n1 1 1\n")
mtx_case("matrix.mtx", name="an index out of range", text=BANNER + "40 60 1\n41 1 1\n")
mtx_case("matrix.mtx", name="an index of zero", text=BANNER + "40 60 1\n0 1 1\n")
mtx_case(
    "matrix.mtx", name="a dense one of terabytes", text="%%MatrixMarket matrix array real general\n1000000 1000000\n1\n"
)
mtx_case("matrix.mtx", name="no banner", text="40 60 1\n1 1 1\n")
mtx_case("matrix.mtx", name="words", text=BANNER + "40 60 1\n1 1 many\n")
mtx_case("matrix.mtx", name="empty", text="")
mtx_case("matrix.mtx", name="only comments", text=BANNER + "%\n" * 50)
mtx_case("matrix.mtx", name="complex", text=BANNER.replace("integer", "complex") + "40 60 1\n1 1 1 1\n")
mtx_case("", name="symmetric", text=BANNER.replace("general", "symmetric") + "40 60 1\n1 1 1\n")
mtx_case("matrix.mtx", name="bytes", text=bytes(range(256)) * 8)
mtx_case(
    "matrix.mtx.gz", name="gz of more entries than fit", text=BANNER + "40 60 1000000000000\n1 1 1\n", suffix=".gz"
)


@case("matrix.mtx")
def mtx_folder_with_a_fifo(folder):
    path = tenx_folder(folder, BANNER + "40 60 1\n1 1 1\n")
    (path / "matrix.mtx").unlink()
    os.mkfifo(path / "matrix.mtx")
    return path


@case("features.tsv")
def mtx_folder_with_a_fifo_of_features(folder):
    path = tenx_folder(folder, BANNER + "40 60 1\n1 1 1\n")
    (path / "features.tsv").unlink()
    os.mkfifo(path / "features.tsv")
    return path


def bomb(path, head=b"", *, megabytes=24):
    """So many zeros or spaces in a thousandth of that."""
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(head)
        block = b"0" * (1 << 20)
        for _ in range(megabytes):
            file.write(block)
    return path


def tenx_h5(folder, change):
    path, cells = folder / "cells.h5", small_cells()
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        for name in ("data", "indices", "indptr"):
            group[name] = getattr(cells.X, name)
        group["shape"], group["barcodes"] = [GENES, CELLS], [f"c{i}".encode() for i in range(CELLS)]
        names = [f"G{j}".encode() for j in range(GENES)]
        features = group.create_group("features")
        for name, values in (("id", names), ("name", names), ("feature_type", [b"Gene Expression"] * GENES)):
            features[name] = values
        change(group)
    return path


def tenx_case(*outcomes, name):
    def register(change):
        FILES[f"10x h5, {name}"] = (lambda folder: tenx_h5(folder, change), outcomes)
        return change

    return register


@tenx_case(name="sound")
def _(group):
    pass


@tenx_case("row pointers", name="shape of 1e9")
def _(group):
    put(group, "shape", [10**9, 10**9])


@tenx_case("shape", name="shape of one")
def _(group):
    put(group, "shape", [10])


@tenx_case("shape", name="shape negative")
def _(group):
    put(group, "shape", [-40, -60])


@tenx_case("GB", "row pointers", name="values of a terabyte")
def _(group):
    for part in ("data", "indices"):
        del group[part]
        group.create_dataset(part, (10**12,), "i4", chunks=(1 << 20,), compression="gzip")
    changed(group, "indptr", lambda a: a.__setitem__(-1, 2 * 10**9))


@tenx_case("row pointers", name="indptr falls")
def _(group):
    changed(group, "indptr", lambda a: a.__setitem__(5, a[8]))


@tenx_case("column number", name="indices out of range")
def _(group):
    changed(group, "indices", lambda a: a.__setitem__(5, 4000))


@tenx_case("cells", "barcodes", name="barcodes too few")
def _(group):
    put(group, "barcodes", group["barcodes"][:-5])


@tenx_case("genes", "features", name="features too few")
def _(group):
    put(group["features"], "name", group["features/name"][:-5])


@tenx_case("barcodes", name="barcodes a group")
def _(group):
    del group["barcodes"]
    group.create_group("barcodes")


@tenx_case("", name="no features")
def _(group):
    del group["features"]


@tenx_case("", name="features an array")
def _(group):
    del group["features"]
    group["features"] = [1, 2]


@tenx_case("GB", name="barcodes of a terabyte")
def _(group):
    del group["barcodes"]
    group.create_dataset("barcodes", (10**12,), "S16", chunks=(1 << 16,), compression="gzip")
