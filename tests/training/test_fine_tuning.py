"""A model trained further on new cells: what it begins with, what it still knows, and that it can be interrupted."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import anndata
import jax
import numpy as np
import pandas as pd
import pytest

import scrdit_jax as api
from scrdit_jax.checkpoint import Checkpoints, Run, load_model
from scrdit_jax.conditioning.request import CellRequest, resolve
from scrdit_jax.config import RunConfig
from scrdit_jax.data.preparing import write_prepared
from scrdit_jax.errors import BadConfig, RunMismatch
from scrdit_jax.families import FamilyFolder
from scrdit_jax.generation.program import network_of
from scrdit_jax.importing.run import import_reference
from scrdit_jax.networks import with_more_labels
from scrdit_jax.training import loop
from scrdit_jax.training.fine_tuning import Base, fewer_steps, params_to_begin

# So low a rate that no bit of a weight changes.
NO_STEP = {"learning_rate": 1e-30, "weight_decay": 0.0, "ema_decay": None, "steps": 2}


@pytest.fixture(scope="module")
def new_cells(labelled_cells):
    """Cells of a new type and a new donor, and none of donor d2."""
    cells = labelled_cells[::-1].copy()
    cells.obs_names = [f"new{i}" for i in range(cells.n_obs)]
    third = np.arange(cells.n_obs) % 3 == 0
    cells.obs["cell_type"] = pd.Categorical(np.where(third, "NK cell", cells.obs["cell_type"].astype(str)))
    cells.obs["donor"] = pd.Categorical(np.where(np.arange(cells.n_obs) % 2 == 0, "d3", "d1"))
    return cells


@pytest.fixture(scope="module")
def fine_run(labelled_run, new_cells, tmp_path_factory):
    return api.train(new_cells, out=tmp_path_factory.mktemp("fine") / "fine", from_run=labelled_run, steps=12)


def digest(run):
    with Checkpoints(run) as checkpoints:
        return checkpoints.digest()


def predicted(model, params, labels):
    random = np.random.default_rng(0)
    cells = random.normal(size=(len(labels), len(model.metadata.genes))).astype(np.float32)
    states = np.zeros((len(labels), model.metadata.conditioned_states), np.float32)
    network = network_of(model)[0]
    return np.asarray(network.apply(params, cells, np.full(len(labels), 5), labels, states if network.states else None))


def test_it_begins_as_the_model_was_but_for_the_rows_of_new_categories(labelled_run, new_cells, tmp_path):
    run = api.train(new_cells, out=tmp_path / "fine", from_run=labelled_run, **NO_STEP)
    old, new = load_model(labelled_run), load_model(run)
    # (cell type, donor), -1 for none: what the model was given before.
    labels = np.array([[t, d] for t in (0, 1, -1) for d in (0, 1, -1)], np.int32)
    assert new.metadata.categories == (3, 3)
    np.testing.assert_array_equal(predicted(old, old.params, labels), predicted(new, new.params, labels))
    first = np.array([[0, 0]], np.int32)
    assert not np.array_equal(predicted(old, old.params, first), predicted(old, old.params, first + 1))
    before, after = (m.params["params"]["label_embeddings"] for m in (old, new))
    np.testing.assert_allclose(after[2], before[:2].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(after[6], before[3:5].mean(axis=0), rtol=1e-6)
    assert (len(before), len(after)) == (6, 8)


def test_rows_of_labels_keep_their_places():
    table = np.arange(6, dtype=np.float32)[:, None]
    grown = with_more_labels(table, (3, 1), (3, 3))
    assert grown.ravel().tolist() == [0, 1, 2, 3, 4, 4, 4, 5]
    assert with_more_labels(table, (3, 1), (3, 1)).ravel().tolist() == [0, 1, 2, 3, 4, 5]


def test_without_a_step_on_the_same_cells_the_same_cells_are_sampled(labelled_run, labelled_cells, tmp_path):
    run = api.train(labelled_cells, out=tmp_path / "fine", from_run=labelled_run, **NO_STEP)
    first, second = (api.sample(r, 30, seed=3, steps=3, schedule="logsnr") for r in (labelled_run, run))
    pd.testing.assert_frame_equal(first.obs, second.obs)
    np.testing.assert_array_equal(first.X.toarray(), second.X.toarray())


def test_it_learns(labelled_run, fine_run):
    old, new = load_model(labelled_run), load_model(fine_run)
    begun = params_to_begin(old, new.metadata)
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), begun, new.params)
    assert min(jax.tree.leaves(moved["params"]["label_embeddings"])) > 0
    assert max(jax.tree.leaves(moved)) < 0.2


def test_new_and_former_categories_can_be_asked_for_and_the_proportions_are_the_new_cells(fine_run, labelled_run):
    model, former = load_model(fine_run), load_model(labelled_run)
    table = model.conditions
    quotas = resolve(CellRequest(cells=model.metadata.n_train), table).named(table.variables)
    asked = pd.Series({tuple(entry["labels"]): entry["cells"] for entry in quotas})
    assert not any(donor == "d2" for _, donor in asked.index)
    sizes = asked.groupby(level=0).sum()
    assert sizes.to_dict() == model.metadata.cell_types
    by_donor = api.sample(fine_run, per_type=pd.DataFrame({"donor": ["d2", "d3"], "cells": [20, 30]}), steps=2)
    counts = by_donor.obs[["cell_type", "donor"]].astype(str).value_counts()
    # The former model had T cells of d2 alone.
    assert counts["T cell", "d2"] == 20
    assert set(counts.index) == {("T cell", "d2"), *((t, "d3") for t in ("T cell", "B cell", "NK cell"))}
    # States of d2 come of the former model's prior, to the bit; others of none of it.
    t_d2 = np.array([[model.metadata.variables[0].code("T cell"), 0]])
    (mine, _), (before, _) = table.prior_for(t_d2), former.conditions.prior_for(t_d2)
    finite = mine.log_weights[0] > -100
    assert finite.sum() == len(before.means)
    np.testing.assert_array_equal(mine.means[finite], before.means)
    np.testing.assert_allclose(mine.log_weights[0][finite], before.log_weights[0], atol=1e-6)
    everything = table.prior_for(np.zeros((1, 0), np.int32))[0].log_weights[0]
    assert (np.exp(everything[finite]) == 0).all()
    assert np.exp(everything[~finite]).sum() == pytest.approx(1, abs=1e-5)


def test_a_type_of_both_is_as_in_the_new_cells(fine_run):
    """T cells of donor d2 are former ones: T cells without a word of the donor are none of them."""
    table = load_model(fine_run).conditions
    d2 = table.variables[1].code("d2")
    quotas = resolve(CellRequest(cells=40, cell_types=("T cell",)), table)
    assert d2 not in {codes[1] for codes in quotas.codes}
    nobody = np.array([table.variables[0].code("NK cell"), d2])
    assert d2 not in table.codes[table.alike(nobody), 1]


def test_interrupted_and_continued_without_the_run_it_came_from_it_ends_with_the_same_bits(
    fine_run, labelled_run, new_cells, tmp_path
):
    former, out = tmp_path / "former", tmp_path / "fine"
    shutil.copytree(labelled_run.path, former)
    base = Base.load(former, out)
    config = base.settings({"steps": 12})
    prepared = base.prepare(new_cells, config, transpose=False, stored=False)
    loop.train(prepared, config, out, loop.TrainingOptions(stop_after=7), base=base.model)
    assert load_model(out).step == 7
    shutil.rmtree(former)
    with pytest.raises(RunMismatch, match="former is not there; give a folder made by 'scrdit train'"):
        api.train(new_cells, out=tmp_path / "other", from_run=former, steps=12)
    run = api.train(new_cells, out=out, from_run=former, steps=12)
    assert digest(run) == digest(fine_run)
    assert load_model(run).metadata == load_model(fine_run).metadata
    with pytest.raises(RunMismatch, match=r"other settings \(training\.batch_size: 4 here, 8 there\)"):
        api.train(new_cells, out=out, from_run=former, steps=12, batch_size=4)


def test_streamed_it_comes_to_the_same_model(fine_run, labelled_run, new_cells, tmp_path):
    new_cells.write_h5ad(tmp_path / "new.h5ad")
    fine = api.train(tmp_path / "new.h5ad", out=tmp_path / "fine", from_run=labelled_run, steps=12, stream=True)
    assert digest(fine) == digest(fine_run)


def test_a_run_that_has_changed_is_noticed(labelled_run, tiny_run, tiny_config, new_cells, tmp_path):
    """Between the start of the new run and its first checkpoint, too."""
    out = Run(tmp_path / "fine")
    out.path.mkdir()
    out.write_config(replace(Base.load(labelled_run.path, out.path).settings({}), origin="0" * 64))
    with pytest.raises(RunMismatch, match="was begun from a model with digest 000000000000, and --from now holds one"):
        api.train(new_cells, out=out.path, from_run=labelled_run)
    with pytest.raises(RunMismatch, match="holds a run that was not begun from another"):
        api.train(new_cells, out=tiny_run.path, from_run=labelled_run)
    with pytest.raises(RunMismatch, match="trains another further; name that one as --from"):
        api.train(new_cells, out=out.path, preset=tiny_config)


def test_its_settings_are_the_models_but_for_fewer_steps(labelled_run, tiny_config):
    base = Base.load(labelled_run.path, "elsewhere")
    config, known = base.settings({}), base.model.config
    assert (config.data, config.network, config.diffusion) == (known.data, known.network, known.diffusion)
    assert config.training == replace(known.training, steps=3)
    assert config.origin == base.model.digest
    assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert "origin" not in known.to_dict()
    training = replace(tiny_config.training, steps=1000, warmup_steps=100)
    assert fewer_steps(training, {}) == replace(training, steps=250, warmup_steps=25)
    assert fewer_steps(training, {"steps": 4000}).warmup_steps == 100
    assert fewer_steps(training, {"warmup_steps": 7}).warmup_steps == 100  # what is given is set afterwards
    constant = replace(training, learning_rate_schedule="constant")
    assert fewer_steps(constant, {}) == replace(constant, steps=250)
    changed = base.settings({"genes": 24, "seed": 3, "held_out": 0.1, "learning_rate": 0.5})
    assert (changed.data.seed, changed.data.held_out, changed.training.learning_rate) == (3, 0.1, 0.5)
    with pytest.raises(BadConfig, match="conditions is 'bootstrap', and 'prior' in the model of --from"):
        base.settings({"conditions": "bootstrap"})


@pytest.mark.slow
def test_an_imported_model_is_trained_further(tmp_path):
    weights = Path(__file__).parent.parent / "oracles" / "reference_dit.safetensors"
    imported = import_reference(weights, tmp_path / "imported", heads=2)
    genes = load_model(imported).metadata.genes
    values = np.random.default_rng(0).gamma(1.0, 1.0, size=(40, len(genes))).astype(np.float32)
    cells = anndata.AnnData(values, var=pd.DataFrame(index=list(genes)))
    run = api.train(cells, out=tmp_path / "fine", from_run=imported, steps=1, batch_size=8)
    model = load_model(run)
    assert model.metadata.genes == genes
    assert model.metadata.scaling == load_model(imported).metadata.scaling
    assert model.conditions.prior is None
    assert api.sample(run, 3, steps=2, solver="ddim").shape == (3, len(genes))


@pytest.fixture(scope="module")
def files(labelled_cells, tiny_cells, tiny_config, new_cells, tmp_path_factory):
    """Cells that fit `labelled_run` and cells that do not, and a preset."""
    folder = tmp_path_factory.mktemp("files")
    new_cells.write_h5ad(folder / "new.h5ad")
    new_cells[:, 5:].copy().write_h5ad(folder / "few_genes.h5ad")
    tiny_cells.write_h5ad(folder / "no_donor.h5ad")
    logs = new_cells.copy()
    logs.X = logs.X.log1p()
    logs.write_h5ad(folder / "logs.h5ad")
    write_prepared(api.prepare(labelled_cells, preset=tiny_config), folder / "prepared.h5ad")
    (folder / "tiny.json").write_text(json.dumps(tiny_config.to_dict()))
    FamilyFolder.of("cell_type", {"T cell": 30}, least=1).write(folder / "family")
    return folder


@pytest.mark.parametrize(
    ("cells", "words", "message"),
    [
        ("few_genes", [], "few_genes.h5ad lacks"),
        ("no_donor", [], "no_donor.h5ad has no column 'donor' to condition on; obs has cell_type"),
        ("logs", [], "logs.h5ad holds values that are not all whole numbers, but the model was trained on raw counts"),
        ("prepared", [], "prepared.h5ad was prepared with genes and a scaling of its own"),
        ("new", ["--preset", "tiny.json"], "--preset and --from both say what the settings are"),
        ("new", ["--per-cell-type"], "--per-cell-type trains new models, --from an old one further"),
        ("new", ["--genes", 20], "genes is 20, and 24 in the model of --from, where it cannot be changed"),
        ("new", ["--condition-on", "donor"], "condition_on is ('donor',), and ('cell_type', 'donor') in the model"),
        ("new", ["--prediction", "v"], "prediction is 'v', and 'zero-inflated' in the model of --from"),
        ("new", ["--network", "unet"], "architecture is 'unet', and 'dit' in the model of --from"),
        ("new", ["--no-zero-negation"], "zero_value is None, and -10.0 in the model of --from"),
        ("new", ["--cell-type", "Monocyte"], "new.h5ad has no cell type 'Monocyte'"),
        ("new", ["--from", "nowhere"], "nowhere is not there; give a folder made by 'scrdit train'"),
        ("new", ["--from", "family"], "family is a family of runs; give the folder of one of them"),
        ("new", ["--from", "out"], "out is both --from and --out; give a new folder as --out"),
    ],
)
def test_what_does_not_fit_is_one_line_and_leaves_nothing(cells, words, message, files, scrdit, labelled_run, tmp_path):
    for name in ("tiny.json", "family"):
        (tmp_path / name).symlink_to(files / name)
    before = set(tmp_path.iterdir())
    status, text = scrdit("train", files / f"{cells}.h5ad", "--from", labelled_run.path, *words, "--out", "out")
    assert status == 2, text
    assert message in text, text
    assert len(text.strip().splitlines()) == 1, text
    assert set(tmp_path.iterdir()) == before


def test_by_hand_with_the_same_options_given_again(files, scrdit, labelled_run):
    words = ("--from", labelled_run.path, "--genes", 24, "--steps", 12, "--out", "fine")
    status, text = scrdit("train", files / "new.h5ad", *words)
    assert status == 0, text
    assert "new is NK cell" in text
    assert "trained 12 steps" in text
    status, text = scrdit("info", "fine")
    assert f"trains a model further, of which the digest was {load_model(labelled_run).digest}" in text
    assert "continues the model that was trained on" in text
    status, text = scrdit("sample", "fine", "--cells", 4, "--cell-type", "NK cell", "--steps", 2, "--out", "nk.h5ad")
    assert status == 0, text
