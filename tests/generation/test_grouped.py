"""Kinds and sizes that a model draws: against the network asked cell by cell, and against the training cells."""

import anndata
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse

import scrdit_jax as scrdit
from scrdit_jax.checkpoint import load_model
from scrdit_jax.conditioning.assignment import Assignment, Labels
from scrdit_jax.conditioning.request import CellRequest, resolve
from scrdit_jax.config import SamplingConfig
from scrdit_jax.data.preparing import write_prepared
from scrdit_jax.errors import BadConfig
from scrdit_jax.generation.counts import make_counting
from scrdit_jax.generation.engine import make_engine
from scrdit_jax.generation.program import network_of
from scrdit_jax.generation.settings import coefficients_for
from scrdit_jax.sampling.sampler import cell_keys, integrate


@pytest.fixture(scope="module")
def cells():
    """400 cells x 40 genes of counts in four kinds: two of either cell type."""
    random = np.random.default_rng(11)
    kind = random.choice(4, 400, p=[0.4, 0.3, 0.2, 0.1])
    counts = random.poisson((random.gamma(0.5, 6.0, size=(4, 40)) + 0.1)[kind] * (1 + kind[:, None]))
    adata = anndata.AnnData(sparse.csr_matrix(counts.astype(np.float32)))
    adata.obs["cell_type"] = np.array(["T cell", "B cell"])[kind % 2]
    return adata


@pytest.fixture(scope="module")
def runs(cells, tiny_config, tmp_path_factory):
    out, found = tmp_path_factory.mktemp("grouped"), {}
    for name, columns in (("plain", []), ("typed", ["cell_type"])):
        options = {"groups": 4, "components": 2, "clip": True, "condition_on": columns}
        options |= {"learning_rate": 0.02, "warmup_steps": 0}
        found[name] = scrdit.train(cells, out=out / name, preset=tiny_config, **options)
    return found


def test_cells_are_told_the_groups_that_were_drawn(runs):
    """Oracle: the whole network once a cell with its own codes; 2e-4 on the log scale."""
    model = load_model(runs["plain"])
    (network, prediction), params = network_of(model), jax.device_put(model.params)
    table = coefficients_for(model.config.diffusion, SamplingConfig(solver="dpmpp-2m", steps=6))
    engine = make_engine(model, SamplingConfig(solver="dpmpp-2m", steps=6, batch_size=8))
    own = jnp.asarray(engine.told.codes[engine.told.rows(0, 16)])
    assert own.shape == (16, 4) and len(np.unique(own, axis=0)) > 1

    def predict_clean(noisy, alpha_bar, timestep):
        return prediction.clean(noisy, network.apply(params, noisy, jnp.full(16, timestep), own), alpha_bar)

    keys = cell_keys(jax.random.key(0), jnp.arange(16))
    slow = jax.jit(lambda: integrate(predict_clean, keys, table, jnp.asarray(table.timestep), genes=24))()
    made = np.concatenate(list(engine.batches(16)))
    np.testing.assert_allclose(made, np.asarray(model.metadata.scaling.unscale(slow.cells)), atol=2e-4)
    assert engine.block(made, 0, 16).labels.shape == (16, 0)


@pytest.mark.parametrize("name", ["plain", "typed"])
def test_groups_are_drawn_as_the_training_cells_have_them(runs, name):
    model = load_model(runs[name])
    _, labels = resolve(CellRequest(cells=40_000), model)
    told = Assignment.of(Labels.of(labels, model.metadata.conditions), model, seed=5)
    drawn = told.codes[told.rows(0, 40_000)]
    for codes in np.unique(model.cells.labels, axis=0):
        there = (model.cells.labels == codes).all(axis=1).mean()
        assert abs((drawn == codes).all(axis=1).mean() - there) < 0.012  # four deviations of 40,000 draws
    known = {tuple(codes) for codes in model.cells.labels}
    assert {tuple(codes) for codes in drawn} == known


def test_a_cells_group_depends_on_its_index_and_the_seed_alone(runs):
    model = load_model(runs["plain"])
    told = Assignment.of(Labels.of((), ()), model, seed=5)
    np.testing.assert_array_equal(told.rows(37, 100), told.rows(0, 500)[37:137])
    other = Assignment.of(Labels.of((), ()), model, seed=6)
    assert (other.rows(0, 500) != told.rows(0, 500)).mean() > 0.3
    few, many = (scrdit.sample(runs["plain"], n, steps=3, batch_size=8) for n in (11, 30))
    np.testing.assert_array_equal(many.X[:11].toarray(), few.X.toarray())


def test_a_label_that_no_training_cell_has_with_the_others_has_its_types_groups(runs):
    model = load_model(runs["typed"])
    labels, groups = model.cells.labels[:, 0], model.cells.labels[:, 1:]
    for name in ("T cell", "B cell"):
        code = model.metadata.conditions[0].code(name)
        told = Assignment.of(Labels.of((((name,), 5),), model.metadata.conditions), model, seed=0)
        assert told.codes[:, 1:].tolist() == np.unique(groups[labels == code], axis=0).tolist()
        np.testing.assert_allclose(told.shares.sum(), 1)


def test_quotas_files_and_counts_of_a_model_with_groups(runs, tmp_path):
    options = {"per_type": {"T cell": 6, "B cell": 3}, "steps": 3, "output": "counts", "batch_size": 4}
    memory = scrdit.sample(runs["typed"], **options)
    file = anndata.read_h5ad(scrdit.sample(runs["typed"], **options, out=tmp_path / "cells.h5ad"))
    assert memory.obs["cell_type"].value_counts().to_dict() == {"T cell": 6, "B cell": 3}
    assert not [column for column in memory.obs if column.startswith("scrdit_")]
    np.testing.assert_array_equal(file.X.toarray(), memory.X.toarray())
    with pytest.raises(BadConfig, match="without labels"):
        scrdit.sample(runs["plain"], cell_types=["T cell"], cells=4, steps=3)
    with pytest.raises(BadConfig, match="without labels"):
        scrdit.sample(runs["plain"], 4, steps=3, guidance=2.0)


def test_library_sizes_are_those_of_the_type_kind_and_size(runs):
    model = load_model(runs["typed"])
    _, labels = resolve(CellRequest(cells=20), model)
    told = Assignment.of(Labels.of(labels, model.metadata.conditions), model, 0)
    counting = make_counting(model, SamplingConfig(output="counts"), told)
    for codes, pool in zip(told.codes, counting.pools, strict=True):
        same = (model.cells.labels[:, :3] == codes[:3]).all(axis=1)
        np.testing.assert_array_equal(pool, np.sort(model.cells.library_size[same]))


def test_a_family_has_no_groups(cells, tiny_config, tmp_path):
    run = scrdit.train(cells, out=tmp_path / "family", preset=tiny_config, groups=4, per_cell_type=True)
    made = scrdit.sample(run, 8, steps=3, batch_size=8)
    assert made.n_obs == 8 and load_model(run.path / "B_cell").metadata.groups == ()


def test_prepared_cells_keep_their_kinds_and_sizes(cells, runs, tiny_config, tmp_path):
    found = {"groups": 4, "components": 2, "clip": True}
    options = {**found, "learning_rate": 0.02, "warmup_steps": 0}
    for stream in (False, True):
        cells.write_h5ad(tmp_path / "cells.h5ad")
        made = scrdit.prepare(tmp_path / "cells.h5ad", preset=tiny_config, **found)
        write_prepared(made, tmp_path / "prepared.h5ad")
        run = scrdit.train(
            tmp_path / "prepared.h5ad", out=tmp_path / f"run{stream}", preset=tiny_config, stream=stream, **options
        )
        model, direct = load_model(run), load_model(runs["plain"])
        assert model.metadata.groups == direct.metadata.groups == made.metadata.groups
        for leaf, other in zip(jax.tree.leaves(model.params), jax.tree.leaves(direct.params), strict=True):
            np.testing.assert_array_equal(leaf, other)


def test_schedules_are_fitted_with_the_training_cells_kinds(runs):
    assert len(scrdit.fit_schedule(runs["plain"], 4)) == 4
