"""What only HDF5 or only zarr can have."""

import json
import os
import shutil
import struct

import h5py
import numpy as np
import zarr

from .making import CELLS, GENES, case, h5ad, small_cells, zarr_store


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


@case("no texts or numbers")
def hdf5_whose_categories_are_bytes(folder):
    path = h5ad(folder)
    with h5py.File(path, "a") as file:
        column = file["obs/cell_type"]
        del column["categories"]
        column.create_dataset("categories", data=["A", "B"], dtype=h5py.string_dtype())
        column["categories"].attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    return path


@case("does not say which of its columns")
def hdf5_whose_names_are_a_reference(folder):
    path = h5ad(folder)
    with h5py.File(path, "a") as file:
        file["var"].attrs["_index"] = file["obs"].ref
    return path


@case("a NUL in them")
def zarr_with_nuls_in_names(folder):
    path = folder / "cells.zarr"
    cells = small_cells()
    cells.var_names = [f"G\0{j}" for j in range(GENES)]
    cells.write_zarr(path)
    return path


@case("a NUL in them")
def zarr_with_nuls_in_categories(folder):
    path = folder / "cells.zarr"
    cells = small_cells()
    cells.obs["cell_type"] = cells.obs["cell_type"].cat.rename_categories({"A": "A\0"})
    cells.write_zarr(path)
    return path


@case("named pipe")
def zarr_with_a_pipe_for_a_chunk(folder):
    path = zarr_store(folder)
    chunk = next(file for file in sorted((path / "obs").rglob("*")) if file.is_file() and file.name in ("0", "0.0"))
    chunk.unlink()
    os.mkfifo(chunk)
    return path


@case("is a link to a folder")
def zarr_with_a_link_to_a_folder(folder):
    path = zarr_store(folder)
    shutil.move(path / "obs", folder / "obs")
    (path / "obs").symlink_to(folder / "obs")
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
