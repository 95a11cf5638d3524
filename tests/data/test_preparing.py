import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scrdit_jax.config import DataConfig
from scrdit_jax.data import preparing
from scrdit_jax.data.adapting import align
from scrdit_jax.data.genes import choose_genes
from scrdit_jax.data.metadata import DatasetMetadata
from scrdit_jax.data.preparing import is_prepared, prepare, prepared_from, write_prepared
from scrdit_jax.data.scaling import Scaling
from scrdit_jax.data.splitting import held_out_mask
from scrdit_jax.data.statistics import GeneStatistics
from scrdit_jax.errors import BadInput, DiskFull, GeneMismatch, OutputExists, UnknownCellType
from scrdit_jax.io.checking import check_cells, notes_of, source_digest
from scrdit_jax.io.reading import read_cells

CONFIG = DataConfig(genes=20, min_cells=3, held_out=0.25, seed=1)


def normalised(adata) -> np.ndarray:
    matrix = adata.X.toarray()
    return np.log1p(1e4 * matrix / matrix.sum(1, keepdims=True))


@pytest.fixture
def prepared(counts):
    return prepare(counts, CONFIG, multiple_of=6, source="lung.h5ad")


def test_cells_and_facts(counts, prepared):
    cells, metadata = prepared.cells, prepared.metadata
    held_out = held_out_mask(counts.obs_names, 0.25, 1)
    training = GeneStatistics.of_all(normalised(counts)[~held_out].astype(np.float32))
    expected, _ = choose_genes(training, CONFIG, multiple_of=6)
    assert isinstance(cells.X, sparse.csr_matrix)
    assert cells.X.dtype == np.float32
    assert metadata.genes == tuple(cells.var_names) == tuple(counts.var_names[expected])
    assert len(metadata.genes) == 18
    np.testing.assert_allclose(cells.X.toarray(), normalised(counts)[:, expected], rtol=2e-6)
    assert list(cells.var["gene_ids"]) == [f"ENSG{j}" for j in expected]
    np.testing.assert_array_equal(cells.obs["library_size"], np.asarray(counts.X.sum(1)).ravel())
    assert list(cells.obs["split"].cat.categories) == ["train", "held_out"]
    np.testing.assert_array_equal(cells.obs["split"] == "held_out", held_out)
    assert (metadata.n_train, metadata.n_held_out) == (prepared.train.n_obs, prepared.held_out.n_obs)
    assert metadata.n_held_out == held_out.sum() > 0
    assert metadata.scaling == Scaling.fit(prepared.train.X, -10.0, True)
    assert metadata.cell_type_key == "cell_type"
    assert metadata.cell_types == counts.obs["cell_type"][~held_out].value_counts().sort_index().to_dict()
    assert (metadata.source, metadata.digest) == ("lung.h5ad", source_digest(check_cells(counts, "")))
    assert "raw counts recognised" in metadata.notes[0]
    assert metadata.notes[-1].startswith("2 lowest-ranked")


def test_the_input_is_not_changed(counts):
    before = counts.copy()
    prepare(counts, CONFIG, multiple_of=1, source="x")
    assert (before.X != counts.X).nnz == 0
    pd.testing.assert_frame_equal(before.obs, counts.obs)
    assert not counts.uns


def test_held_out_cells_decide_nothing(counts, prepared):
    changed = counts.copy()
    held_out = np.flatnonzero(held_out_mask(counts.obs_names, 0.25, 1))
    matrix = changed.X.toarray()
    matrix[held_out] = np.random.default_rng(9).poisson(50, size=(len(held_out), 45))
    changed.X = sparse.csr_matrix(matrix)
    other = prepare(changed, CONFIG, multiple_of=6, source="lung.h5ad").metadata
    assert (other.genes, other.scaling) == (prepared.metadata.genes, prepared.metadata.scaling)
    assert other.digest != prepared.metadata.digest


def test_dense_and_sparse_agree(counts, prepared):
    counts.X = counts.X.toarray().astype(np.float64)
    other = prepare(counts, CONFIG, multiple_of=6, source="lung.h5ad")
    assert other.metadata.genes == prepared.metadata.genes
    assert other.metadata.digest == prepared.metadata.digest
    np.testing.assert_allclose(other.cells.X.toarray(), prepared.cells.X.toarray(), rtol=1e-6)


def test_facts_round_trip(prepared):
    assert DatasetMetadata.from_dict(json.loads(json.dumps(prepared.metadata.to_dict()))) == prepared.metadata


def test_cell_types_are_selected(counts):
    config = DataConfig(genes=5, min_cells=1, cell_type_key="cell_type", cell_types=("alpha",))
    prepared = prepare(counts, config, multiple_of=1, source="lung")
    assert list(prepared.cells.obs["cell_type"].cat.categories) == ["alpha"]
    assert prepared.metadata.cell_types == {"alpha": prepared.metadata.n_train}
    assert "20 of 60 cells are alpha" in prepared.metadata.notes


def test_cell_types_that_are_not_there(counts):
    def refuse(error, **settings) -> str:
        with pytest.raises(error) as caught:
            prepare(counts, DataConfig(genes=5, min_cells=1, **settings), multiple_of=1, source="lung")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    counts.obs["patient"] = "p"
    message = refuse(BadInput, cell_type_key="celltype")
    assert message == (
        "lung has no column 'celltype' for cell types; obs has cell_type, patient: pass one as --cell-type-key"
    )
    message = refuse(UnknownCellType, cell_types=("alpha", "gamma"))
    assert message == "lung has no cell type 'gamma' in obs['cell_type']; there are alpha, beta"
    counts.obs.loc[counts.obs_names[:4], "cell_type"] = np.nan
    assert "obs['cell_type'] lacks the label of 4 of 60 cells" in refuse(BadInput, cell_type_key="cell_type")
    del counts.obs["cell_type"], counts.obs["patient"]
    assert "obs has no columns" in refuse(BadInput, cell_type_key="cell_type")


def test_cell_types_without_a_key_are_used_only_where_they_are_whole(counts):
    counts.obs.loc[counts.obs_names[:4], "cell_type"] = np.nan
    metadata = prepare(counts, CONFIG, multiple_of=1, source="lung").metadata
    assert (metadata.cell_type_key, metadata.cell_types) == (None, {})
    assert "obs['cell_type'] lacks 4 labels; cell types were not used" in metadata.notes
    counts.obs["cell_type"] = np.arange(60)
    assert prepare(counts, CONFIG, multiple_of=1, source="lung").metadata.cell_type_key is None


def test_columns_of_its_own_names_are_replaced_and_mixed_ones_made_words(counts, tmp_path):
    counts.obs["split"] = "mine"
    counts.obs["mixed"] = [1, "a", None] * 20
    prepared = prepare(counts, CONFIG, multiple_of=1, source="lung")
    assert set(prepared.cells.obs["split"]) == {"train", "held_out"}
    assert "the column 'split' of obs was replaced" in prepared.metadata.notes
    read = read_cells(write_prepared(prepared, tmp_path / "p.h5ad"))
    assert list(read.obs["mixed"][:2]) == ["1", "a"]


def test_too_few_cells(counts):
    with pytest.raises(BadInput, match=r"lung: 1 of its 1 cells fall to training .*at least 2"):
        prepare(counts[:1], DataConfig(genes=1, held_out=0.0), multiple_of=1, source="lung")


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_written_and_read_again(prepared, tmp_path, suffix):
    path = tmp_path / "new" / f"cells{suffix}"
    for _ in range(2):
        assert write_prepared(prepared, path) == path
        assert [child.name for child in path.parent.iterdir()] == [path.name]
    read = read_cells(path)
    assert is_prepared(read)
    again = prepared_from(read)
    assert again.metadata == prepared.metadata
    assert (again.cells.X != prepared.cells.X).nnz == 0
    pd.testing.assert_frame_equal(again.cells.obs, prepared.cells.obs)
    assert not is_prepared(prepared.cells)


def test_scanpy_written_copies_are_still_prepared(prepared, tmp_path):
    read = read_cells(write_prepared(prepared, tmp_path / "a.h5ad"))
    read.write_h5ad(tmp_path / "b.h5ad")
    assert prepared_from(read_cells(tmp_path / "b.h5ad")).metadata == prepared.metadata


def test_changed_prepared_cells_are_refused(prepared, tmp_path):
    read = read_cells(write_prepared(prepared, tmp_path / "a.h5ad"))
    for changed in (read[:10], read[:, :10]):
        with pytest.raises(BadInput, match=r"changed since: .* prepare them again"):
            prepared_from(changed.copy())
    read.uns[preparing.METADATA_KEY] = "{}"
    with pytest.raises(BadInput, match=r"cannot be understood .*prepare the cells again"):
        prepared_from(read)


def test_only_prepared_files_are_overwritten(prepared, counts, tmp_path):
    counts.write_h5ad(tmp_path / "mine.h5ad")
    (tmp_path / "words.h5ad").write_text("words")
    (tmp_path / "folder.zarr").mkdir()
    for name in ("mine.h5ad", "words.h5ad", "folder.zarr"):
        with pytest.raises(OutputExists, match=f"{name} is there already .* choose another --out"):
            write_prepared(prepared, tmp_path / name)
    assert read_cells(tmp_path / "mine.h5ad").shape == (60, 45)
    with pytest.raises(BadInput, match=r"written to .h5ad or .zarr"):
        write_prepared(prepared, tmp_path / "cells.csv")


def test_a_failed_write_leaves_nothing(prepared, tmp_path, monkeypatch):
    def full(self, data):
        self.write_text("half")
        raise OSError(28, "No space left on device")

    path = write_prepared(prepared, tmp_path / "cells.h5ad")
    before = path.read_bytes()
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DiskFull, match=r"cells\.h5ad"):
        write_prepared(prepared, path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_align_brings_raw_counts_to_the_models_genes_and_scale(counts, prepared):
    shuffled = counts[::-1, np.random.default_rng(0).permutation(45)].copy()
    aligned = align(shuffled, prepared.metadata, source="real.h5ad")
    assert tuple(aligned.var_names) == prepared.metadata.genes
    expected = prepared.cells[aligned.obs_names].X.toarray()
    np.testing.assert_allclose(aligned.X.toarray(), expected, rtol=1e-6)
    assert list(aligned.obs["library_size"]) == list(prepared.cells.obs["library_size"][::-1])
    assert "as in training" in notes_of(aligned)[-1]


def test_align_leaves_prepared_and_synthetic_cells_alone(prepared, tmp_path):
    read = read_cells(write_prepared(prepared, tmp_path / "p.h5ad"))
    synthetic = anndata.AnnData(prepared.cells.X, var=prepared.cells.var)[:, ::-1].copy()
    for cells in (read, synthetic):
        aligned = align(cells, prepared.metadata, source="cells")
        assert tuple(aligned.var_names) == prepared.metadata.genes
        assert isinstance(aligned.X, sparse.csr_matrix)
        assert (aligned.X != prepared.cells.X).nnz == 0
        assert not is_prepared(aligned)


def test_align_names_missing_genes_and_other_scales(counts, prepared, tmp_path):
    first = prepared.metadata.genes[0]
    with pytest.raises(GeneMismatch, match=rf"^real lacks 1 of the model's 18 genes \(first: '{first}'\); give cells"):
        align(counts[:, counts.var_names != first], prepared.metadata, source="real")
    other = prepare(counts, DataConfig(genes=45, min_cells=0, target_sum=10), multiple_of=1, source="x")
    read = read_cells(write_prepared(other, tmp_path / "p.h5ad"))
    with pytest.raises(BadInput, match=r"real was prepared with normalisation 'log1p' to 10, .* 'log1p' to 10000"):
        align(read, prepared.metadata, source="real")
