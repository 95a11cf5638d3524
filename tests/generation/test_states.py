"""States that a model draws for new cells: against the network asked cell by cell, and against the training cells."""

import json
import shutil

import anndata
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse
from scipy.stats import ks_2samp

import scrdit_jax as scrdit
from scrdit_jax.checkpoint import Checkpoints, Run, load_model
from scrdit_jax.config import SamplingConfig
from scrdit_jax.data.preparing import write_prepared
from scrdit_jax.data.saved_conditions import arrays_of
from scrdit_jax.errors import BadConfig, RunMismatch
from scrdit_jax.generation.composition import dense_batches
from scrdit_jax.generation.conditions import draw_conditions, new_conditions, states_of
from scrdit_jax.generation.engine import make_engine
from scrdit_jax.generation.program import network_of, whole_counts
from scrdit_jax.generation.settings import coefficients_for
from scrdit_jax.importing import pretrained
from scrdit_jax.sampling.sampler import cell_keys, integrate

DERIVE = {"pc-scores": 2, "detected-genes": 1, "library-size": 1}


@pytest.fixture(scope="module")
def cells():
    """401 cells x 40 genes of counts in four kinds: two of either cell type. No other array has an axis of 401."""
    random = np.random.default_rng(11)
    kind = random.choice(4, 401, p=[0.4, 0.3, 0.2, 0.1])
    counts = random.poisson((random.gamma(0.5, 6.0, size=(4, 40)) + 0.1)[kind] * (1 + kind[:, None]))
    adata = anndata.AnnData(sparse.csr_matrix(counts.astype(np.float32)))
    adata.obs["cell_type"] = np.array(["T cell", "B cell"])[kind % 2]
    return adata


OPTIONS = {"derive": DERIVE, "clip": True, "learning_rate": 0.02, "warmup_steps": 0}


@pytest.fixture(scope="module")
def runs(cells, tiny_config, tmp_path_factory):
    out, found = tmp_path_factory.mktemp("states"), {}
    for name, changes in (
        ("plain", {}),
        ("typed", {"condition_on": ["cell_type"]}),
        ("bootstrap", {"condition_on": ["cell_type"], "conditions": "bootstrap"}),
    ):
        found[name] = scrdit.train(cells, out=out / name, preset=tiny_config, **OPTIONS, **changes)
    return found


def drawn(model, codes, count=16, seed=0):
    keys = cell_keys(jax.random.key(seed), jnp.arange(count))
    rows = jnp.arange(count) % len(codes)
    return keys, draw_conditions(new_conditions(model, codes), rows, keys, states_of(model))


def test_cells_have_the_states_that_were_drawn(runs):
    """Oracle: the whole network once a cell with its own label and state; 2e-4 on the log scale."""
    model = load_model(runs["plain"])
    (network, prediction), params = network_of(model), jax.device_put(model.params)
    table = coefficients_for(model.config.diffusion, SamplingConfig(solver="dpmpp-2m", steps=6))
    keys, own = drawn(model, np.zeros((1, 0), np.int32))
    assert own.states.shape == (16, 4)
    assert len(np.unique(own.states, axis=0)) == 16

    def predict_clean(noisy, alpha_bar, timestep):
        predicted = network.apply(params, noisy, jnp.full(16, timestep), None, own.states)
        return prediction.clean(noisy, predicted, alpha_bar)

    slow = jax.jit(lambda: integrate(predict_clean, keys, table, jnp.asarray(table.timestep), genes=24))()
    wanted = model.metadata.scaling.unscale(slow.cells)
    wanted = whole_counts(wanted, own.library_size[:, None] / model.metadata.normalization.target_sum)
    engine = make_engine(model, SamplingConfig(solver="dpmpp-2m", steps=6, batch_size=8))
    made = np.concatenate(list(dense_batches(engine, 16)))
    # A count that was rounded the other way is another value.
    assert np.isclose(made, np.asarray(wanted), atol=2e-4).mean() > 0.995


@pytest.mark.parametrize("name", ["plain", "typed", "bootstrap"])
def test_states_are_distributed_as_those_of_the_training_cells(runs, cells, tiny_config, name):
    model = load_model(runs[name])
    prepared = scrdit.prepare(cells, preset=tiny_config, **{k: OPTIONS[k] for k in ("derive", "clip")})
    obs = prepared.train.obs
    columns = [column.name for column in model.metadata.state]
    for code, of_type in enumerate(["T cell", "B cell"] if name != "plain" else [None]):
        codes = np.zeros((1, 0), np.int32) if of_type is None else np.array([[code]], np.int32)
        if of_type is not None:
            codes[:] = model.metadata.variables[0].code(of_type)
        known = obs if of_type is None else obs[obs["cell_type"] == of_type]
        found = drawn(model, codes, 4000)[1]
        noise = np.random.default_rng(0).standard_normal((len(known), len(columns)))
        noisy = known[columns].to_numpy() + model.config.training.state_noise * noise
        for i in range(len(columns)):
            assert ks_2samp(np.asarray(found.states)[:, i], noisy[:, i]).statistic < 0.17  # 1 % of 88 cells
        assert ks_2samp(np.log(found.library_size), np.log(known["library_size"])).statistic < 0.17


def test_no_array_of_a_model_has_an_axis_of_training_cells(runs, tmp_path):
    """What is saved, in a checkpoint and in a packed model; a bootstrap has one, so the check can fail."""
    for name, wanted in (("plain", False), ("typed", False), ("bootstrap", True)):
        model = load_model(runs[name])
        trained = model.metadata.n_train
        with Checkpoints(runs[name]) as checkpoints:
            saved = checkpoints._manager.restore(checkpoints.latest())
        sizes = {size for leaf in jax.tree.leaves(dict(saved.items())) for size in np.shape(leaf)}
        with np.load(pretrained.pack(runs[name], tmp_path / f"{name}.npz", {})) as file:
            packed = {size for key in file.files if key != "about" for size in file[key].shape}
        assert (trained in sizes, trained in packed) == (wanted, wanted)
        assert trained not in (len(model.metadata.genes), model.config.network.width)
        assert any(trained in array.shape for array in arrays_of(model.conditions).values()) == wanted


def test_no_library_size_of_a_training_cell_is_kept(runs, cells):
    model = load_model(runs["typed"])
    sizes = np.asarray(cells.X.sum(axis=1)).ravel()
    numbers = np.concatenate([np.ravel(array) for array in arrays_of(model.conditions).values()])
    assert not np.isin(np.unique(np.log(sizes)).astype(np.float32), numbers).any()
    made = scrdit.sample(runs["typed"], 300, steps=1, output="counts", batch_size=64)
    assert len(np.unique(made.obs["library_size"])) == 300


def test_counts_are_whole_and_the_log_values_are_theirs(runs):
    made = scrdit.sample(runs["typed"], 40, steps=3, output="counts", batch_size=8)
    counts, sizes = made.layers["counts"].toarray(), made.obs["library_size"].to_numpy()
    target = load_model(runs["typed"]).metadata.normalization.target_sum
    assert counts.any()
    np.testing.assert_allclose(np.log1p(counts * (target / sizes)[:, None]), made.X.toarray(), rtol=1e-5)
    plain = scrdit.sample(runs["typed"], 40, steps=3, batch_size=8)
    np.testing.assert_array_equal(plain.X.toarray(), made.X.toarray())


def test_a_cells_state_depends_on_its_index_and_the_seed_alone(runs):
    few, many = (scrdit.sample(runs["plain"], n, steps=3, batch_size=size) for n, size in ((11, 8), (30, 8)))
    np.testing.assert_array_equal(many.X[:11].toarray(), few.X.toarray())
    model = load_model(runs["plain"])
    first, other = (drawn(model, np.zeros((1, 0), np.int32), 9, seed)[1].states for seed in (0, 1))
    np.testing.assert_array_equal(drawn(model, np.zeros((1, 0), np.int32), 5)[1].states, first[:5])
    assert (first != other).all()


def test_a_hundred_thousand_cells_have_as_many_states_and_a_bootstrap_few(runs):
    for name, wanted in (("plain", 100_000), ("bootstrap", load_model(runs["bootstrap"]).metadata.n_train)):
        model = load_model(runs[name])
        clean = states_of(model)._replace(noise=0.0)
        keys = cell_keys(jax.random.key(0), jnp.arange(100_000))
        known = new_conditions(model, np.zeros((1, 0), np.int32))
        found = jax.jit(
            lambda keys, known=known, clean=clean: draw_conditions(known, jnp.zeros(len(keys), int), keys, clean)
        )
        assert len(np.unique(np.asarray(found(keys).states), axis=0)) == wanted


@pytest.mark.slow
def test_a_combination_that_no_training_cell_has_is_given_states_of_its_type(cells, tiny_config, tmp_path):
    mixed = cells.copy()
    mixed.obs["donor"] = np.where((mixed.obs["cell_type"] == "T cell") & (np.arange(401) % 2 == 0), "d1", "d2")
    columns = ["cell_type", "donor"]
    run = scrdit.train(mixed, out=tmp_path / "run", preset=tiny_config, condition_on=columns, steps=2, derive=DERIVE)
    table = load_model(run).conditions
    b_cell, d1 = table.variables[0].code("B cell"), table.variables[1].code("d1")
    alike = table.alike((b_cell, d1))
    assert table.codes[alike].tolist() == [[b_cell, table.variables[1].code("d2")]]
    unseen, seen = (table.prior_for(np.array([[b_cell, d]]))[0].log_weights for d in (d1, 1 - d1))
    np.testing.assert_allclose(unseen, seen, atol=1e-6)
    np.testing.assert_allclose(np.exp(table.prior_for(np.zeros((1, 0), np.int32))[0].log_weights).sum(), 1, atol=1e-5)


def test_quotas_files_and_guidance_of_a_model_with_states(runs, tmp_path):
    options = {"per_type": {"T cell": 6, "B cell": 3}, "steps": 3, "output": "counts", "batch_size": 4}
    memory = scrdit.sample(runs["typed"], **options)
    file = anndata.read_h5ad(scrdit.sample(runs["typed"], **options, out=tmp_path / "cells.h5ad"))
    assert memory.obs["cell_type"].value_counts().to_dict() == {"T cell": 6, "B cell": 3}
    assert not [column for column in memory.obs if column.startswith("scrdit_")]
    np.testing.assert_array_equal(file.X.toarray(), memory.X.toarray())
    np.testing.assert_array_equal(file.layers["counts"].toarray(), memory.layers["counts"].toarray())
    guided, unguided = (scrdit.sample(runs["typed"], 4, steps=3, guidance=g, batch_size=4) for g in (2.0, 0.0))
    assert (guided.X.toarray() != unguided.X.toarray()).any()
    with pytest.raises(BadConfig, match="without labels"):
        scrdit.sample(runs["plain"], cell_types=["T cell"], cells=4, steps=3)
    with pytest.raises(BadConfig, match="without labels"):
        scrdit.sample(runs["plain"], 4, steps=3, guidance=2.0)


@pytest.mark.slow
def test_a_family_draws_library_sizes_alone(cells, tiny_config, tmp_path):
    run = scrdit.train(cells, out=tmp_path / "family", preset=tiny_config, derive=DERIVE, per_cell_type=True)
    made = scrdit.sample(run, 200, steps=2, batch_size=8, output="counts")
    sizes = np.asarray(cells.X.sum(axis=1)).ravel()
    for name in ("T cell", "B cell"):
        known = sizes[(cells.obs["cell_type"] == name).to_numpy()]
        drawn = made.obs["library_size"][made.obs["cell_type"] == name]
        assert abs(np.log(drawn).mean() - np.log(known).mean()) < 0.1
        assert 0.6 < np.log(drawn).std() / np.log(known).std() < 1.6
    assert load_model(run.path / "B_cell").metadata.conditioned_states == 0


def test_prepared_cells_keep_their_states(cells, runs, tiny_config, tmp_path):
    for stream in (False, True):
        cells.write_h5ad(tmp_path / "cells.h5ad")
        made = scrdit.prepare(tmp_path / "cells.h5ad", preset=tiny_config, derive=DERIVE, clip=True)
        write_prepared(made, tmp_path / "prepared.h5ad")
        run = scrdit.train(
            tmp_path / "prepared.h5ad", out=tmp_path / f"run{stream}", preset=tiny_config, stream=stream, **OPTIONS
        )
        model, direct = load_model(run), load_model(runs["plain"])
        assert model.metadata.state == direct.metadata.state == made.metadata.state
        for leaf, other in zip(jax.tree.leaves(model.params), jax.tree.leaves(direct.params), strict=True):
            np.testing.assert_array_equal(leaf, other)
        for name, array in arrays_of(direct.conditions).items():
            np.testing.assert_array_equal(arrays_of(model.conditions)[name], array)


@pytest.mark.slow
def test_a_run_goes_on_with_the_states_of_its_checkpoint(cells, tiny_config, tmp_path, monkeypatch):
    """On another machine principal axes may differ in their last bits, or, in an older version, in their signs."""
    from scrdit_jax.conditioning.derived import pc_scores

    whole = scrdit.train(cells, out=tmp_path / "whole", preset=tiny_config, **OPTIONS, steps=6)
    scrdit.api.training.loop.train(
        scrdit.prepare(cells, preset=tiny_config, derive=DERIVE, clip=True),
        scrdit.api.training.settings(tiny_config, **OPTIONS, steps=6),
        tmp_path / "half",
        scrdit.api.training.loop.TrainingOptions(stop_after=3),
    )
    other = pc_scores.DERIVED.axes
    monkeypatch.setattr(pc_scores, "DERIVED", pc_scores.DERIVED.__class__(
        title="", columns=pc_scores.columns, axes=lambda x, n: -other(x, n), most=50))  # fmt: skip
    half = scrdit.train(cells, out=tmp_path / "half", preset=tiny_config, **OPTIONS, steps=6)
    with Checkpoints(whole) as first, Checkpoints(half) as second:
        assert first.digest() == second.digest()


def test_schedules_are_fitted_with_the_training_cells_conditions(runs):
    assert len(scrdit.fit_schedule(runs["plain"], 4)) == 4


def test_a_run_with_a_row_of_each_training_cell_is_refused_by_a_sentence(runs, tmp_path):
    old = Run(tmp_path / "old")
    shutil.copytree(runs["plain"].path, old.path)
    path = old.checkpoints_path / str(load_model(old).step) / "model" / "metadata"
    record = json.loads(path.read_text())
    record["format"] = record["metadata"]["format"] = 2
    cluster = {"name": "scrdit_cluster", "categories": ["0", "1"], "counts": [200, 120], "source": "clusters"}
    record["metadata"]["variables"].append(cluster)
    path.write_text(json.dumps(record))
    with pytest.raises(RunMismatch, match=r"keeps a row of each of its training cells.*train it again"):
        scrdit.sample(old, 2)
