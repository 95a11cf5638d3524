"""What processes that train together are conditioned on: the first one's axes, and the same labels and states."""

from dataclasses import replace

import numpy as np
import pytest

from scrdit_jax.api import prepare, sample, train
from scrdit_jax.checkpoint import load_model
from scrdit_jax.conditioning.state import StateSpace
from scrdit_jax.data.reordering import reordered
from scrdit_jax.errors import BadConfig, RunMismatch
from scrdit_jax.training import conditions, loop
from scrdit_jax.training.conditions import fit_table, in_shared_order, in_shared_space

CHANGES = {"condition_on": ["cell_type", "donor"], "derive": {"pc-scores": 3, "detected-genes": 1}}


@pytest.fixture(scope="module")
def prepared(labelled_cells, tiny_config):
    return prepare(labelled_cells, preset=tiny_config, **CHANGES)


@pytest.fixture
def join(prepared, monkeypatch):
    """Lets a process join the first, which has `prepared`: what it then trains on."""
    sent, texts = [], []
    with monkeypatch.context() as patch:
        patch.setattr(conditions, "broadcast", lambda value: sent.append(value) or value)
        patch.setattr(conditions, "broadcast_text", lambda text: texts.append(text) or text)
        in_shared_space(prepared, None)
    ((_, text),) = zip(sent, texts, strict=True)

    def join(own):
        monkeypatch.setattr(conditions, "broadcast", lambda _: sent[0])
        monkeypatch.setattr(conditions, "broadcast_text", lambda _: text)
        return in_shared_space(own, None)

    return join


def same_states(one, other) -> bool:
    return all((one.cells.obs[c.name] == other.cells.obs[c.name]).all() for c in other.metadata.state)


def test_one_process_keeps_its_states_and_its_axes_of_folds(prepared):
    alone = in_shared_space(prepared, None)
    assert alone.metadata == prepared.metadata
    assert len(alone.axes) > 1
    assert same_states(alone, prepared)


def test_another_processs_axes_give_way_to_those_of_the_first(prepared, join):
    """On another machine all loadings and moments differ a little."""
    turned = replace(prepared.space.columns[0], center=prepared.space.columns[0].center + 0.05)
    space = StateSpace((turned, *prepared.space.columns[1:]), prepared.axes * np.float32(1.01))
    own = prepared.in_space(space)
    assert not same_states(own, prepared)
    shared = join(own)
    assert same_states(shared, prepared)
    np.testing.assert_array_equal(shared.axes, prepared.axes[:1])
    assert shared.metadata == prepared.metadata


def test_a_run_that_goes_on_has_the_axes_of_its_checkpoint(prepared, tiny_config):
    other = prepared.in_space(StateSpace(prepared.space.columns, prepared.axes * np.float32(1.01)))
    assert not same_states(in_shared_space(other, None), prepared)
    assert same_states(in_shared_space(other, fit_table(prepared, tiny_config)), prepared)


@pytest.mark.parametrize("column", ["donor", "scrdit_detected_genes", "scrdit_pc_scores_2", "scrdit_library_size"])
def test_processes_with_other_conditions_are_refused(prepared, join, column):
    same = replace(prepared, cells=prepared.cells.copy())
    assert join(same).metadata == prepared.metadata
    changed = replace(prepared, cells=prepared.cells.copy())
    row = np.flatnonzero(changed.cells.obs["split"] == "train")[3]
    place = changed.cells.obs.columns.get_loc(column)
    was = changed.cells.obs.iloc[row, place]
    changed.cells.obs.iloc[row, place] = {"d1": "d2", "d2": "d1"}[was] if column == "donor" else was + 0.5
    with pytest.raises(RunMismatch, match="were not given the same labels or found other states; give each the same"):
        join(changed)


def test_counts_cannot_be_predicted_of_log_values_and_no_folder_is_left(labelled_cells, tiny_config, tmp_path):
    logs = labelled_cells.copy()
    logs.X = np.log1p(logs.X)
    options = {"preset": tiny_config, "prediction": "negative-binomial", "loss": "likelihood", "steps": 2}
    with pytest.raises(BadConfig, match="needs each cell's library size, which cells that were no raw counts do not"):
        train(logs, out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow  # compiles for long
def test_a_model_of_counts_makes_whole_counts(labelled_cells, tiny_config, tmp_path):
    options = {"prediction": "negative-binomial", "loss": "likelihood", "steps": 4, **CHANGES}
    run = train(labelled_cells, out=tmp_path / "run", preset=tiny_config, **options)
    made = sample(run, 12, steps=2, batch_size=4, output="counts")
    target = load_model(run).metadata.normalization.target_sum
    values = np.expm1(made.X.toarray()) * (made.obs["library_size"].to_numpy() / target)[:, None]
    assert values.any()
    np.testing.assert_allclose(values, np.round(values), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_a_run_keeps_to_the_order_of_genes_that_it_began_with(labelled_cells, tiny_config, tmp_path, monkeypatch):
    """On another machine other genes may go together; processes take the first one's order."""
    changes = {"gene_order": "coexpression", "derive": {"pc-scores": 2}, "clip": True, "quantiles": 3}
    config = tiny_config.with_settings(changes)
    prepared = prepare(labelled_cells, preset=config)
    turned = reordered(prepared, prepared.metadata.gene_order[::-1])
    assert turned.metadata.genes == prepared.metadata.genes[::-1]
    assert reordered(turned, prepared.metadata.gene_order).metadata == prepared.metadata
    np.testing.assert_array_equal(turned.cells.X.toarray(), prepared.cells.X.toarray()[:, ::-1])
    half = loop.TrainingOptions(stop_after=6)
    loop.train(prepared, config, tmp_path / "run", half)
    loop.train(turned, config, tmp_path / "run")
    loop.train(prepared, config, tmp_path / "whole")
    assert load_model(tmp_path / "run").digest == load_model(tmp_path / "whole").digest
    first = np.array(prepared.metadata.gene_order)
    monkeypatch.setattr(conditions, "broadcast", lambda _: first)
    assert in_shared_order(turned, None).metadata == prepared.metadata
