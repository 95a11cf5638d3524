"""Several columns of conditions: any subset, unseen combinations, guidance by column; in memory, files and shards."""

import json

import anndata
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scrdit_jax as package
from scrdit_jax.checkpoint import load_model
from scrdit_jax.conditioning.prior import Mixture
from scrdit_jax.conditioning.request import Quotas
from scrdit_jax.config import SamplingConfig
from scrdit_jax.errors import BadConfig
from scrdit_jax.generation import program
from scrdit_jax.generation.composition import dense_batches
from scrdit_jax.generation.conditions import NewConditions, States, draw_conditions, new_conditions
from scrdit_jax.generation.engine import make_engine
from scrdit_jax.generation.program import network_of
from scrdit_jax.generation.request import SampleRequest
from scrdit_jax.generation.settings import coefficients_for
from scrdit_jax.provenance import Provenance
from scrdit_jax.sampling.sampler import cell_keys, draw_keys, integrate

COLUMNS = ("cell_type", "donor", "assay")
# No training cell is a B cell of d2; the assay is left out.
CODES = [[0, 1, 0]] * 5 + [[1, 1, 1]] * 3 + [[0, 0, -1]] * 8
UNSEEN = ("--condition", "cell_type=B cell", "--condition", "donor=d2")
BY_COLUMN = {"donor": 0.0, "cell_type": 8.0}


@pytest.fixture(scope="module")
def run(labelled_cells, tiny_config, tmp_path_factory):
    cells = labelled_cells.copy()
    cells.obs["assay"] = np.where(np.arange(cells.n_obs) % 3 == 0, "v2", "v3")
    changes = {"condition_on": COLUMNS, "learning_rate": 0.02, "warmup_steps": 0, "column_dropout": 0.2}
    return package.train(cells, out=tmp_path_factory.mktemp("runs") / "columns", preset=tiny_config, **changes)


@pytest.fixture(scope="module")
def model(run):
    found = load_model(run)
    assert [v.categories for v in found.metadata.variables] == [("B cell", "T cell"), ("d2", "d1"), ("v2", "v3")]
    return found


def quotas():
    return Quotas.of((codes, 1) for codes in map(tuple, CODES))


def cells_of(model, guidance, **options):
    config = SamplingConfig(**{"steps": 4, "batch_size": 8, "guidance": guidance} | options)
    return np.concatenate(list(dense_batches(make_engine(model, config, quotas()), 16)))


@pytest.mark.parametrize("solver", ["distributional", pytest.param("dpmpp-2m", marks=pytest.mark.slow)])
def test_guidance_by_column_is_the_formula(model, solver):
    """Oracle: the whole network once a cell with all labels, and without each of two; 2e-4 on the log scale."""
    (network, prediction), params = network_of(model), jax.device_put(model.params)
    config = SamplingConfig(solver=solver, steps=4)
    table, draws = coefficients_for(model.config.diffusion, config), solver == "distributional"
    full = np.array(CODES, np.int32)
    without = {"cell_type": full * [0, 1, 1] + [-1, 0, 0], "donor": full * [1, 0, 1] + [0, -1, 0]}
    keys = cell_keys(jax.random.key(0), jnp.arange(16))

    def predict_clean(noisy, alpha_bar, row):
        timestep, noise = row

        def told(labels):
            return network.apply(params, noisy, jnp.full(16, timestep), jnp.asarray(labels, jnp.int32))

        def composed(meaning):
            own = meaning(told(full))
            return own + sum((w - 1) * (own - meaning(told(without[column]))) for column, w in BY_COLUMN.items())

        if not draws:
            return composed(lambda predicted: prediction.clean(noisy, predicted, alpha_bar))
        log_odds_and_mean = composed(lambda predicted: predicted[..., :2])
        predicted = jnp.concatenate([log_odds_and_mean, told(full)[..., 2:]], axis=-1)
        return prediction.draw(noisy, predicted, alpha_bar, draw_keys(keys, timestep), noise=noise)

    noises = jnp.asarray(table.s / table.b if draws else table.s, jnp.float32)
    rows = jnp.asarray(table.timestep), noises
    slow = jax.jit(lambda: integrate(predict_clean, keys, table, rows, genes=24, noise=False))()
    expected = np.asarray(model.metadata.scaling.unscale(slow.cells))
    made = cells_of(model, BY_COLUMN, solver=solver)
    np.testing.assert_allclose(made, expected, atol=2e-4)
    # What it is not: guided by one of them alone, or not at all.
    for other in (1.0, {"cell_type": 8.0}, {"donor": 0.0}):
        assert np.abs(cells_of(model, other, solver=solver) - made).max() > 2e-3


def test_weights_are_arguments_and_those_of_one_cost_nothing(model):
    config = {"steps": 4, "batch_size": 8}
    plain = cells_of(model, 1.0)
    np.testing.assert_array_equal(cells_of(model, {"cell_type": 1.0, "donor": 1}), plain)
    assert SamplingConfig(guidance={"cell_type": 1.0}).guidance == 1.0
    guided = make_engine(model, SamplingConfig(guidance=BY_COLUMN, **config), quotas())
    before = program.compiled.cache_info().misses
    make_engine(model, SamplingConfig(guidance={"cell_type": 3.0, "donor": 7.0}, **config), quotas())
    assert program.compiled.cache_info().misses == before
    flops = {
        name: make_engine(model, SamplingConfig(guidance=weights, **config), quotas()).program.compiled
        for name, weights in (("plain", 1.0), ("one", {"donor": 2.0}))
    }
    cost = {name: one.cost_analysis()["flops"] for name, one in flops.items()}
    cost["two"] = guided.program.compiled.cost_analysis()["flops"]
    assert 1.7 < cost["one"] / cost["plain"] < 2.3
    assert 2.5 < cost["two"] / cost["plain"] < 3.5


def test_a_cell_does_not_depend_on_the_batch(model):
    whole = cells_of(model, BY_COLUMN, batch_size=16)
    np.testing.assert_allclose(cells_of(model, BY_COLUMN, batch_size=4), whole, rtol=1e-4, atol=1e-4)


def test_what_cannot_be_guided_is_refused(run, labelled_run):
    with pytest.raises(
        BadConfig, match="trained with column_dropout, and this one was with column_dropout 0; train with"
    ):
        package.sample(labelled_run, 4, guidance={"donor": 2.0})
    with pytest.raises(BadConfig, match="names a column 'doner'; the model is conditioned on cell_type, donor, assay"):
        package.sample(run, 4, guidance={"doner": 2.0})
    with pytest.raises(BadConfig, match="guidance of 'donor' is -1; it must be a number 0 or more and at most 100"):
        SamplingConfig(guidance={"donor": -1})
    with pytest.raises(BadConfig, match="names 'donor' twice"):
        SamplingConfig(guidance=(("donor", 2.0), ("donor", 3.0)))
    with pytest.raises(BadConfig, match=r"guidance is \['donor'\]; it must be a number, or a number for each"):
        SamplingConfig(guidance=["donor"])


def test_the_record_says_what_was_asked_for(run, model):
    options = {"steps": 3, "batch_size": 4, "guidance": BY_COLUMN}
    notes = []
    made = package.sample(run, 4, conditions={"donor": "d2", "cell_type": "B cell"}, on_notes=notes.extend, **options)
    assert len(notes) == 1
    assert made.obs["assay"].isna().all()
    assert set(made.obs["cell_type"]) == {"B cell"}
    record = Provenance.from_uns(made.uns)
    assert record.network_evaluations == 9
    assert record.quotas == ({"labels": ["B cell", "d2", None], "cells": 4},)
    assert (record.requested("cell_type"), record.requested("assay")) == ({"B cell": 4}, {})
    request = SampleRequest.from_provenance(Provenance.from_dict(json.loads(json.dumps(record.to_dict()))))
    assert request.quotas == Quotas(((0, 0, -1),), (4,))
    assert request.sampling.guidance == (("cell_type", 8.0), ("donor", 0.0))
    assert hash(request.sampling) == hash(SamplingConfig(**record.sampling))


@pytest.mark.parametrize("name", ["cells.h5ad", "cells.zarr"])
def test_an_unseen_combination_by_hand(scrdit, run, name):
    words = ("sample", run.path, "--cells", 7, *UNSEEN, "--guidance", "cell_type=2", "--steps", 3, "--out", name)
    status, text = scrdit(*words, "--output", "counts")
    assert status == 0, text
    (warning,) = [line for line in text.splitlines() if line.startswith("scrdit: ")]
    assert "no training cell has cell_type B cell, donor d2; the nearest that some have: " in warning
    assert "cell_type B cell, donor d1 (" in warning
    assert warning.endswith("; left out: assay")
    cells = anndata.read_h5ad(name) if name.endswith("h5ad") else anndata.read_zarr(name)
    assert cells.obs["assay"].isna().all()
    assert list(cells.obs["assay"].cat.categories) == ["v2", "v3"]
    assert cells.obs["donor"].tolist() == ["d2"] * 7
    assert np.isfinite(cells.X.data).all()
    assert "of these: B cell, d2, any 7" in scrdit("info", name)[1]
    assert scrdit(*words, "--output", "counts")[0] == 0  # finished already
    assert "holds the cells of another request" in scrdit(*words, "--output", "counts", "--seed", 1)[1]


def test_shards_with_and_without_a_category_are_verified_repaired_and_assembled(scrdit, run, tmp_path):
    (tmp_path / "table.csv").write_text("cell_type,donor,assay,cells\nB cell,d2,,5\nT cell,,v2,6\nB cell,d1,v3,4\n")
    options = {"steps": 3, "batch_size": 4, "shard_cells": 8}
    package.generate(run, per_type="table.csv", out="atlas", **options)
    digest = package.verify("atlas").digest
    shard = tmp_path / "atlas/shards/shard-00000.h5ad"
    assert anndata.read_h5ad(shard).obs["assay"].isna().tolist() == [True] * 5 + [False] * 3
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    repaired = package.verify("atlas", repair=run)
    assert (repaired.digest, repaired.notes) == (digest, ())
    whole = anndata.read_h5ad(package.assemble("atlas", out="whole.h5ad"))
    memory = package.sample(run, per_type="table.csv", steps=3, batch_size=4)
    np.testing.assert_array_equal(whole.X.toarray(), memory.X.toarray())
    for column in COLUMNS:
        np.testing.assert_array_equal(whole.obs[column].cat.codes, memory.obs[column].cat.codes)
    assert whole.obs["assay"].isna().sum() == 5
    # Written by another program, and read again.
    whole.write_h5ad("again.h5ad")
    assert anndata.read_h5ad("again.h5ad").obs["assay"].isna().sum() == 5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--condition", "donor=d1", "--condition", "donor=d2"], "asks for donor=d1 and donor=d2; a cell has one"),
        (["--condition", "donor"], "--condition donor names no category; write --condition tissue=lung"),
        (["--condition", "donor=d3"], "the model knows no 'd3' in 'donor'; "),
        (["--condition", "dono=d1"], "the model is not conditioned on 'dono'; did you mean donor?"),
        (["--guidance", "2", "--guidance", "donor=2"], "--guidance is one number for all conditions, or one"),
        (["--guidance", "donor=2", "--guidance", "donor=3"], "guidance names 'donor' twice; give each column one"),
        (["--guidance", "donor=much"], "--guidance donor=much says no number; write --guidance 2"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(scrdit, run, tmp_path, words, message):
    status, text = scrdit("sample", run.path, "--cells", 3, *words, "--out", "cells.h5ad")
    assert status == 2, text
    assert message in text
    assert len(text.strip().splitlines()) == 1, text
    assert not list(tmp_path.iterdir())


def test_states_of_unseen_combinations_are_withheld_from_the_network(model):
    from dataclasses import replace

    codes = np.array([[0, 1, 0], [0, 0, -1], [1, 1, 1]], np.int32)
    assert new_conditions(model, codes).withheld.tolist() == [False, True, False, False]
    assert new_conditions(model, codes[[0, 2]]).withheld is None
    # One that has not learnt to do without is given them.
    plain = replace(model, config=model.config.with_settings({"column_dropout": 0.0}))
    assert new_conditions(plain, codes).withheld is None
    prior = Mixture(np.zeros((1, 1), np.float32), np.full((1, 3), 2.0, np.float32), np.zeros((1, 3, 3), np.float32))
    known = NewConditions(codes, prior, np.zeros(3, np.int32), np.array([False, True, False]))
    how = States(conditioned=2, noise=0.5, library_size=(2, 7.0, 1.0), target_sum=1e4)
    keys = cell_keys(jax.random.key(0), jnp.arange(6))
    rows = jnp.arange(6) % 3
    drawn, whole = (draw_conditions(k, rows, keys, how) for k in (known, known._replace(withheld=None)))
    missing = np.isnan(np.asarray(drawn.states))
    np.testing.assert_array_equal(missing, np.repeat([[False], [True], [False]] * 2, 2, axis=1))
    np.testing.assert_array_equal(np.asarray(drawn.states)[~missing], np.asarray(whole.states)[~missing])
    # Its library size a cell has all the same.
    np.testing.assert_allclose(drawn.library_size, np.exp(9.0), rtol=1e-5)


def test_a_model_without_column_dropout_says_that_it_cannot_leave_a_column_out(labelled_run, model):
    from dataclasses import replace

    from scrdit_jax.generation.request import notes_on

    asked = Quotas(((0, 0, -1),), (3,))
    plain = replace(model, config=model.config.with_settings({"column_dropout": 0.0}))
    assert len(notes_on(model, asked)) == 1
    assert "trained with column_dropout 0, so it has not learnt to leave out" in notes_on(plain, asked)[1]
    assert not notes_on(plain, Quotas(((0, 1, 0),), (3,)))
