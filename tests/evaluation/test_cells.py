"""Where the cells of an evaluation come from: runs, files, the embedded cells; which are known to be training cells."""

import json
import shutil

import numpy as np
import pytest

import scrdit_jax
from scrdit_jax.errors import BadInput
from scrdit_jax.evaluation.cells import compared_cells
from scrdit_jax.provenance import ModelRecord, Provenance


@pytest.fixture(scope="module")
def synthetic(tiny_run):
    return scrdit_jax.sample(tiny_run, 40, steps=3)


def test_a_file_holds_training_and_held_out_cells(tiny_run, tiny_cells, synthetic):
    found = compared_cells(tiny_cells, synthetic)
    names = [list(cells.obs_names) for cells in (found.held_out, found.training)]
    assert sorted([*names[0], *names[1]]) == sorted(tiny_cells.obs_names)
    assert not set(names[0]) & set(names[1])
    from_run = compared_cells(tiny_run.path, synthetic)
    assert list(from_run.held_out.obs_names) == names[0]
    assert list(found.training.var_names) == list(from_run.held_out.var_names)


def test_a_run_says_to_give_the_file(tiny_run, synthetic):
    found = compared_cells(tiny_run.path, synthetic)
    assert found.training is None
    assert "evaluate with the file the model was trained on (AnnData in memory) instead of the run" in found.no_training


def test_cells_that_are_not_those_of_the_training_are_no_originals(tiny_cells, synthetic):
    found = compared_cells(tiny_cells[:70].copy(), synthetic)
    assert found.training is None
    assert found.held_out.n_obs > 10
    assert "is not the file the model was trained on" in found.no_training


def test_a_run_samples_the_same_cells_without_its_real_ones(tiny_run, synthetic, tmp_path):
    shutil.copytree(tiny_run.path, tmp_path / "given")
    (tmp_path / "given/held_out.h5ad").unlink()
    assert (scrdit_jax.sample(tmp_path / "given", 40, steps=3).X != synthetic.X).nnz == 0
    with pytest.raises(BadInput, match="has no held-out cells"):
        compared_cells(tmp_path / "given", synthetic)
    real_cells = "real cells: delete it"
    assert real_cells in "\n".join(scrdit_jax.api.describe(tiny_run.path))
    assert real_cells not in "\n".join(scrdit_jax.api.describe(tmp_path / "given"))


@pytest.mark.slow
def test_a_streamed_run_keeps_its_training_cells(tiny_cells, tiny_config, tmp_path):
    tiny_cells.write_h5ad(tmp_path / "cells.h5ad")
    # So few genes that they are copied into the run.
    changes = {"genes": 16, "gene_selection": "cv", "stream": True}
    run = scrdit_jax.train(tmp_path / "cells.h5ad", out=tmp_path / "run", preset=tiny_config, **changes)
    assert run.cells_path.exists()
    synthetic = scrdit_jax.sample(run, 40, steps=3)
    found, from_file = compared_cells(run.path, synthetic), compared_cells(tmp_path / "cells.h5ad", synthetic)
    assert list(found.training.obs_names) == list(from_file.training.obs_names)
    x = found.training.X[:, np.arange(16)]
    np.testing.assert_allclose(x[:10].toarray(), from_file.training.X[:10].toarray(), rtol=1e-5)
    # They stay on the disk, and are scored from there as from memory.
    on_disk, in_memory = (
        scrdit_jax.evaluate(real, synthetic, repeats=2) for real in (run.path, tmp_path / "cells.h5ad")
    )
    assert on_disk.privacy.copying.training_cells == found.training.n_obs
    for name, values in on_disk.privacy.copying.values.items():
        for candidate, estimate in values.items():
            assert estimate.mean == pytest.approx(in_memory.privacy.copying.values[name][candidate].mean, abs=0.03)
    # Classifiers of types learn from them, too.
    assert on_disk.utility.learnt_from == in_memory.utility.learnt_from == "training cells"
    assert on_disk.utility.learnt_cells == in_memory.utility.learnt_cells == found.training.n_obs
    accuracy = [
        report.utility.classifiers["logistic"]["accuracy"]["real vs real"].mean for report in (on_disk, in_memory)
    ]
    assert accuracy[0] == pytest.approx(accuracy[1], abs=0.1)
    other = synthetic.copy()
    record = json.loads(other.uns["scrdit"]["provenance"])
    record["models"][0]["metadata"]["digest"] = "another"
    other.uns["scrdit"]["provenance"] = json.dumps(record)
    found = compared_cells(run.path, other)
    assert found.training is None
    assert "trained on other cells than the run" in found.no_training


def as_if_sampled(prepared, config):
    """The held-out cells with the record of a model of the others."""
    synthetic = prepared.held_out.copy()
    record = Provenance(
        cells=synthetic.n_obs,
        quotas=(),
        variables=(),
        sampling={"solver": "ddim", "seed": 0, "output": "log"},
        timesteps=(20, 10),
        network_evaluations=2,
        models=(ModelRecord("digest", 12, config, prepared.metadata),),
        version="1",
    )
    synthetic.uns["scrdit"] = record.to_uns()
    return synthetic


def test_whole_donors_are_told_apart_as_in_the_training(tiny_cells, tiny_config):
    cells = tiny_cells.copy()
    cells.obs["donor"] = [f"P{i % 9}" for i in range(cells.n_obs)]
    prepared = scrdit_jax.prepare(cells, preset=tiny_config, donor_key="donor")
    synthetic = as_if_sampled(prepared, tiny_config)
    found = compared_cells(cells, synthetic)
    assert found.donor_key == "donor"
    assert list(found.training.obs_names) == list(prepared.train.obs_names)
    assert not set(found.training.obs["donor"]) & set(found.held_out.obs["donor"])
    # Without some of the donors, too, whose shares would set the border elsewhere.
    some = cells[cells.obs["donor"] != prepared.train.obs["donor"].iloc[0]].copy()
    assert set(compared_cells(some, synthetic).held_out.obs_names) == set(found.held_out.obs_names)
    del cells.obs["donor"]
    with pytest.raises(BadInput, match="has no column 'donor' for donors"):
        compared_cells(cells, synthetic)


def test_the_embedded_cells_are_at_hand(tiny_config, tmp_path):
    prepared = scrdit_jax.prepare("pbmc3k", preset=tiny_config, genes=40, cell_types=["NK cells"])
    (tmp_path / "run").mkdir()
    prepared.held_out.copy().write_h5ad(tmp_path / "run/held_out.h5ad")
    synthetic = as_if_sampled(prepared, tiny_config)
    found = compared_cells(tmp_path / "run", synthetic)
    assert list(found.training.obs_names) == list(prepared.train.obs_names)
    np.testing.assert_allclose(found.training.X.toarray(), prepared.train.X.toarray(), rtol=1e-5)


def test_cells_without_a_record_are_taken_as_they_are(tiny_run, tiny_cells, synthetic):
    foreign = synthetic.copy()
    del foreign.uns["scrdit"]
    found = compared_cells(tiny_cells, foreign)
    assert found.held_out.n_obs == 90
    assert found.training is None
    assert "do not say what they were trained on" in found.no_training
    assert compared_cells(tiny_run.path, foreign).training is None


def test_a_record_that_cannot_be_read_is_refused(tiny_cells, synthetic):
    broken = synthetic.copy()
    broken.uns["scrdit"] = {"provenance": "{}"}
    with pytest.raises(BadInput, match="record of what made them cannot be read"):
        compared_cells(tiny_cells, broken)


def test_a_split_column_of_the_users_own_is_no_split(tiny_cells, synthetic):
    cells = tiny_cells.copy()
    cells.obs["split"] = "fold 1"
    found = compared_cells(cells, synthetic)
    assert list(found.held_out.obs_names) == list(compared_cells(tiny_cells, synthetic).held_out.obs_names)


def test_the_command_scores_memorisation_from_the_file_and_says_how_from_a_run(
    scrdit, tiny_run, tiny_cells, synthetic, tmp_path
):
    tiny_cells.write_h5ad(tmp_path / "counts.h5ad")
    synthetic.write_h5ad(tmp_path / "cells.h5ad")
    status, text = scrdit("evaluate", "counts.h5ad", "cells.h5ad", "--out", "of_file", "--repeats", 1)
    found = json.loads((tmp_path / "of_file/report.json").read_text())["privacy"]["copying"]
    assert status == 0
    assert "Nearer to a training cell than 95 % of held-out cells" in text
    assert found["training_cells"] + found["held_out_cells"] == 90
    status, text = scrdit("evaluate", tiny_run.path, "cells.h5ad", "--out", "of_run", "--repeats", 1)
    assert status == 0
    assert "Privacy was not scored: a run does not keep its training cells; evaluate with the file" in text
    assert json.loads((tmp_path / "of_run/report.json").read_text())["privacy"] is None
