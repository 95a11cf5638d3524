"""What is wrong with a matrix that is stored by rows, in HDF5 and in zarr."""

import anndata
import h5py
import numpy as np
import pandas as pd
import zarr

from .making import CELLS, GENES, HUGE, changed, h5ad_case, put


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
