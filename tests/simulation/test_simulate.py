"""Simulated cells: those of `sample` but for what is planted, the same whatever the batch; the truth beside them."""

from types import SimpleNamespace

import anndata
import numpy as np
import pytest

import scrdit_jax as scrdit
from scrdit_jax.config import SimulationConfig
from scrdit_jax.data.scaling import Scaling
from scrdit_jax.diffusion.predictions import make_prediction
from scrdit_jax.errors import BadConfig, BadInput, OutputExists, UnknownCellType
from scrdit_jax.generation.moments import expression_moments
from scrdit_jax.simulation.droplets import Droplets

DE = {"de_share": 0.5, "log2_fold_change": (1, 3)}


@pytest.fixture(scope="module")
def plain(labelled_run):
    return scrdit.sample(labelled_run, 60, output="counts", seed=3)


def counts(cells, layer="counts"):
    return cells.layers[layer].toarray()


def test_without_effects_cells_are_those_of_sample(labelled_run, plain):
    cells = scrdit.simulate(labelled_run, 60, seed=3)
    np.testing.assert_array_equal(counts(cells), counts(plain))
    np.testing.assert_array_equal(cells.obs.to_numpy(), plain.obs.to_numpy())


def test_only_genes_with_an_effect_change_and_only_where_they_have_it(labelled_run, plain):
    cells = scrdit.simulate(labelled_run, 60, seed=3, **DE)
    before, after = counts(plain), counts(cells)
    treated = (cells.obs["group"] == "group_2").to_numpy()
    changes = cells.var["log2_fold_change"].to_numpy()
    assert treated.sum() == 30
    assert cells.var["is_de"].sum() == cells.n_vars // 2
    np.testing.assert_array_equal(cells.varm["log2_fold_change"]["group_2"], changes)
    np.testing.assert_array_equal(after[~treated], before[~treated])
    np.testing.assert_array_equal(after[:, changes == 0], before[:, changes == 0])
    assert np.all(after[:, changes > 0] >= before[:, changes > 0])
    assert np.all(after[:, changes < 0] <= before[:, changes < 0])
    raised = treated[:, None] & (changes > 0)[None]
    assert np.any((before == 0) & (after > 0) & raised)
    assert 1.5 < after[raised].sum() / before[raised].sum() < 8
    np.testing.assert_array_equal(cells.obs["total_counts"], after.sum(axis=1))


def test_values_are_log1p_of_counts_over_the_library_size(labelled_run):
    cells = scrdit.simulate(labelled_run, 40, depth_factor=3.0, **DE)
    target = 1e4 / cells.obs["library_size"].to_numpy(np.float64)
    np.testing.assert_allclose(cells.X.toarray(), np.log1p(counts(cells) * target[:, None]), rtol=1e-5)


@pytest.mark.parametrize("batch_size", [6, 34])
def test_cells_are_the_same_whatever_the_batch_size(labelled_run, batch_size):
    wanted = {**DE, "batches": 2, "batch_strength": 0.5, "doublets": 0.2, "ambient": 0.1, "seed": 5}
    one = scrdit.simulate(labelled_run, 60, batch_size=16, **wanted)
    other = scrdit.simulate(labelled_run, 60, batch_size=batch_size, **wanted)
    np.testing.assert_array_equal(counts(one), counts(other))
    assert one.obs.equals(other.obs)
    again = scrdit.simulate(labelled_run, 60, batch_size=16, **wanted)
    assert one.uns["simulation"]["record"] == again.uns["simulation"]["record"]
    np.testing.assert_array_equal(counts(one), counts(again))


def test_another_seed_of_effects_plants_other_genes_in_the_same_cells(labelled_run, plain):
    cells = scrdit.simulate(labelled_run, 60, seed=3, effects_seed=9, **DE)
    first = scrdit.simulate(labelled_run, 60, seed=3, **DE)
    assert not np.array_equal(cells.var["is_de"], first.var["is_de"])
    reference = (cells.obs["group"] == "group_1").to_numpy()
    np.testing.assert_array_equal(counts(cells)[reference], counts(plain)[reference])


def test_a_categorys_genes_differ_in_its_cells_alone(labelled_run, plain):
    cells = scrdit.simulate(labelled_run, 60, seed=3, de_by="cell_type", **DE)
    assert "group" not in cells.obs
    changes = cells.varm["log2_fold_change"]
    assert list(changes) == list(plain.obs["cell_type"].cat.categories)
    for name in changes:
        own = (cells.obs["cell_type"] == name).to_numpy()
        genes = changes[name].to_numpy() == 0
        np.testing.assert_array_equal(counts(cells)[own][:, genes], counts(plain)[own][:, genes])
        assert np.any(counts(cells)[own] != counts(plain)[own])


def test_effects_in_one_cell_type_alone(labelled_run, plain):
    cells = scrdit.simulate(labelled_run, 60, seed=3, de_cell_types=["B cell"], **DE)
    changed = np.any(counts(cells) != counts(plain), axis=1)
    affected = ((cells.obs["cell_type"] == "B cell") & (cells.obs["group"] == "group_2")).to_numpy()
    assert changed.any()
    assert not np.any(changed & ~affected)


def test_batches_have_their_own_factors_and_depths(labelled_run, plain):
    cells = scrdit.simulate(labelled_run, 60, seed=3, batches=3, batch_strength=1.0, batch_depth=1.0)
    assert set(cells.obs["batch"].value_counts()) == {20}
    assert cells.varm["log2_batch_factor"].shape == (cells.n_vars, 3)
    deeper = cells.uns["simulation"]["batch_depth_factor"]
    for number, name in enumerate(cells.obs["batch"].cat.categories):
        own = (cells.obs["batch"] == name).to_numpy()
        factor = deeper[number] * 2 ** cells.varm["log2_batch_factor"][name].to_numpy()
        wanted = (counts(plain)[own] * factor[None]).sum()
        assert abs(counts(cells)[own].sum() / wanted - 1) < 0.25


def test_depth_is_every_cells_library_size(labelled_run):
    cells = scrdit.simulate(labelled_run, 40, depth=300.0)
    # What is counted varies about it.
    assert abs(cells.obs["library_size"].mean() / 300 - 1) < 0.1
    assert cells.obs["library_size"].std() < 60


def test_doublets_are_the_sum_of_two_cells_of_the_model(labelled_run, plain):
    cells = scrdit.simulate(labelled_run, 60, seed=3, doublets=0.3)
    double = cells.obs["is_doublet"].to_numpy()
    assert 6 < double.sum() < 30
    np.testing.assert_array_equal(counts(cells)[~double], counts(plain)[~double])
    assert cells.obs["partner_cell_type"].notna().to_numpy().tolist() == double.tolist()
    second = counts(cells)[double] - counts(plain)[double]
    assert np.all(second >= 0)
    assert np.all(second.sum(axis=1) > 0)
    library = cells.obs["library_size"].to_numpy() - plain.obs["library_size"].to_numpy()
    assert np.all((library > 0) == double)


def test_ambient_counts_are_counted_and_what_is_there_without_them_kept(labelled_run, plain):
    cells = scrdit.simulate(labelled_run, 60, seed=3, ambient=0.3)
    np.testing.assert_array_equal(counts(cells, "native_counts"), counts(plain))
    share = cells.obs["ambient_fraction"].to_numpy()
    assert abs(share.mean() - 0.3) < 0.05
    assert abs(counts(cells).sum() / counts(plain).sum() - 1) < 0.1


def test_proportions_of_cell_types(labelled_run):
    cells = scrdit.simulate(labelled_run, 40, proportions={"B cell": 3, "T cell": 1})
    assert cells.obs["cell_type"].value_counts().to_dict() == {"B cell": 30, "T cell": 10}


def test_open_problems_schema(labelled_run, tmp_path):
    path = scrdit.simulate(labelled_run, 20, schema="open-problems", out=tmp_path / "cells.h5ad", **DE)
    cells = anndata.read_h5ad(path)
    assert cells.X is None
    assert set(cells.layers) == {"counts", "normalized"}
    assert cells.var["feature_name"].tolist() == cells.var_names.tolist()
    assert cells.uns["method_id"] == "scrdit_jax"
    assert cells.uns["normalization_id"] == "log_cp10k"
    assert cells.uns["dataset_id"].startswith("scrdit_jax/")
    assert {"is_de", "log2_fold_change"} <= set(cells.var)


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_a_file_holds_the_truth_and_is_not_made_twice(labelled_run, tmp_path, suffix):
    path = tmp_path / f"cells{suffix}"
    wanted = {**DE, "batches": 2, "batch_strength": 0.3, "ambient": 0.1, "doublets": 0.2}
    scrdit.simulate(labelled_run, 30, out=path, **wanted)
    read = anndata.read_h5ad if suffix == ".h5ad" else anndata.read_zarr
    there, made = read(path), scrdit.simulate(labelled_run, 30, **wanted)
    np.testing.assert_array_equal(counts(there), counts(made))
    assert there.varm["log2_fold_change"].equals(made.varm["log2_fold_change"])
    assert there.uns["simulation"]["record"] == made.uns["simulation"]["record"]
    changed = path.stat().st_mtime_ns
    assert scrdit.simulate(labelled_run, 30, out=path, **wanted) == path
    assert path.stat().st_mtime_ns == changed
    with pytest.raises(OutputExists, match="another simulation"):
        scrdit.simulate(labelled_run, 30, out=path, **{**wanted, "ambient": 0.2})
    (tmp_path / f"other{suffix}").write_text("mine")
    with pytest.raises(OutputExists, match="something else"):
        scrdit.simulate(labelled_run, 30, out=tmp_path / f"other{suffix}")


def test_droplets_do_not_depend_on_how_many_there_are():
    config = SimulationConfig(groups=2, batches=3, doublets=0.1)
    many, few = Droplets.draw(config, 1000, 4), Droplets.draw(config, 601, 4)
    np.testing.assert_array_equal(many.group[:601], few.group)
    np.testing.assert_array_equal(many.batch[:601], few.batch)
    np.testing.assert_array_equal(many.is_doublet[:601], few.is_doublet)
    assert set(np.unique(many.group * 3 + many.batch, return_counts=True)[1]) <= {166, 167}
    partners = np.arange(1000, 1000 + len(many.hosts))
    np.testing.assert_array_equal(many.of_cells(partners), many.hosts)
    np.testing.assert_array_equal(many.of_cells(np.arange(5)), np.arange(5))


def test_a_model_that_predicts_no_distribution_can_only_be_lowered():
    point = SimpleNamespace(sampled=SimpleNamespace(prediction=make_prediction("v", Scaling(None, 0.0, 1.0))))
    with pytest.raises(BadConfig, match="not how each gene is distributed"):
        expression_moments(SimpleNamespace(program=point), 0)
    assert SimulationConfig(**DE).raises
    assert not SimulationConfig(up_share=0.0, depth_factor=0.5, ambient=0.1, doublets=0.1, **DE).raises


@pytest.mark.parametrize(
    ("wrong", "error", "text"),
    [
        ({"de_by": "tissue", **DE}, BadConfig, "not conditioned on"),
        ({"de_cell_types": ["NK"], **DE}, UnknownCellType, "NK"),
        ({"de_cell_types": ["B cell"]}, BadConfig, "no share of genes"),
        ({"groups": 1, **DE}, BadConfig, "2 groups"),
        ({"groups": 3, "de_by": "cell_type", **DE}, BadConfig, "leave one of them out"),
        ({"batch_strength": 1.0}, BadConfig, "--batches 2"),
        ({"log2_fold_change": (2, 1)}, BadConfig, "least before"),
        ({"schema": "loom"}, BadConfig, "one of"),
        ({"output": "log"}, BadConfig, "no option"),
        ({"proportions": {"B cell": 1}, "per_type": {"B cell": 3}}, BadConfig, "give one of them"),
        ({"out": "cells.csv"}, BadInput, "h5ad"),
    ],
)
def test_what_contradicts_itself_is_refused(labelled_run, wrong, error, text):
    with pytest.raises(error, match=text):
        scrdit.simulate(labelled_run, 8, **wrong)


def test_the_command(scrdit, labelled_run):
    status, said = scrdit(
        "simulate", labelled_run.path, "--cells", 20, "--de-share", 0.25, "--log2-fold-change", "0.5,2", "--proportion",
        "B cell=1", "--batches", 2, "--batch-strength", 0.2, "--out", "cells.h5ad",
    )  # fmt: skip
    assert (status, said.splitlines()[-1]) == (0, "written to cells.h5ad")
    assert anndata.read_h5ad("cells.h5ad").obs["cell_type"].eq("B cell").all()
    for words, text in (
        (("--log2-fold-change", "x"), "says no number"),
        (("--proportion", "B cell"), "says no share"),
        (("--proportion", "B cell=1", "--proportion", "B cell=2"), "twice"),
        (("--de-share", 2), "at most 1"),
    ):
        status, said = scrdit("simulate", labelled_run.path, "--cells", 20, *words, "--out", "other.h5ad")
        assert status == 2
        assert text in said
