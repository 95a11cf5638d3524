"""Whole donors held out: by names and seed alone, near the share asked for, never one on both sides."""

import json
from dataclasses import replace

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import scrdit_jax
from scrdit_jax.config import DataConfig
from scrdit_jax.data import splitting
from scrdit_jax.data.adapting import adapt
from scrdit_jax.data.metadata import DatasetMetadata
from scrdit_jax.data.preparing import prepare
from scrdit_jax.data.sources import load_prepared
from scrdit_jax.data.splitting import donor_names, split_cells, validation_mask
from scrdit_jax.errors import BadConfig, BadInput

CONFIG = DataConfig(donor_key="donor", seed=3, genes=20, min_cells=1)


def table(donors, start=0):
    return pd.DataFrame({"donor": donors}, index=[f"c{start + i}" for i in range(len(donors))])


def held_out_donors(obs, config=CONFIG):
    split = split_cells(obs, config, "x")
    apart = set(obs["donor"][split.held_out].astype(str))
    assert not apart & set(obs["donor"][~split.held_out].astype(str))
    return apart


def test_no_donor_is_on_both_sides_and_the_share_is_near():
    rng = np.random.default_rng(0)
    for seed in range(40):
        donors = np.repeat([f"d{i}" for i in range(10)], rng.integers(50, 150, 10))
        config = replace(CONFIG, seed=seed)
        apart = held_out_donors(table(rng.permutation(donors)), config)
        assert 0 < len(apart) < 10
        assert 0.09 < np.isin(donors, list(apart)).mean() < 0.31


def test_two_donors_are_one_on_either_side_and_one_alone_is_refused():
    for seed in range(12):
        assert len(held_out_donors(table(["a"] * 9 + ["b"]), replace(CONFIG, seed=seed))) == 1
    with pytest.raises(BadInput, match=r"x: obs\['donor'\] names one donor \(a\), who cannot be both"):
        split_cells(table(["a"] * 9), CONFIG, "x")
    assert not split_cells(table(["a"] * 9), replace(CONFIG, held_out=0), "x").held_out.any()


def test_donors_that_are_added_leave_the_others_where_they_were():
    some, more = [f"d{i}" for i in range(60)], [f"e{i}" for i in range(60)]
    apart = held_out_donors(table(some * 5))
    assert held_out_donors(table((more + some) * 5)) & set(some) == apart
    assert held_out_donors(table(some[::-1] * 2)) == apart
    assert held_out_donors(table(some * 5), replace(CONFIG, seed=4)) != apart


def test_without_the_key_cells_are_held_out_as_before():
    obs = table(["a", "b"] * 50)
    mask = split_cells(obs, replace(CONFIG, donor_key=None), "x").held_out
    np.testing.assert_array_equal(mask, splitting.held_out_mask(obs.index, 0.2, 3))


def test_numbers_name_the_same_donors_in_whatever_type_they_come():
    whole = table(np.arange(30) % 10)
    as_float, as_text = whole.astype(float), whole.astype(str)
    for obs in (as_float, as_text, whole.astype("category")):
        np.testing.assert_array_equal(split_cells(obs, CONFIG, "x").held_out, split_cells(whole, CONFIG, "x").held_out)
    np.testing.assert_array_equal(donor_names(as_float, "donor", "x"), as_text["donor"])


@pytest.mark.parametrize("missing", [None, np.nan, "", " "])
def test_a_cell_without_a_donor_is_counted_and_refused(missing):
    with pytest.raises(BadInput, match=r"x: obs\['donor'\] lacks the donor of 2 of 5 cells"):
        split_cells(table(["a", missing, "b", missing, "c"]), CONFIG, "x")
    # Of cells that are not in use nobody asks.
    among = np.array([True, False, True, False, True])
    assert not split_cells(table(["a", missing, "b", missing, "c"]), CONFIG, "x", among=among).held_out[[1, 3]].any()


def test_other_mistakes():
    with pytest.raises(BadInput, match="x has no column 'patient' for donors; obs has donor"):
        split_cells(table(["a", "b"]), replace(CONFIG, donor_key="patient"), "x")
    with pytest.raises(BadInput, match="donor_key is 'split', a column that scrdit writes itself"):
        split_cells(table(["a", "b"]).assign(split="a"), replace(CONFIG, donor_key="split"), "x")
    for value in ("", 3, ["donor"]):
        with pytest.raises(BadConfig, match=r"donor_key is .*; it must be a text of 1 to"):
            DataConfig(donor_key=value)


def test_validation_cells_are_whole_donors_where_there_are_two():
    for seed in range(10):
        obs = table(["a", "b", "b", "c", "c", "c"] * 4)
        chosen = validation_mask(obs, replace(CONFIG, seed=seed))
        assert 0 < chosen.sum() < len(obs)
        assert not set(obs["donor"][chosen]) & set(obs["donor"][~chosen])
    of_one = validation_mask(table(["a"] * 40), CONFIG)
    assert 5 < of_one.sum() < 35
    np.testing.assert_array_equal(of_one, validation_mask(table(["a"] * 40), replace(CONFIG, donor_key=None)))


@pytest.fixture
def cells():
    rng = np.random.default_rng(2)
    counts = rng.poisson(2.0, (120, 25)).astype(np.float32)
    obs = table([f"P{i % 8}" for i in range(120)]).assign(cell_type=["T", "B", "B"] * 40)
    return anndata.AnnData(sparse.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=[f"G{j}" for j in range(25)]))


def test_prepared_cells_keep_the_donors_and_the_border(cells):
    prepared = prepare(cells, CONFIG, multiple_of=1, source="lung.h5ad")
    sides = [set(side.obs["donor"]) for side in (prepared.train, prepared.held_out)]
    assert not sides[0] & sides[1]
    assert len(sides[0] | sides[1]) == 8
    assert any(
        f"by 'donor', {len(sides[1])} of 8 donors are held out whole" in note for note in prepared.metadata.notes
    )
    again = DatasetMetadata.from_dict(json.loads(json.dumps(prepared.metadata.to_dict())))
    assert again == prepared.metadata
    assert again.donor_border is not None
    # Of a part of the file, which would be split otherwise, the border says who was trained on.
    part = cells[cells.obs["donor"].isin(sides[0])].copy()
    split = split_cells(part.obs, again.settings, "part", border=again.donor_border)
    assert not split.held_out.any()


def test_older_metadata_have_no_donors(cells):
    values = prepare(cells, DataConfig(genes=20, min_cells=1), multiple_of=1, source="x").metadata.to_dict()
    del values["donor_border"], values["settings"]["donor_key"]
    older = DatasetMetadata.from_dict({**values, "format": 4})
    assert (older.donor_border, older.settings.donor_key) == (None, None)


def test_streamed_and_joined_cells_are_split_alike(cells, tmp_path):
    prepared = prepare(cells, CONFIG, multiple_of=1, source="lung.h5ad")
    cells[:70].copy().write_h5ad(tmp_path / "one.h5ad")
    cells[50:].copy().write_h5ad(tmp_path / "two.h5ad")
    for stored in (False, True):
        both = load_prepared([tmp_path / "one.h5ad", tmp_path / "two.h5ad"], CONFIG, multiple_of=1, stored=stored)
        assert set(both.held_out.obs["donor"]) == set(prepared.held_out.obs["donor"])
    lacking = cells[50:].copy()
    del lacking.obs["donor"]
    with pytest.raises(BadInput, match="has no column 'donor', which data_1 has"):
        load_prepared([cells, lacking], CONFIG, multiple_of=1)


def test_a_model_that_is_trained_further_keeps_its_border(cells):
    known = prepare(cells, CONFIG, multiple_of=1, source="lung.h5ad")
    for donor in ("P0", "P1", "P2", "P3", "P4", "P5", "P6", "P7"):
        one = cells[cells.obs["donor"] == donor].copy()
        if donor in set(known.held_out.obs["donor"]):
            with pytest.raises(BadInput, match="0 of its 15 cells fall to training"):
                adapt(one, known.metadata, known.axes, CONFIG, source="one")
        else:
            assert adapt(one, known.metadata, known.axes, CONFIG, source="one").metadata.n_train == 15


def test_a_run_holds_out_whole_donors(cells, tiny_config, tmp_path):
    run = scrdit_jax.train(cells, out=tmp_path / "run", preset=tiny_config, donor_key="donor", steps=1, warmup_steps=0)
    held_out = anndata.read_h5ad(run.held_out_path)
    assert run.config().data.donor_key == "donor"
    assert 0 < held_out.obs["donor"].nunique() < 8
    assert not (held_out.obs["donor"].value_counts() < 15).any()
