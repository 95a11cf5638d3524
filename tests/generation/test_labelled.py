"""Sampling by label, guided and not: against the network asked cell by cell, in memory and in shards."""

import anndata
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scrdit_jax as scrdit
from scrdit_jax.checkpoint import load_model
from scrdit_jax.conditioning.request import Quotas
from scrdit_jax.config import SamplingConfig
from scrdit_jax.errors import BadConfig
from scrdit_jax.generation import program
from scrdit_jax.generation.composition import dense_batches
from scrdit_jax.generation.engine import make_engine
from scrdit_jax.generation.program import network_of
from scrdit_jax.generation.settings import coefficients_for
from scrdit_jax.generation.store import Store
from scrdit_jax.sampling.sampler import cell_keys, integrate

RUNS = ((("T cell", "d1"), 5), (("B cell", "d1"), 3), (("T cell", "d2"), 8))
CODES = [[0, 1]] * 5 + [[1, 1]] * 3 + [[0, 0]] * 8


@pytest.fixture(scope="module")
def model(labelled_run):
    found = load_model(labelled_run)
    assert [v.categories for v in found.metadata.variables] == [("B cell", "T cell"), ("d2", "d1")]
    return found


def quotas_of(model, runs):
    named = [{"labels": names, "cells": count} for names, count in runs]
    return Quotas.from_named(named, model.metadata.variables)


def codes(model):
    quotas = quotas_of(model, RUNS)
    return np.repeat(quotas.codes, quotas.counts, axis=0)


def cells_of(model, labels=RUNS, cells=16, **options):
    config = SamplingConfig(**{"solver": "dpmpp-2m", "steps": 6, "batch_size": 8} | options)
    return np.concatenate(list(dense_batches(make_engine(model, config, quotas_of(model, labels)), cells)))


@pytest.mark.parametrize("guidance", [0.0, 1.0, 2.5])
def test_conditions_by_the_step_equal_those_of_every_cell(model, guidance):
    """Oracle: the whole network once a cell with its own label, guided by the formula; 2e-4 on the log scale."""
    (network, prediction), params = network_of(model), jax.device_put(model.params)
    table = coefficients_for(model.config.diffusion, SamplingConfig(solver="dpmpp-2m", steps=6))
    own, none = jnp.asarray(codes(model), jnp.int32), jnp.full((16, 2), -1, jnp.int32)

    def predict_clean(noisy, alpha_bar, timestep):
        def clean(labels):
            predicted = network.apply(params, noisy, jnp.full(16, timestep), labels)
            return prediction.clean(noisy, predicted, alpha_bar)

        return (1 - guidance) * clean(none) + guidance * clean(own)

    keys = cell_keys(jax.random.key(0), jnp.arange(16))
    slow = jax.jit(lambda: integrate(predict_clean, keys, table, jnp.asarray(table.timestep), genes=24))()
    expected = np.asarray(model.metadata.scaling.unscale(slow.cells))
    np.testing.assert_allclose(cells_of(model, guidance=guidance), expected, atol=2e-4)


def test_labels_and_guidance_change_the_cells(model):
    plain = cells_of(model)
    assert not np.allclose(plain, cells_of(model, labels=((("T cell", "d1"), 16),)), atol=1e-3)
    assert not np.allclose(plain, cells_of(model, guidance=2.0), atol=1e-3)
    other = cells_of(model, labels=((("T cell", "d1"), 16),))
    np.testing.assert_allclose(plain[:5], other[:5], atol=1e-5)


def test_a_cell_does_not_depend_on_batches_or_devices(model):
    whole = cells_of(model, batch_size=16)
    np.testing.assert_allclose(cells_of(model, batch_size=4), whole, rtol=1e-5, atol=1e-5)
    config = SamplingConfig(solver="dpmpp-2m", steps=6, batch_size=8)
    one = make_engine(model, config, quotas_of(model, RUNS), devices=jax.local_devices()[:1])
    np.testing.assert_allclose(np.concatenate(list(dense_batches(one, 16))), whole, rtol=1e-5, atol=1e-5)


def test_only_guidance_pays_for_a_second_evaluation(model, labelled_run):
    def flops(guidance, labels=RUNS[:1]):
        engine = make_engine(model, SamplingConfig(steps=6, batch_size=8, guidance=guidance), quotas_of(model, labels))
        return engine.program.compiled.cost_analysis()["flops"]

    # Conditions cost each cell its modulations: of a network of seven tokens, that is much.
    assert 1 <= flops(1.0) / flops(0.0) < 1.2
    assert 1.7 < flops(2.0) / flops(1.0) < 2.3
    made = [scrdit.sample(labelled_run, 4, steps=3, guidance=w, batch_size=4).uns["scrdit"] for w in (1.0, 2.0)]
    assert [record["network_evaluations"] for record in made] == [3, 6]


def test_other_quotas_of_as_many_labels_do_not_compile_again(model):
    make_engine(model, SamplingConfig(steps=6, batch_size=8), quotas_of(model, RUNS))
    before = program.compiled.cache_info().misses
    make_engine(model, SamplingConfig(steps=6, batch_size=8), quotas_of(model, (*RUNS[::-1], (("B cell", "d2"), 4))))
    assert program.compiled.cache_info().misses == before


def test_guidance_needs_labels(tiny_run):
    with pytest.raises(BadConfig, match="trained without labels, so nothing can be guided; leave --guidance out"):
        scrdit.sample(tiny_run, 4, steps=3, guidance=2.0)


def test_labels_and_counts_leave_in_the_input_s_names(labelled_run, labelled_cells):
    quotas = {"B cell": 3, "T cell": 6}
    cells = scrdit.sample(labelled_run, per_type=quotas, steps=3, output="counts", batch_size=4)
    assert cells.obs["cell_type"].value_counts().to_dict() == quotas
    for column in ("cell_type", "donor"):
        assert list(cells.obs[column].cat.categories) == list(labelled_cells.obs[column].cat.categories)
    assert set(cells.obs.loc[cells.obs["cell_type"] == "B cell", "donor"]) == {"d1"}
    counts = cells.layers["counts"]
    assert counts.dtype == np.int32
    assert counts.min() >= 0
    np.testing.assert_array_equal(cells.obs["total_counts"], np.asarray(counts.sum(axis=1)).ravel())


@pytest.mark.parametrize("name", ["cells.h5ad", "cells.zarr"])
def test_files_hold_what_memory_holds(name, labelled_run, tmp_path):
    options = {"steps": 3, "output": "counts", "batch_size": 4}
    mixture = {"cells": 21, "cell_types": ["T cell", "B cell"]}
    expected = scrdit.sample(labelled_run, **mixture, **options)
    path = scrdit.sample(labelled_run, **mixture, **options, out=tmp_path / name)
    found = anndata.read_h5ad(path) if name.endswith("h5ad") else anndata.read_zarr(path)
    assert list(found.obs.columns) == list(expected.obs.columns)
    for column in expected.obs:
        np.testing.assert_array_equal(found.obs[column], expected.obs[column])
    np.testing.assert_array_equal(found.X.toarray(), expected.X.toarray())
    np.testing.assert_array_equal(found.layers["counts"].toarray(), expected.layers["counts"].toarray())
    assert found.obs["cell_type"].value_counts().to_dict() == {"T cell": 11, "B cell": 10}


def test_shards_are_continued_verified_repaired_and_assembled_with_their_labels(labelled_run, tmp_path):
    options = {"steps": 3, "output": "counts", "batch_size": 4, "shard_cells": 8, "match": None}
    quotas = {"T cell": 13, "B cell": 8}
    folder = tmp_path / "atlas"
    scrdit.generate(labelled_run, per_type=quotas, out=folder, **options)
    digest = scrdit.verify(folder).digest
    with Store(folder) as store:
        middle = store.shard_path(store.plan.shard(1))
    shard = anndata.read_h5ad(middle)
    assert list(shard.obs["cell_type"]) == ["T cell"] * 5 + ["B cell"] * 3
    middle.write_bytes(middle.read_bytes()[:-1] + b"x")
    assert len(scrdit.verify(folder).problems) == 1
    repaired = scrdit.verify(folder, repair=labelled_run)
    assert repaired.digest == digest
    assert not repaired.notes
    middle.unlink()
    scrdit.generate(labelled_run, per_type=quotas, out=folder, **options)
    assert scrdit.verify(folder).digest == digest
    whole = anndata.read_h5ad(scrdit.assemble(folder, out=tmp_path / "whole.h5ad"))
    assert whole.obs["cell_type"].value_counts().to_dict() == quotas
    assert whole.layers["counts"].dtype == np.int32


def test_the_digest_sees_a_label_and_a_count(labelled_run, tmp_path):
    digests = set()
    for number, (quotas, output) in enumerate(
        [({"T cell": 3}, "log"), ({"T cell": 3}, "counts"), ({"T cell": 2, "B cell": 1}, "log")]
    ):
        out = tmp_path / str(number)
        scrdit.generate(labelled_run, per_type=quotas, out=out, steps=3, output=output, batch_size=4, guidance=0.0)
        digests.add(scrdit.verify(out).digest)
    # With guidance 0 the cells themselves are the same three times.
    assert len(digests) == 3


def test_another_mixture_is_another_request(labelled_run, tmp_path):
    scrdit.sample(labelled_run, per_type={"T cell": 3}, steps=3, batch_size=4, out=tmp_path / "a.h5ad")
    with pytest.raises(scrdit.errors.OutputExists, match="holds the cells of another request"):
        scrdit.sample(labelled_run, per_type={"B cell": 3}, steps=3, batch_size=4, out=tmp_path / "a.h5ad")
