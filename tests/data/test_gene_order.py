import json

import anndata
import numpy as np
import pytest
from scipy import sparse

from scrdit_jax.config import DataConfig, GeneGroups
from scrdit_jax.data.adapting import align
from scrdit_jax.data.gene_order import coexpression_order
from scrdit_jax.data.metadata import DatasetMetadata
from scrdit_jax.data.preparing import prepare, prepared_from, write_prepared
from scrdit_jax.io.reading import read_cells

MODULES, SIZE = 6, 8


@pytest.fixture(scope="module")
def modules():
    """400 cells x 48 genes of counts: gene j belongs to module j % 6, whose genes go up and down together."""
    random = np.random.default_rng(5)
    activity = random.gamma(1.0, 1.0, size=(400, MODULES))
    means = 0.2 + 3 * activity[:, np.arange(MODULES * SIZE) % MODULES]
    return random.poisson(means).astype(np.float32)


def of_one_module(order, size=SIZE):
    groups = [order[i : i + size] % MODULES for i in range(0, len(order), size)]
    return [len(set(group)) == 1 for group in groups]


def test_genes_of_a_module_lie_together(modules):
    order = coexpression_order(sparse.csr_matrix(np.log1p(modules)), SIZE)
    assert sorted(order) == list(range(MODULES * SIZE))
    assert all(of_one_module(order))
    assert not any(of_one_module(np.arange(MODULES * SIZE)))
    expressing = (modules > 0).sum(axis=0)
    for i in range(0, len(order), SIZE):
        assert np.all(np.diff(expressing[order[i : i + SIZE]]) <= 0)
    shuffled = np.random.default_rng(0).permuted(np.log1p(modules), axis=0)
    assert sum(of_one_module(coexpression_order(sparse.csr_matrix(shuffled), SIZE))) < 2


def test_rare_genes_come_last_whatever_the_number(modules):
    random = np.random.default_rng(6)
    rare = random.poisson(0.02, size=(400, 11))
    cells = np.concatenate([rare, modules[:, :40]], axis=1)
    order = coexpression_order(sparse.csr_matrix(np.log1p(cells)), SIZE, rare=11, rare_group=4)
    assert set(order[-11:]) == set(range(11))
    assert sorted(order) == list(range(51))
    constant = np.ones((30, 5), np.float32)
    assert sorted(coexpression_order(sparse.csr_matrix(constant), 2)) == list(range(5))
    assert list(coexpression_order(sparse.csr_matrix(np.ones((1, 1))), 4)) == [0]


@pytest.fixture(scope="module")
def prepared(modules):
    cells = anndata.AnnData(sparse.csr_matrix(modules))
    cells.var_names = [f"G{j}" for j in range(MODULES * SIZE)]
    config = DataConfig(gene_selection="all", min_cells=1, gene_order="coexpression", derive={"pc-scores": 3})
    groups = GeneGroups(SIZE, 0.25, 6)
    return cells, config, prepare(cells, config, multiple_of=1, source="modules", groups=groups)


def test_prepared_cells_have_the_networks_order_and_remember_the_files(prepared):
    cells, config, found = prepared
    genes = found.metadata.genes
    assert genes != tuple(cells.var_names)
    assert tuple(found.cells.var_names) == genes
    assert found.metadata.genes_of_file == tuple(cells.var_names)
    assert tuple(cells.var_names[list(found.metadata.gene_order)]) == genes
    plain = prepare(cells, DataConfig(**{**vars(config), "gene_order": "file"}), multiple_of=1, source="modules")
    assert plain.metadata.gene_order == ()
    assert plain.metadata.genes_of_file == plain.metadata.genes == tuple(cells.var_names)
    np.testing.assert_array_equal(found.cells[:, list(cells.var_names)].X.toarray(), plain.cells.X.toarray())
    again = DatasetMetadata.from_dict(json.loads(json.dumps(found.metadata.to_dict())))
    assert again == found.metadata
    older = {name: value for name, value in plain.metadata.to_dict().items() if name != "gene_order"} | {"format": 3}
    assert DatasetMetadata.from_dict(older) == plain.metadata


def test_a_prepared_file_and_other_cells_come_in_the_networks_order(prepared, tmp_path):
    cells, _, found = prepared
    again = prepared_from(read_cells(write_prepared(found, tmp_path / "prepared.h5ad")))
    assert again.metadata == found.metadata
    np.testing.assert_array_equal(again.cells.X.toarray(), found.cells.X.toarray())
    aligned = align(cells[:7, ::-1].copy(), found.metadata, source="other")
    assert tuple(aligned.var_names) == found.metadata.genes
    np.testing.assert_allclose(aligned.X.toarray(), found.cells.X[:7].toarray(), rtol=1e-6)
