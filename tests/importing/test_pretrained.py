"""Models that ship: packed from a run and unpacked to one that makes the same cells, to half precision."""

import json

import numpy as np
import pytest
from flax import traverse_util

import scrdit_jax as scrdit
from scrdit_jax.checkpoint import load_model
from scrdit_jax.data.saved_conditions import arrays_of
from scrdit_jax.errors import BadConfig, BadInput, OutputExists
from scrdit_jax.evaluation.metrics import dense
from scrdit_jax.importing import pretrained
from scrdit_jax.provenance import Provenance

ABOUT = {"command": "scrdit train pbmc3k", "scores": {"random_forest_auc": 0.5}}


@pytest.fixture(scope="module")
def run(tiny_config, tmp_path_factory):
    out = tmp_path_factory.mktemp("pretrained") / "run"
    # Not on library sizes: values would then be of whole counts, and one count would be far more than the tolerance.
    return scrdit.train("pbmc3k", out=out, preset=tiny_config, derive={"pc-scores": 3, "detected-genes": 1}, genes=40)


@pytest.fixture
def shipped(run, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path / "shipped")
    (tmp_path / "shipped").mkdir()
    return pretrained.pack(run, tmp_path / "shipped" / "pbmc3k.npz", ABOUT)


@pytest.mark.slow
def test_what_was_packed_makes_the_same_cells(run, shipped, tmp_path):
    assert pretrained.names() == ["pbmc3k"]
    assert pretrained.about("pbmc3k") == ABOUT
    again = scrdit.pretrained("pbmc3k", out=tmp_path / "run")
    here, there = load_model(run), load_model(again)
    assert (there.config, there.metadata, there.step) == (here.config, here.metadata, here.step)
    known, expected = arrays_of(there.conditions), arrays_of(here.conditions)
    assert set(known) == set(expected) >= {"axes", "combination_cells", "prior_means", "prior_factors"}
    for name, array in expected.items():
        np.testing.assert_array_equal(known[name], array)
    assert there.fitted == here.fitted
    named = pretrained.open_trained("pbmc3k")
    assert (named.digest, named.fitted) == (there.digest, there.fitted)
    assert sorted(there.fitted) == list(range(1, 9))
    provenance = Provenance.from_uns(scrdit.sample(again, 2, steps=3, batch_size=2).uns)
    assert provenance.timesteps == here.fitted[3]
    # A drawn gene near its threshold would be there or not: predicted means are continuous in the weights.
    options = {"solver": "dpmpp-2m", "steps": 4, "batch_size": 16, "output": "counts"}
    made, expected = (scrdit.sample(r, 32, **options) for r in (again, run))
    # float16 keeps three digits of a weight.
    np.testing.assert_allclose(dense(made.X), dense(expected.X), atol=0.02)
    np.testing.assert_array_equal(made.obs["library_size"], expected.obs["library_size"])
    assert "random forest" in str(scrdit.evaluate(again, made, out=tmp_path / "report"))


def test_a_model_that_ships_is_sampled_by_its_name(run, shipped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {"steps": 2, "batch_size": 8, "shard_cells": 8}
    scrdit.generate("pbmc3k", 24, out="atlas", **options)
    scrdit.generate(scrdit.pretrained("pbmc3k", out="run"), 24, out="again", **options)
    digest = scrdit.verify("again").digest
    assert scrdit.verify("atlas").digest == digest
    (tmp_path / "atlas/shards/shard-00001.h5ad").write_bytes(b"damaged")
    repaired = scrdit.verify("atlas", repair="pbmc3k")
    assert (repaired.repaired, repaired.digest) == (True, digest)


def test_large_matrices_are_kept_to_a_part_in_254_of_each_columns_largest_weight(run, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path / "shipped")
    monkeypatch.setattr(pretrained, "MANY_WEIGHTS", 200)
    (tmp_path / "shipped").mkdir()
    pretrained.pack(run, tmp_path / "shipped" / "pbmc3k.npz", ABOUT)
    again = load_model(scrdit.pretrained("pbmc3k", out=tmp_path / "run"))
    weights, expected = (traverse_util.flatten_dict(model.params) for model in (again, load_model(run)))
    assert set(weights) == set(expected)
    rounded = 0
    for name, leaf in expected.items():
        limit = 1e-3 * np.abs(leaf).max()
        if leaf.ndim > 1 and leaf.size >= 200:
            limit, rounded = np.abs(leaf).max(axis=-2, keepdims=True) / 253, rounded + 1
        assert np.all(np.abs(weights[name] - leaf) <= limit)
    assert rounded > 3


def test_a_second_time_it_is_left_and_anything_else_is_not_touched(shipped, tmp_path):
    first = scrdit.pretrained("pbmc3k", out=tmp_path / "run")
    before = {p: p.stat().st_mtime_ns for p in first.path.rglob("*") if p.is_file()}
    assert scrdit.pretrained("pbmc3k", out=tmp_path / "run").path == first.path
    assert {p: p.stat().st_mtime_ns for p in first.path.rglob("*") if p.is_file()} == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(OutputExists, match="something else"):
        scrdit.pretrained("pbmc3k", out=tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_unknown_names_and_broken_files_are_one_line(shipped, tmp_path):
    with pytest.raises(BadConfig, match="no pretrained model 'brain'; there are pbmc3k"):
        scrdit.pretrained("brain", out=tmp_path / "run")
    shipped.write_bytes(shipped.read_bytes()[:2000])
    with pytest.raises(BadInput, match=r"cannot be read .* install the package again"):
        scrdit.pretrained("pbmc3k", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_other_cells_of_that_name_are_refused(shipped, tmp_path, monkeypatch, tiny_cells):
    monkeypatch.chdir(tmp_path)
    tiny_cells.write_h5ad("pbmc3k")
    with pytest.raises(BadInput):
        scrdit.pretrained("pbmc3k", out=tmp_path / "run")


def test_the_model_that_ships_is_small_and_says_where_it_comes_from():
    path = pretrained.FOLDER / "pbmc3k.npz"
    assert path.stat().st_size <= 8_000_000
    known = pretrained.about("pbmc3k")
    assert known["command"].startswith("scrdit train pbmc3k")
    assert known["scores"]
    json.dumps(known)


@pytest.mark.slow
def test_the_command(scrdit, shipped):
    status, printed = scrdit("demo", "--pretrained", "--cells", 60, "--out", "demo")
    assert status == 0
    assert "report.html" in printed
    status, printed = scrdit("demo", "--pretrained", "--steps", 5)
    assert status == 2
    assert "give one of them" in printed
