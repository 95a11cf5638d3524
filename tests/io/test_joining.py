"""Several files as one data set, against anndata.concat; in memory and streamed, to the same bits."""

import warnings

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import scrdit_jax as api
from scrdit_jax.api import prepare
from scrdit_jax.checkpoint import Checkpoints
from scrdit_jax.data import splitting
from scrdit_jax.data.joined import scale_of
from scrdit_jax.data.preparing import write_prepared
from scrdit_jax.data.splitting import held_out_mask
from scrdit_jax.errors import BadInput, RunMismatch
from scrdit_jax.io import backed, checking
from scrdit_jax.io.reading import open_cells, read_cells

NAMES = ("one", "two", "three")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """So that ninety cells are many blocks and reads."""
    monkeypatch.setattr(checking, "ROWS_PER_BLOCK", 11)
    monkeypatch.setattr(backed, "NEAR", 1)
    monkeypatch.setattr(backed, "MOST_ROWS", 8)


@pytest.fixture(scope="session")
def parts(labelled_cells) -> dict[str, anndata.AnnData]:
    """Thirty cells each. The second has other genes too, in another order; the third is dense; names are repeated."""
    random, cells, found = np.random.default_rng(3), labelled_cells, {}
    for number, name in enumerate(NAMES):
        part = cells[30 * number : 30 * (number + 1)].copy()
        part.obs["cell_type"] = part.obs["cell_type"].cat.remove_unused_categories()
        found[name] = part
    more = anndata.AnnData(sparse.csr_matrix(random.poisson(1.0, (30, 5)).astype(np.float32)))
    more.var_names, more.obs_names = [f"MORE{j}" for j in range(5)], found["two"].obs_names
    two = anndata.concat([found["two"], more], axis=1, merge="first")
    found["two"] = two[:, random.permutation(two.n_vars)].copy()
    found["two"].obs["only"] = "here"
    found["three"] = found["three"][:, ::-1][:, 2:].copy()
    found["three"].X = found["three"].X.toarray()
    found["three"].obs_names = [*found["one"].obs_names[:10], *found["three"].obs_names[10:]]
    return found


@pytest.fixture
def folder(parts, tmp_path):
    """The parts as files: two .h5ad and a .zarr."""
    folder = tmp_path / "atlas"
    folder.mkdir()
    parts["one"].write_h5ad(folder / "one.h5ad")
    parts["two"].write_zarr(folder / "two.zarr")
    parts["three"].write_h5ad(folder / "three.h5ad")
    (folder / "README.txt").write_text("no cells")
    return folder


def paths(folder):
    return [folder / "one.h5ad", folder / "two.zarr", folder / "three.h5ad"]


def same(one, other) -> None:
    """The same Prepared to the bit."""
    assert one.metadata == other.metadata
    np.testing.assert_array_equal(one.axes, other.axes)
    np.testing.assert_array_equal(one.gene_marginals(), other.gene_marginals())
    pd.testing.assert_frame_equal(one.cells.obs, other.cells.obs)
    pd.testing.assert_frame_equal(one.cells.var, other.cells.var)
    for here, there in ((one.train, other.train), (one.held_out, other.held_out)):
        here, there = here.X[:], there.X[:]
        for name in ("data", "indices", "indptr"):
            np.testing.assert_array_equal(getattr(here, name), getattr(there, name))


@pytest.fixture
def concatenated(parts):
    """What anndata makes of the parts, by itself."""
    joined = anndata.concat(parts, join="inner", label="file", merge="first")
    names = pd.Series(joined.obs_names)
    repeated = names.duplicated(keep=False).to_numpy()
    joined.obs_names = np.where(repeated, names + "@@" + joined.obs["file"].astype(str).to_numpy(), names)
    return joined


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "changes",
    [
        {"genes": 20},
        {"condition_on": ["cell_type", "file"], "derive": {"pc-scores": 2, "detected-genes": 1}, "quantiles": 4},
        {"gene_selection": "all", "cell_types": ["B cell"], "cell_type_key": "cell_type"},
    ],
)
def test_joined_files_are_those_that_anndata_concatenates(changes, stream, folder, concatenated, tiny_config):
    expected = prepare(concatenated, preset=tiny_config, **changes)
    found = prepare(paths(folder), preset=tiny_config, stream=stream, **changes)
    assert found.on_disk is stream
    assert found.metadata.digest == expected.metadata.digest
    assert found.metadata.genes == expected.metadata.genes
    assert found.metadata.scaling == expected.metadata.scaling
    assert found.metadata.variables == expected.metadata.variables
    pd.testing.assert_frame_equal(found.cells.obs, expected.cells.obs)
    np.testing.assert_array_equal(found.train.X[:].toarray(), expected.train.X.toarray())
    same(found, prepare(paths(folder), preset=tiny_config, stream=not stream, **changes))
    assert "3 files joined (30 + 30 + 30 cells), with the 38 genes that all have" in found.metadata.notes
    assert "columns that some of the files lack were left out: only" in found.metadata.notes


def test_a_folder_is_its_files_by_name(folder, tiny_config):
    ordered = [folder / "one.h5ad", folder / "three.h5ad", folder / "two.zarr"]
    same(prepare(folder, preset=tiny_config, stream=True), prepare(ordered, preset=tiny_config, stream=True))


def test_a_cell_is_held_out_beside_other_files_as_without_them(folder, parts, tiny_config):
    held_out = prepare(paths(folder), preset=tiny_config).cells.obs["split"] == "held_out"
    config = tiny_config.data
    for name, here in held_out.groupby(prepare(paths(folder), preset=tiny_config).cells.obs["file"], observed=True):
        alone = held_out_mask(parts[name].obs_names, config.held_out, config.seed)
        np.testing.assert_array_equal(here, alone)
    assert held_out.index.is_unique


def test_columns_come_in_any_order_with_sorted_indices(parts, tmp_path):
    path = tmp_path / "cells.h5ad"
    parts["one"].write_h5ad(path)
    dense = parts["one"].X.toarray()
    x = open_cells(path).X
    shuffled = np.random.default_rng(0).permutation(40)[:17]
    for columns in (shuffled, np.sort(shuffled), np.arange(40), np.arange(40)[::-1]):
        view = x[:, columns]
        for rows in (view[:], view[np.arange(30) % 3 == 0][:], view[:, np.arange(len(columns))[::-1]][:]):
            assert sparse.csr_matrix((rows.data, rows.indices, rows.indptr), shape=rows.shape).has_sorted_indices
        np.testing.assert_array_equal(view[:].toarray(), dense[:, columns])
        np.testing.assert_array_equal(view[:, [3, 1]][:].toarray(), dense[:, columns[[3, 1]]])


def test_scales_are_recognised(tiny_cells):
    def scaled(change, total=1e4):
        cells = tiny_cells.copy()
        x = cells.X.toarray()
        cells.X = sparse.csr_matrix(change(x / x.sum(axis=1, keepdims=True) * total).astype(np.float32))
        return str(scale_of(cells))

    assert str(scale_of(tiny_cells)) == "raw counts"
    assert scaled(np.log1p).startswith("log(1 + x) of values that sum to 10000")
    assert scaled(lambda x: np.log2(1 + x), 1e6).startswith("log2(1 + x) of values that sum to 1e+06")
    assert scaled(np.asarray).startswith("x of values that sum to 10000")
    assert scaled(np.sqrt) == "values that are no counts"


def variants(parts):
    """Files that do not go with part one, and what is said of each."""
    one = parts["one"]

    def changed(change):
        cells = one.copy()
        cells.obs_names = [f"other{i}" for i in range(30)]
        change(cells)
        return cells

    def logged(cells, log=np.log1p):
        x = cells.X.toarray()
        cells.X = sparse.csr_matrix(log(x / x.sum(axis=1, keepdims=True) * 1e4).astype(np.float32))

    def ensembl(cells):
        cells.var_names = [f"ENSG{j}" for j in range(40)]

    def without_donor(cells):
        del cells.obs["donor"]

    return changed, logged, ensembl, without_donor


def said(output):
    lines = output.strip().splitlines()
    assert len(lines) == 1, output
    return lines[0]


@pytest.mark.parametrize("stream", [["--stream"], []])
def test_files_that_do_not_go_together_are_refused_in_one_line(stream, parts, scrdit, tmp_path):
    changed, logged, ensembl, without_donor = variants(parts)
    parts["one"].write_h5ad("one.h5ad")
    changed(ensembl).write_h5ad("ensembl.h5ad")
    changed(logged).write_h5ad("logs.h5ad")
    changed(lambda cells: logged(cells, lambda x: np.log2(1 + x))).write_h5ad("logs2.h5ad")
    changed(without_donor).write_h5ad("nobody.h5ad")

    def refused(*words):
        status, output = scrdit("train", *words, "--out", "run", *stream)
        assert status == 2
        assert not (tmp_path / "run").exists()
        return said(output)

    line = refused("one.h5ad", "ensembl.h5ad")
    assert "one: GENE0, GENE1, GENE2; ensembl: ENSG0, ENSG1, ENSG2" in line
    assert "symbols or Ensembl ids" in line
    line = refused("one.h5ad", "logs.h5ad")
    assert "one holds raw counts, logs log(1 + x) of values that sum to 10000 in each cell" in line
    line = refused("logs.h5ad", "logs2.h5ad")
    assert "logs2 log2(1 + x) of values" in line
    assert "must be on one scale" in line
    line = refused("one.h5ad", "nobody.h5ad", "--condition-on", "donor")
    assert "nobody has no column 'donor', which one has" in line
    line = refused("one.h5ad", "one.h5ad")
    assert "was given twice" in line
    line = refused("one.h5ad", "gone.h5ad")
    assert "gone.h5ad" in line


def test_few_common_genes_are_a_note(parts, tiny_config):
    few = parts["two"][:, [name for name in parts["two"].var_names if name in {f"GENE{j}" for j in range(12)}]].copy()
    notes = prepare([parts["one"], few], preset=tiny_config, genes=8).metadata.notes
    assert "only 12 of the 40 genes of data_1 are in all files" in notes


def test_as_many_categories_as_cells_are_refused_with_the_numbers(parts, scrdit):
    cells = parts["one"].copy()
    cells.obs["barcode"] = [f"b{i % 16}" for i in range(30)]
    cells.write_h5ad("cells.h5ad")
    status, output = scrdit("train", "cells.h5ad", "--condition-on", "barcode", "--out", "run")
    assert status == 2
    assert "obs['barcode'] has 16 different labels for 30 cells" in said(output)


def test_prepared_files_are_not_joined(parts, tiny_config, tmp_path):
    write_prepared(prepare(parts["one"], preset=tiny_config), tmp_path / "prepared.h5ad")
    with pytest.raises(BadInput, match=r"prepared\.h5ad was prepared before and cannot be joined"):
        prepare([tmp_path / "prepared.h5ad", parts["two"]], preset=tiny_config)


def digest_of(run):
    with Checkpoints(run) as checkpoints:
        return checkpoints.digest()


@pytest.mark.slow
def test_all_genes_are_trained_on_without_a_copy_and_the_run_continues(folder, parts, tiny_config, tmp_path):
    changes = {"gene_selection": "all", "min_cells": 0, "condition_on": ["file"]}
    said: list[str] = []
    whole = api.train(
        paths(folder), out=tmp_path / "disk", preset=tiny_config, stream=True, on_notes=said.extend, **changes
    )
    assert not whole.cells_path.exists()
    assert any("read from the files as they are" in note for note in said)
    memory = api.train(paths(folder), out=tmp_path / "memory", preset=tiny_config, stream=False, **changes)
    assert digest_of(memory) == digest_of(whole)
    here, there = read_cells(whole.held_out_path), read_cells(memory.held_out_path)
    pd.testing.assert_frame_equal(here.obs, there.obs)
    np.testing.assert_array_equal(here.X.toarray(), there.X.toarray())
    # Interrupted and continued.
    twice = {"out": tmp_path / "twice", "preset": tiny_config, "stream": True, **changes}
    assert api.train(paths(folder), max_minutes=1e-6, **twice).stopped is not None
    assert digest_of(api.train(paths(folder), **twice)) == digest_of(whole)
    # A file that has changed since is noticed; and one that is gone.
    changed = parts["one"].copy()
    changed.X[3, 4] += 1
    changed.write_h5ad(folder / "one.h5ad")
    with pytest.raises(RunMismatch, match="their files have changed since"):
        api.train(paths(folder), **twice)
    (folder / "one.h5ad").unlink()
    with pytest.raises(BadInput, match=r"one\.h5ad"):
        api.train(paths(folder), **twice)


def test_few_genes_are_copied(folder, tiny_config, tmp_path):
    said: list[str] = []
    changes = {"genes": 12, "gene_selection": "cv", "stream": True, "on_notes": said.extend}
    run = api.train(paths(folder), out=tmp_path / "run", preset=tiny_config, **changes)
    assert run.cells_path.exists()
    assert any("are copied into the run" in note for note in said)


@pytest.mark.parametrize("stream", [True, False])
def test_so_many_held_out_cells_are_kept(stream, folder, tiny_config, tmp_path, monkeypatch):
    everything = prepare(paths(folder), preset=tiny_config, stream=stream).held_out
    monkeypatch.setattr(splitting, "MOST_KEPT", 9)
    run = api.train(paths(folder), out=tmp_path / "run", preset=tiny_config, stream=stream)
    kept = read_cells(run.held_out_path)
    assert kept.n_obs == 9
    assert set(kept.obs_names) < set(everything.obs_names)
    rows = everything.obs_names.get_indexer(kept.obs_names)
    np.testing.assert_array_equal(kept.X.toarray(), everything.X[:].toarray()[rows])


def test_nothing_but_notes_is_said_of_joined_files(tmp_path, scrdit):
    for name in ("a", "b"):
        cells = anndata.AnnData(sparse.random(40, 12, 0.5, "csr", random_state=0, data_rvs=lambda n: np.full(n, 2.0)))
        cells.obs_names = [f"cell{i}" for i in range(40)]
        cells.write_h5ad(tmp_path / f"{name}.h5ad")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        status, said = scrdit("prepare", "a.h5ad", "b.h5ad", "--genes", 10, "--out", "prepared.h5ad")
    assert status == 0, said
