"""Files that are damaged, lie about their size or are none: each a function that makes one in a folder."""

import atexit
import functools
import gzip
import json
import os
import shutil
import socket
import struct
import tempfile
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import zarr
from scipy import sparse

CELLS, GENES = 60, 40
HUGE = 10**12
FILES = {}


def case(*outcomes, name=None):
    """Register a maker of a file; `outcomes` are parts of the message, one of which must be in it; none: accepted."""

    def register(make):
        FILES[name or make.__name__] = (make, outcomes)
        return make

    return register


def small_cells(kind=sparse.csr_matrix, dtype=np.float32):
    """Counts of 60 cells x 40 genes, with a cell type."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(1.5, (CELLS, GENES)).astype(dtype)
    counts[:, 0] += 1
    obs = pd.DataFrame({"cell_type": pd.Categorical(np.repeat(["A", "B"], CELLS // 2))})
    obs.index = [f"cell{i}" for i in range(CELLS)]
    return anndata.AnnData(kind(counts), obs=obs, var=pd.DataFrame(index=[f"G{j}" for j in range(GENES)]))


@functools.cache
def _written(kind, suffix):
    """Written once: what is tried is the reading."""
    folder = tempfile.mkdtemp(prefix="scrdit_hostile_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder) / f"cells{suffix}"
    cells = small_cells(kind)
    if suffix == ".h5ad":
        cells.write_h5ad(path)
    else:
        cells.write_zarr(path)
    return path


def h5ad(folder, kind=sparse.csr_matrix):
    return Path(shutil.copy(_written(kind, ".h5ad"), folder))


def zarr_store(folder, kind=sparse.csr_matrix):
    return Path(shutil.copytree(_written(kind, ".zarr"), folder / "cells.zarr"))


def h5ad_case(*outcomes, name, kind=sparse.csr_matrix):
    """A file of which `change(file)` changes something; the same in zarr, where it is not about HDF5."""

    def register(change):
        def make_h5ad(folder):
            path = h5ad(folder, kind)
            with h5py.File(path, "a") as file:
                change(file)
            return path

        def make_zarr(folder):
            path = zarr_store(folder, kind)
            change(zarr.open_group(path, mode="a", use_consolidated=False))
            zarr.consolidate_metadata(path)
            return path

        FILES[f"h5ad, {name}"] = (make_h5ad, outcomes)
        FILES[f"zarr, {name}"] = (make_zarr, outcomes)
        return change

    return register


def put(group, name, values):
    """Replace an array, its attributes kept."""
    values = np.asarray(values)
    attrs = dict(group[name].attrs) if name in group else {"encoding-type": "array", "encoding-version": "0.2.0"}
    if name in group:
        del group[name]
    if isinstance(group, zarr.Group):
        group.create_array(name, data=values)
    else:
        group[name] = values
    for key, value in attrs.items():
        group[name].attrs[key] = value


def changed(group, name, change):
    values = group[name][:]
    change(values)
    put(group, name, values)


# What is wrong with a matrix that is stored by rows.


@h5ad_case("row pointers", name="indptr falls")
def _(file):
    changed(file["X"], "indptr", lambda a: a.__setitem__(5, a[8]))


@h5ad_case("row pointers", name="indptr begins late")
def _(file):
    changed(file["X"], "indptr", lambda a: a.__setitem__(0, 3))


@h5ad_case("row pointers", name="indptr ends early")
def _(file):
    changed(file["X"], "indptr", lambda a: a.__setitem__(-1, a[-2]))


@h5ad_case("row pointers", name="indptr ends late")
def _(file):
    changed(file["X"], "indptr", lambda a: a.__setitem__(-1, a[-1] + 999))


@h5ad_case("row pointers", name="indptr negative")
def _(file):
    changed(file["X"], "indptr", lambda a: a.__setitem__(1, -7))


@h5ad_case("row pointers", name="indptr too short")
def _(file):
    put(file["X"], "indptr", file["X/indptr"][:-3])


@h5ad_case("row pointers", name="indptr in two dimensions")
def _(file):
    put(file["X"], "indptr", file["X/indptr"][:-1].reshape(2, -1))


@h5ad_case("row pointers", name="indptr of floats")
def _(file):
    put(file["X"], "indptr", file["X/indptr"][:].astype(np.float64) + 0.5)


@h5ad_case("row pointers", name="indptr of words")
def _(file):
    put(file["X"], "indptr", np.array([b"x"] * (CELLS + 1)))


@h5ad_case("row pointers", name="indptr empty")
def _(file):
    put(file["X"], "indptr", np.zeros(0, np.int64))


@h5ad_case("column number", name="indices too large")
def _(file):
    changed(file["X"], "indices", lambda a: a.__setitem__(700, GENES))


@h5ad_case("column number", name="indices negative")
def _(file):
    changed(file["X"], "indices", lambda a: a.__setitem__(700, -1))


@h5ad_case("column number", name="indices of floats")
def _(file):
    put(file["X"], "indices", file["X/indices"][:] + 0.5)


@h5ad_case("column number", name="indices of words")
def _(file):
    put(file["X"], "indices", np.array([b"x"] * file["X/indices"].shape[0]))


@h5ad_case("values but", name="indices fewer than values")
def _(file):
    put(file["X"], "indices", file["X/indices"][:-5])


@h5ad_case("values but", name="values fewer than indices")
def _(file):
    put(file["X"], "data", file["X/data"][:-5])


@h5ad_case("values", name="values in two dimensions")
def _(file):
    put(file["X"], "data", np.stack([file["X/data"][:]] * 2))


@h5ad_case("not a number", "numeric", "numbers", name="values of words")
def _(file):
    put(file["X"], "data", np.array([b"word"] * file["X/data"].shape[0]))


@h5ad_case("numbers", "numeric", name="values complex")
def _(file):
    put(file["X"], "data", file["X/data"][:] + 1j)


@h5ad_case(name="indices unsorted in a row")
def _(file):
    start, end = file["X/indptr"][3:5]
    for part in ("indices", "data"):
        changed(file["X"], part, lambda a: a.__setitem__(slice(start, end), a[start:end][::-1].copy()))


@h5ad_case(name="a column twice in a row")
def _(file):
    start = int(file["X/indptr"][3])
    changed(file["X"], "indices", lambda a: a.__setitem__(start + 1, a[start]))


for key, shape in {
    "of a trillion": [HUGE, HUGE],
    "of 1e9": [10**9, 10**9],
    "with many rows": [HUGE, GENES],
    "with many columns": [CELLS, HUGE],
    "negative": [-CELLS, GENES],
    "of floats": [60.5, 40.5],
    "not finite": [np.nan, np.inf],
    "of three": [CELLS, GENES, 2],
    "of one": [CELLS],
    "empty": [],
    "fewer rows": [CELLS - 5, GENES],
    "of zero rows": [0, GENES],
    "of zero columns": [CELLS, 0],
}.items():

    @h5ad_case("X", "row pointers", "empty", name=f"shape {key}")
    def _(file, shape=shape):
        if isinstance(file, zarr.Group):
            shape = [str(x) if isinstance(x, float) and not np.isfinite(x) else x for x in shape]
        file["X"].attrs["shape"] = np.array(shape) if isinstance(file, h5py.Group) else shape


@h5ad_case("shape", "X", name="shape a word")
def _(file):
    file["X"].attrs["shape"] = "large"


@h5ad_case("shape", "X", name="shape missing")
def _(file):
    del file["X"].attrs["shape"]


@h5ad_case("400 genes", "genes", name="X has fewer genes than var")
def _(file):
    file["X"].attrs["shape"] = [CELLS, GENES + 100]


@h5ad_case("genes", name="var is shorter")
def _(file):
    del file["var"]
    anndata.io.write_elem(file, "var", pd.DataFrame(index=[f"G{j}" for j in range(GENES - 4)]))


@h5ad_case("cells", name="obs is shorter")
def _(file):
    del file["obs"]
    anndata.io.write_elem(file, "obs", pd.DataFrame(index=[f"c{j}" for j in range(CELLS - 4)]))


@h5ad_case("cells", name="obs is longer")
def _(file):
    del file["obs"]
    anndata.io.write_elem(file, "obs", pd.DataFrame(index=[f"c{j}" for j in range(CELLS + 4)]))


@h5ad_case("X", name="encoding unknown")
def _(file):
    file["X"].attrs["encoding-type"] = "coo_tensor"


@h5ad_case("", name="encoding a number")
def _(file):
    file["X"].attrs["encoding-type"] = 7


@h5ad_case("", name="encoding says csc")
def _(file):
    file["X"].attrs["encoding-type"] = "csc_matrix"


for part in ("obs", "var", "X"):

    @h5ad_case("lacks", "no matrix X", name=f"no {part}")
    def _(file, part=part):
        del file[part]

    @h5ad_case("", name=f"{part} an array of one dimension")
    def _(file, part=part):
        del file[part]
        put(file, part, np.arange(60.0))

    @h5ad_case("", name=f"{part} an empty group")
    def _(file, part=part):
        del file[part]
        file.create_group(part)


for part in ("data", "indices", "indptr"):

    @h5ad_case(part, "row pointers", name=f"X without {part}")
    def _(file, part=part):
        del file["X"][part]

    @h5ad_case("", name=f"X/{part} a group")
    def _(file, part=part):
        del file["X"][part]
        file["X"].create_group(part)

    @h5ad_case("", name=f"X/{part} one number")
    def _(file, part=part):
        put(file["X"], part, np.array(3))


for value, what in ((np.nan, "missing (NaN)"), (np.inf, "infinite"), (-np.inf, "infinite"), (-1, "-1")):

    @h5ad_case(what, name=f"{value} among the values")
    def _(file, value=value):
        changed(file["X"], "data", lambda a: a.__setitem__(700, value))

    @h5ad_case(what, name=f"{value} among dense values", kind=np.asarray)
    def _(file, value=value):
        changed(file, "X", lambda a: a.__setitem__((35, 7), value))


@h5ad_case("not a number", "numeric", "numbers", name="dense words", kind=np.asarray)
def _(file):
    put(file, "X", np.full((CELLS, GENES), b"word"))


@h5ad_case("", name="dense in three dimensions", kind=np.asarray)
def _(file):
    put(file, "X", np.zeros((CELLS, GENES, 2)))


@h5ad_case("cells", name="dense with other rows", kind=np.asarray)
def _(file):
    put(file, "X", np.ones((CELLS + 1, GENES)))


@h5ad_case("genes", name="dense with other columns", kind=np.asarray)
def _(file):
    put(file, "X", np.ones((CELLS, GENES + 1)))


@h5ad_case("", name="obs index missing")
def _(file):
    del file["obs"][file["obs"].attrs["_index"]]


@h5ad_case("", name="obs index names nothing")
def _(file):
    file["obs"].attrs["_index"] = "nowhere"


@h5ad_case("", name="obs without index attribute")
def _(file):
    del file["obs"].attrs["_index"]


@h5ad_case("", name="obs column order names nothing")
def _(file):
    order = ["cell_type", "nowhere"]
    file["obs"].attrs["column-order"] = np.array(order, object) if isinstance(file, h5py.Group) else order


@h5ad_case("", name="category codes out of range")
def _(file):
    changed(file["obs/cell_type"], "codes", lambda a: a.__setitem__(4, 99))


@h5ad_case("", name="category codes too few")
def _(file):
    put(file["obs/cell_type"], "codes", file["obs/cell_type/codes"][:-7])


@h5ad_case("", name="category codes of floats")
def _(file):
    put(file["obs/cell_type"], "codes", file["obs/cell_type/codes"][:] + 0.5)


@h5ad_case("", name="uns an array")
def _(file):
    if "uns" in file:
        del file["uns"]
    put(file, "uns", np.arange(3))


@h5ad_case(name="layers an array")
def _(file):
    if "layers" in file:
        del file["layers"]
    put(file, "layers", np.arange(3))


# What only HDF5 or only zarr can have.


@case("GB", "memory")
def dense_hdf5_of_400_gb(folder):
    path = h5ad(folder)
    with h5py.File(path, "a") as file:
        del file["X"]
        data = file.create_dataset("X", (10**7, 10**4), "f4", chunks=(1000, 1000), compression="gzip")
        data.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    return path


@case("GB", "memory", "row pointers")
def sparse_hdf5_of_chunks_that_are_not_there(folder):
    path = h5ad(folder)
    with h5py.File(path, "a") as file:
        for part in ("data", "indices"):
            del file["X"][part]
            file["X"].create_dataset(part, (10**12,), "i4", chunks=(1 << 20,), compression="gzip")
        del file["X/indptr"]
        file["X/indptr"] = np.linspace(0, 10**12, CELLS + 1).astype(np.int64)
    return path


@case("GB", "memory", "row pointers")
def hdf5_with_row_pointers_of_a_terabyte(folder):
    path = h5ad(folder)
    with h5py.File(path, "a") as file:
        del file["X/indptr"]
        file["X"].create_dataset("indptr", (10**12 + 1,), "i8", chunks=(1 << 20,), compression="gzip")
        file["X"].attrs["shape"] = [10**12, GENES]
    return path


@case("GB", "memory", "cells")
def hdf5_with_a_column_of_a_terabyte(folder):
    path = h5ad(folder)
    with h5py.File(path, "a") as file:
        data = file["obs"].create_dataset("many", (10**12,), "f8", chunks=(1 << 20,), compression="gzip")
        data.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
        file["obs"].attrs["column-order"] = np.array(["cell_type", "many"], object)
    return path


@case("cells.h5ad")
def hdf5_with_a_damaged_chunk(folder):
    path = folder / "cells.h5ad"
    small_cells().write_h5ad(path, compression="gzip")
    with h5py.File(path) as file:
        chunk = file["X/data"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    for i in range(8, chunk.size, 3):
        content[chunk.byte_offset + i] ^= 0x5A
    path.write_bytes(content)
    return path


@case("cells.h5ad")
def hdf5_cut_short(folder):
    path = h5ad(folder)
    path.write_bytes(path.read_bytes()[:-4000])
    return path


@case("cells.h5ad")
def hdf5_with_a_link_to_another_file(folder):
    path = h5ad(folder)
    with h5py.File(path, "a") as file:
        del file["X"]
        file["X"] = h5py.ExternalLink("/etc/passwd", "/X")
    return path


@case("outside", "external", name="hdf5_that_reads_another_file")
def hdf5_with_external_storage(folder):
    path = h5ad(folder, np.asarray)
    with h5py.File(path, "a") as file:
        del file["X"]
        data = file.create_dataset("X", (CELLS, GENES), "f4", external=[("/etc/hostname", 0, h5py.h5f.UNLIMITED)])
        data.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    return path


@case("cells.h5ad")
def hdf5_with_links_in_a_circle(folder):
    path = h5ad(folder)
    with h5py.File(path, "a") as file:
        del file["obs"]
        file["obs"] = h5py.SoftLink("/obs")
    return path


@case("cells.h5ad")
def hdf5_whose_obs_is_its_root(folder):
    path = h5ad(folder)
    with h5py.File(path, "a") as file:
        del file["obs"]
        file["obs"] = file["/"]
    return path


@case("GB", "memory")
def zarr_dense_of_400_gb(folder):
    path = zarr_store(folder)
    group = zarr.open_group(path, mode="a", use_consolidated=False)
    del group["X"]
    data = group.create_array("X", shape=(10**7, 10**4), dtype="f4", chunks=(1000, 1000))
    data.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    zarr.consolidate_metadata(path)
    return path


@case("GB", "memory", "chunk")
def zarr_with_a_chunk_of_a_terabyte(folder):
    path = zarr_store(folder)
    group = zarr.open_group(path, mode="a", use_consolidated=False)
    size = group["X/data"].shape[0]
    attrs = dict(group["X/data"].attrs)
    del group["X/data"]
    data = group["X"].create_array("data", shape=(size,), dtype="f4", chunks=(10**12,), fill_value=1)
    data.attrs.update(attrs)
    zarr.consolidate_metadata(path)
    return path


def _zarr_chunk(path):
    return next(file for file in sorted((path / "X/data").rglob("*")) if file.is_file() and file.name[0] in "0c")


@case("cells.zarr")
def zarr_with_a_damaged_chunk(folder):
    path = zarr_store(folder)
    chunk = _zarr_chunk(path)
    chunk.write_bytes(bytes(b ^ 0x5A for b in chunk.read_bytes()))
    return path


@case("cells.zarr")
def zarr_with_a_cut_chunk(folder):
    path = zarr_store(folder)
    chunk = _zarr_chunk(path)
    chunk.write_bytes(chunk.read_bytes()[:20])
    return path


@case("cells.zarr", name="zarr_chunk_that_claims_more")
def zarr_chunk_claims(folder):
    """Blosc's header says how much comes out: 2 GB of 60 bytes."""
    path = zarr_store(folder)
    chunk = _zarr_chunk(path)
    content = bytearray(chunk.read_bytes())
    content[4:8] = struct.pack("<I", 2**31 - 64)
    chunk.write_bytes(content)
    return path


def _zarr_with(folder, metadata):
    path = zarr_store(folder)
    shutil.rmtree(path / "X")
    (path / "X").mkdir()
    (path / "X/.zarray").write_text(json.dumps(metadata))
    (path / "X/.zattrs").write_text(json.dumps({"encoding-type": "array", "encoding-version": "0.2.0"}))
    (path / "X/0.0").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    return path


PICKLED = {
    "zarr_format": 2, "shape": [CELLS, GENES], "chunks": [CELLS, GENES], "dtype": "|O", "compressor": None,
    "fill_value": 0, "order": "C", "filters": [{"id": "pickle"}],
}  # fmt: skip


@case("never opened")
def zarr_with_pickles(folder):
    return _zarr_with(folder, PICKLED)


@case("cells.zarr")
def zarr_of_objects_without_a_codec(folder):
    return _zarr_with(folder, {**PICKLED, "filters": None})


@case("cells.zarr")
def zarr_with_an_unknown_codec(folder):
    return _zarr_with(folder, {**PICKLED, "dtype": "<f4", "filters": [{"id": "no_such_codec"}]})


@case("cells.zarr")
def zarr_metadata_cut_short(folder):
    path = zarr_store(folder)
    for file in path.rglob("*"):
        if file.name in ("zarr.json", ".zarray"):
            file.write_text(file.read_text()[:-20])
    return path


@case("cells.zarr")
def zarr_metadata_nested_deeply(folder):
    path = zarr_store(folder)
    for name in ("zarr.json", ".zattrs"):
        if (path / name).exists():
            (path / name).write_text("[" * 100_000)
    return path


@case("cells.zarr")
def zarr_metadata_that_is_a_list(folder):
    path = zarr_store(folder)
    for name in ("zarr.json", ".zgroup"):
        if (path / name).exists():
            (path / name).write_text("[]")
    return path


@case("cells.zarr")
def zarr_metadata_that_is_no_text(folder):
    path = zarr_store(folder)
    for file in path.rglob("*"):
        if file.name in ("zarr.json", ".zarray"):
            file.write_bytes(b"\xff\xfe\x00")
    return path


# .npy


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


# 10x folders and .h5


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


# Text tables


def table(rows=20, columns=30):
    lines = ["," + ",".join(f"G{j}" for j in range(columns))]
    lines += [f"c{i}," + ",".join(str((i * 7 + j * 3) % 5) for j in range(columns)) for i in range(rows)]
    return ("\n".join(lines) + "\n").encode()


def text_case(*outcomes, name, content, suffix=".csv"):
    def make(folder):
        path = folder / f"cells{suffix}"
        path.write_bytes(content() if callable(content) else content)
        return path

    FILES[f"table, {name}"] = (make, outcomes)


text_case("cells.csv", name="empty", content=b"")
text_case("cells.csv", name="bytes", content=bytes(range(256)) * 40)
text_case("cells.csv", name="NULs", content=b"\0" * 5000)
text_case("", name="NULs in a row", content=table().replace(b"c3,", b"c\x003,"))
text_case("", name="UTF-16", content=table().decode().encode("utf-16"))
text_case("cells.csv", name="a quote that never ends", content=table().replace(b"c3,", b'"c3,'))
text_case(
    "200,000 columns",
    name="200,000 columns",
    content=lambda: b"," + b",".join(b"G%d" % j for j in range(200_000)) + b"\nc0" + b",1" * 200_000 + b"\n",
)
text_case("line", name="a line that never ends", content=lambda: b"1" * (5 << 20))
text_case("", name="many separators", content=b"," * 2_000 + b"\n" + b"c0" + b"," * 2_000 + b"\n")
text_case("cells.csv", name="a row too long", content=table() + b"c99" + b",1" * 90 + b"\n")
text_case("cells.csv", name="numbers too large", content=table().replace(b"c3,", b"c3,1e9999,", 1))
text_case("is no number", "not a number", name="words", content=table().replace(b"\nc3,1", b"\nc3,two", 1))
text_case(name="gz, sound", content=gzip.compress(table()), suffix=".csv.gz")
text_case(
    name="gz, of several members", content=gzip.compress(table()[:300]) + gzip.compress(table()[300:]), suffix=".csv.gz"
)
text_case("cut short", name="gz, cut short", content=gzip.compress(table())[:-12], suffix=".csv.gz")
text_case("cells.csv.gz", name="gz, none", content=table(), suffix=".csv.gz")
text_case("cells.csv.gz", name="gz, of 0 bytes", content=b"", suffix=".csv.gz")
text_case("cells.csv.gz", name="gz, with rubbish behind", content=gzip.compress(table()) + b"rubbish", suffix=".csv.gz")
text_case("cells.csv.gz", name="gz, damaged", content=gzip.compress(table())[:-30] + b"\x00" * 30, suffix=".csv.gz")


@case("500 times its", "line")
def gzip_bomb_of_a_table(folder):
    return bomb(folder / "cells.csv.gz", b",G0,G1\nc0,")


@case("500 times its", "line")
def gzip_bomb_of_rows(folder):
    path = folder / "cells.tsv.gz"
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(b"\tG0\tG1\n")
        block = b"c\t0\t0\n" * 200_000
        for _ in range(20):
            file.write(block)
    return path


@case("500 times its", "matrix.mtx.gz")
def gzip_bomb_of_a_matrix(folder):
    path = tenx_folder(folder, "")
    (path / "matrix.mtx").unlink()
    with gzip.open(path / "matrix.mtx.gz", "wb", compresslevel=1) as file:
        file.write(BANNER.encode())
        block = b"%" * (1 << 20)
        for _ in range(24):
            file.write(block)
    return path


@case("500 times its", "features.tsv.gz")
def gzip_bomb_of_features(folder):
    path = tenx_folder(folder, BANNER + "40 60 1\n1 1 1\n")
    (path / "features.tsv").unlink()
    bomb(path / "features.tsv.gz")
    return path


# What is no file


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
