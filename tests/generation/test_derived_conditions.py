"""Derived conditions that a model draws: against the network asked cell by cell, and against the training cells."""

import anndata
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse

import scrdit_jax as scrdit
from scrdit_jax.checkpoint import load_model
from scrdit_jax.conditioning.assignment import Assignment
from scrdit_jax.conditioning.request import CellRequest, Quotas, resolve
from scrdit_jax.config import SamplingConfig
from scrdit_jax.data.preparing import write_prepared
from scrdit_jax.errors import BadConfig
from scrdit_jax.generation.composition import dense_batches
from scrdit_jax.generation.counts import make_count_sampler
from scrdit_jax.generation.engine import make_engine
from scrdit_jax.generation.program import network_of
from scrdit_jax.generation.settings import coefficients_for
from scrdit_jax.sampling.sampler import cell_keys, integrate

DERIVE = {"clusters": 4, "detected-genes": 8, "pc-scores": 2}


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
        options = {"derive": DERIVE, "clip": True, "condition_on": columns}
        options |= {"learning_rate": 0.02, "warmup_steps": 0}
        found[name] = scrdit.train(cells, out=out / name, preset=tiny_config, **options)
    return found


def test_cells_have_the_conditions_that_were_drawn(runs):
    """Oracle: the whole network once a cell with its own codes; 2e-4 on the log scale."""
    model = load_model(runs["plain"])
    (network, prediction), params = network_of(model), jax.device_put(model.params)
    table = coefficients_for(model.config.diffusion, SamplingConfig(solver="dpmpp-2m", steps=6))
    engine = make_engine(model, SamplingConfig(solver="dpmpp-2m", steps=6, batch_size=8))
    own = jnp.asarray(engine.assignment.codes[engine.assignment.rows(0, 16)])
    assert own.shape == (16, 4)
    assert len(np.unique(own, axis=0)) > 1

    def predict_clean(noisy, alpha_bar, timestep):
        return prediction.clean(noisy, network.apply(params, noisy, jnp.full(16, timestep), own), alpha_bar)

    keys = cell_keys(jax.random.key(0), jnp.arange(16))
    slow = jax.jit(lambda: integrate(predict_clean, keys, table, jnp.asarray(table.timestep), genes=24))()
    made = np.concatenate(list(dense_batches(engine, 16)))
    np.testing.assert_allclose(made, np.asarray(model.metadata.scaling.unscale(slow.cells)), atol=2e-4)
    assert engine.assignment.observed[engine.assignment.rows(0, 16)].shape == (16, 0)


@pytest.mark.parametrize("name", ["plain", "typed"])
def test_derived_conditions_are_drawn_as_the_training_cells_have_them(runs, name):
    model = load_model(runs[name])
    quotas = resolve(CellRequest(cells=40_000), model.conditions)
    assignment = Assignment.of(quotas, model.conditions, seed=5)
    drawn = assignment.codes[assignment.rows(0, 40_000)]
    for codes in np.unique(model.conditions.codes, axis=0):
        there = (model.conditions.codes == codes).all(axis=1).mean()
        assert abs((drawn == codes).all(axis=1).mean() - there) < 0.012  # four deviations of 40,000 draws
    known = {tuple(codes) for codes in model.conditions.codes}
    assert {tuple(codes) for codes in drawn} == known


def test_a_cells_conditions_depend_on_its_index_and_the_seed_alone(runs):
    model = load_model(runs["plain"])
    assignment = Assignment.of(Quotas.unlabelled(500), model.conditions, seed=5)
    np.testing.assert_array_equal(assignment.rows(37, 100), assignment.rows(0, 500)[37:137])
    other = Assignment.of(Quotas.unlabelled(500), model.conditions, seed=6)
    assert (other.rows(0, 500) != assignment.rows(0, 500)).mean() > 0.3
    few, many = (scrdit.sample(runs["plain"], n, steps=3, batch_size=8) for n in (11, 30))
    np.testing.assert_array_equal(many.X[:11].toarray(), few.X.toarray())


def test_a_label_that_no_training_cell_has_with_the_others_has_its_types_conditions(runs):
    model = load_model(runs["typed"])
    labels, groups = model.conditions.codes[:, 0], model.conditions.codes[:, 1:]
    for name in ("T cell", "B cell"):
        code = model.metadata.observed[0].code(name)
        assignment = Assignment.of(Quotas.of([((code,), 5)]), model.conditions, seed=0)
        assert assignment.codes[:, 1:].tolist() == np.unique(groups[labels == code], axis=0).tolist()
        np.testing.assert_allclose(assignment.shares.sum(), 1)


def test_quotas_files_and_counts_of_a_model_with_derived_conditions(runs, tmp_path):
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


def test_library_sizes_are_those_of_the_type_cluster_and_bin(runs):
    model = load_model(runs["typed"])
    assignment = Assignment.of(resolve(CellRequest(cells=20), model.conditions), model.conditions, 0)
    counts = make_count_sampler(model, SamplingConfig(output="counts"), assignment)
    for codes, pool in zip(assignment.codes, counts.pools, strict=True):
        same = (model.conditions.codes[:, :3] == codes[:3]).all(axis=1)
        np.testing.assert_array_equal(pool, np.sort(model.conditions.library_size[same]))


def test_a_family_derives_nothing(cells, tiny_config, tmp_path):
    run = scrdit.train(cells, out=tmp_path / "family", preset=tiny_config, derive=DERIVE, per_cell_type=True)
    made = scrdit.sample(run, 8, steps=3, batch_size=8)
    assert made.n_obs == 8
    assert load_model(run.path / "B_cell").metadata.variables == ()


def test_prepared_cells_keep_their_derived_variables(cells, runs, tiny_config, tmp_path):
    found = {"derive": DERIVE, "clip": True}
    options = {**found, "learning_rate": 0.02, "warmup_steps": 0}
    for stream in (False, True):
        cells.write_h5ad(tmp_path / "cells.h5ad")
        made = scrdit.prepare(tmp_path / "cells.h5ad", preset=tiny_config, **found)
        write_prepared(made, tmp_path / "prepared.h5ad")
        run = scrdit.train(
            tmp_path / "prepared.h5ad", out=tmp_path / f"run{stream}", preset=tiny_config, stream=stream, **options
        )
        model, direct = load_model(run), load_model(runs["plain"])
        assert model.metadata.variables == direct.metadata.variables == made.metadata.variables
        for leaf, other in zip(jax.tree.leaves(model.params), jax.tree.leaves(direct.params), strict=True):
            np.testing.assert_array_equal(leaf, other)


def test_schedules_are_fitted_with_the_training_cells_conditions(runs):
    assert len(scrdit.fit_schedule(runs["plain"], 4)) == 4
