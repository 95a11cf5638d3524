"""Cells brought to a model's genes, scale and states, to train it further on them."""

from dataclasses import replace

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scrdit_jax.conditioning.variables import encode
from scrdit_jax.config import DataConfig
from scrdit_jax.data.adapting import adapt
from scrdit_jax.data.preparing import prepare
from scrdit_jax.data.sources import load_adapted
from scrdit_jax.errors import BadInput, GeneMismatch

CONFIG = DataConfig(
    genes=20, min_cells=3, held_out=0.3, condition_on=("cell_type", "donor"), clip=True, quantiles=4,
    derive={"pc-scores": 2, "detected-genes": 1},
)  # fmt: skip


@pytest.fixture(scope="module")
def base(labelled_cells):
    return prepare(labelled_cells, CONFIG, multiple_of=1, source="cells")


def adapted(cells, base, config=CONFIG):
    return adapt(cells, base.metadata, base.axes[:1], config, source="new")


@pytest.fixture
def new_cells(labelled_cells):
    """Other cells, with the genes in another order and one more, a new donor, and none of d2."""
    order = np.random.default_rng(3).permutation(labelled_cells.n_vars)
    cells = labelled_cells[:, order].copy()
    more = sparse.csr_matrix(np.full((cells.n_obs, 1), 3, np.float32))
    names = [f"new{i}" for i in range(cells.n_obs)]
    obs = pd.DataFrame({"cell_type": cells.obs["cell_type"].to_numpy()}, index=names)
    obs["donor"] = pd.Categorical(np.where(np.arange(len(obs)) % 3 == 0, "d3", "d1"))
    return anndata.AnnData(
        sparse.hstack([cells.X, more], format="csr"), obs=obs, var=pd.DataFrame(index=[*cells.var_names, "ANOTHER"])
    )


def test_the_same_cells_come_out_as_they_were_prepared_whatever_the_order_of_their_genes(base, labelled_cells):
    shuffled = labelled_cells[:, np.random.default_rng(0).permutation(40)].copy()
    again = adapted(shuffled, base)
    assert tuple(again.cells.var_names) == base.metadata.genes
    assert again.cells.X.has_sorted_indices
    np.testing.assert_array_equal(again.cells.X.toarray(), base.cells.X.toarray())
    assert again.metadata.scaling == base.metadata.scaling
    assert again.metadata.variables == base.metadata.variables
    for name in ("split", "library_size", *(column.name for column in base.metadata.state)):
        assert list(again.cells.obs[name]) == list(base.cells.obs[name]), name
    assert len(base.metadata.state) == 4


def test_other_cells_do_not_move_the_scale_or_the_axes_and_only_widen_the_ranges(base, labelled_cells):
    strong = labelled_cells.copy()
    gene = base.metadata.genes[0]
    column = strong.var_names.get_loc(gene)
    held_out = base.cells.obs["split"].to_numpy() == "held_out"
    dense = strong.X.toarray()
    dense[np.flatnonzero(~held_out)[0], column] = 5000
    dense[np.flatnonzero(held_out)[0]] = 0
    dense[np.flatnonzero(held_out)[0], strong.var_names.get_loc(base.metadata.genes[1])] = 1
    strong.X = sparse.csr_matrix(dense)
    new = adapted(strong, base)
    scaling, before = new.metadata.scaling, base.metadata.scaling
    assert replace(scaling, ranges=None) == replace(before, ranges=None)
    assert new.metadata.state == base.metadata.state
    assert scaling.ranges[0][1] == new.cells.X[:, 0].max() > before.ranges[0][1]
    # A held-out cell that is all of one gene decides nothing.
    assert new.cells.X[:, 1].max() > scaling.ranges[1][1]
    assert all(a[0] <= b[0] and b[1] <= a[1] for a, b in zip(scaling.ranges, before.ranges, strict=True))


def test_new_categories_come_after_the_models_own(base, new_cells):
    new = adapted(new_cells, base)
    types, donors = new.metadata.variables
    assert types.categories == base.metadata.variables[0].categories
    assert donors.categories == ("d2", "d1", "d3")
    assert donors.counts[0] == 0
    assert donors.counts[1:] == tuple(new.train.obs["donor"].value_counts()[["d1", "d3"]])
    codes = encode(new.train.obs, new.metadata.variables)
    assert set(codes[:, 1]) == {1, 2}
    assert "conditioned on donor: new is d3" in new.metadata.notes
    assert "d2 in 'donor': none of these cells; what the model knew of it is kept" in new.metadata.notes
    assert "20 genes are the model's, 21 others were left out" in new.metadata.notes


def test_a_category_needs_two_cells_unless_the_model_knows_it(base, new_cells):
    new_cells.obs["donor"] = ["d2"] + ["d1"] * 89
    assert adapted(new_cells, base).metadata.variables[1].categories == ("d2", "d1")
    new_cells.obs["donor"] = ["d4"] + ["d1"] * 89
    with pytest.raises(BadInput, match="'d4' in obs\\['donor'\\] has 1 cell"):
        adapted(new_cells, base)


def test_cells_on_a_disk_come_out_as_those_in_memory(base, new_cells, tmp_path):
    new_cells.write_h5ad(tmp_path / "new.h5ad")
    memory, disk = (
        load_adapted(tmp_path / "new.h5ad", base.metadata, base.axes[:1], CONFIG, stored=stored)
        for stored in (False, True)
    )
    assert disk.on_disk
    assert disk.metadata == memory.metadata
    block = disk.cells.X[:]
    assert block.has_sorted_indices
    np.testing.assert_array_equal(block.toarray(), memory.cells.X.toarray())
    np.testing.assert_array_equal(np.sort(block.indices[: block.indptr[1]]), block.indices[: block.indptr[1]])
    pd.testing.assert_frame_equal(disk.cells.obs, memory.cells.obs)


def test_what_does_not_fit_the_model_is_named(base, new_cells, labelled_cells):
    genes = base.metadata.genes
    few = new_cells[:, ~new_cells.var_names.isin(genes[3:6])].copy()
    with pytest.raises(GeneMismatch, match=rf"^new lacks 3 of the model's 20 genes \(first: '{genes[3]}'\); give"):
        adapted(few, base)
    logs = new_cells.copy()
    logs.X = logs.X.log1p()
    with pytest.raises(BadInput, match="trained on raw counts; give raw counts"):
        adapted(logs, base)
    known = labelled_cells.copy()
    known.X = known.X.log1p()
    of_logs = prepare(known, CONFIG, multiple_of=1, source="logs")
    with pytest.raises(BadInput, match="new holds raw counts, but the model was trained on log-scale values"):
        adapted(new_cells, of_logs)
    del new_cells.obs["donor"]
    with pytest.raises(BadInput, match="new has no column 'donor' to condition on"):
        adapted(new_cells, base)
