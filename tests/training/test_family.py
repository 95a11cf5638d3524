"""One run for each type in one folder, which samples, evaluates and describes itself as one model."""

import anndata
import numpy as np
import pytest
from scipy.stats import ks_2samp

import scrdit_jax as scrdit
from scrdit_jax.api import describe, prepare
from scrdit_jax.checkpoint import load_model
from scrdit_jax.conditioning.request import Quotas
from scrdit_jax.config import SamplingConfig
from scrdit_jax.errors import BadInput, OutputExists, RunMismatch
from scrdit_jax.evaluation.cells import compared_cells
from scrdit_jax.families import FamilyFolder, load
from scrdit_jax.generation.composition import dense_batches
from scrdit_jax.generation.engine import make_engine
from scrdit_jax.generation.request import SampleRequest
from scrdit_jax.generation.sample import sample
from scrdit_jax.training.family import train_family


@pytest.fixture(scope="module")
def family(tiny_cells, tiny_config, tmp_path_factory):
    cells = tiny_cells.copy()
    cells.obs["cell_type"] = cells.obs["cell_type"].cat.add_categories(["Mast"])
    cells.obs.iloc[:3, 0] = "Mast"
    out = tmp_path_factory.mktemp("family") / "family"
    said = []
    run = scrdit.train(cells, out=out, preset=tiny_config, per_cell_type=True, on_notes=said.extend)
    assert any(line.startswith("Mast: left out") for line in said)
    return run, cells


def test_a_family_samples_each_type_from_its_own_model(family):
    run, _ = family
    family = load(run)
    assert family.variable.categories == ("B cell", "T cell")
    sampling = SamplingConfig(steps=4, batch_size=8)
    request = SampleRequest.of(family, Quotas(((0,), (1,)), (5, 7)), sampling)
    both = sample(family, request, progress=False).X.toarray()
    # Each member by itself: cell i is the same, as its key is that of cell i.
    for name, part in (("B cell", slice(0, 5)), ("T cell", slice(5, 12))):
        alone = load_model(run.path / FamilyFolder.read(run.path).members[name])
        assert set(alone.metadata.cell_types) == {name}
        cells = np.concatenate(list(dense_batches(make_engine(alone, sampling), 12)))
        np.testing.assert_array_equal(both[part], cells[part])
    assert not np.allclose(both[:5], cells[:5], atol=1e-3)


def test_quotas_counts_and_files_of_a_family(family, tmp_path):
    run, cells = family
    quotas = {"T cell": 6, "B cell": 3}
    options = {"steps": 3, "output": "counts", "batch_size": 4}
    memory = scrdit.sample(run, per_type=quotas, **options)
    file = anndata.read_h5ad(scrdit.sample(run, per_type=quotas, **options, out=tmp_path / "cells.h5ad"))
    assert file.obs["cell_type"].value_counts().to_dict() == quotas
    np.testing.assert_array_equal(file.layers["counts"].toarray(), memory.layers["counts"].toarray())
    np.testing.assert_array_equal(file.X.toarray(), memory.X.toarray())
    # Each type has the library sizes of its own model, which are those of its own cells.
    for name, part in (("T cell", slice(0, 6)), ("B cell", slice(6, 9))):
        alone = scrdit.sample(run.path / FamilyFolder.read(run.path).members[name], 9, **options)
        np.testing.assert_array_equal(file.obs["library_size"][part], alone.obs["library_size"][part])
    sums = np.asarray(cells.X.sum(axis=1)).ravel()
    many = scrdit.sample(run, per_type={"T cell": 400, "B cell": 400}, steps=1, output="counts", batch_size=400).obs
    for name, other in (("T cell", "B cell"), ("B cell", "T cell")):
        drawn = many.loc[many["cell_type"] == name, "library_size"]
        known, others = (sums[(cells.obs["cell_type"] == which).to_numpy()] for which in (name, other))
        assert ks_2samp(drawn, known).statistic < 0.2
        assert ks_2samp(drawn, others).statistic > 0.5
    real = compared_cells(run.path, file).held_out
    assert set(real.obs["cell_type"]) == {"B cell", "T cell"}
    assert real.n_obs > 10
    assert "family" in describe(run.path)[0]
    assert "step 12 of 12" in describe(run.path)[1]


def test_a_family_goes_on_where_it_stopped_and_refuses_another(family, tiny_config, tiny_cells):
    run, cells = family
    before = sorted(p.stat().st_mtime_ns for p in run.path.rglob("held_out.h5ad"))
    scrdit.train(cells, out=run.path, preset=tiny_config, per_cell_type=True)
    assert before == sorted(p.stat().st_mtime_ns for p in run.path.rglob("held_out.h5ad"))
    with pytest.raises(RunMismatch, match="holds a run of other settings"):
        scrdit.train(cells, out=run.path, preset=tiny_config, per_cell_type=True, batch_size=4)
    with pytest.raises(RunMismatch, match="is a family of runs; give the folder of one of them"):
        scrdit.fit_schedule(run.path, 4)
    with pytest.raises(OutputExists, match="holds something that is no"):
        scrdit.train(tiny_cells, out=run.path, preset=tiny_config)


def test_what_cannot_be_a_family(tiny_cells, tiny_config, tmp_path):
    plain = tiny_cells.copy()
    del plain.obs["cell_type"]
    with pytest.raises(BadInput, match="has no column of cell types that is known; pass one as --cell-type-key"):
        train_family(prepare(plain, preset=tiny_config), tiny_config, tmp_path / "a")
    both = prepare(tiny_cells, preset=tiny_config, condition_on=["cell_type"])
    with pytest.raises(BadInput, match="give one of them"):
        train_family(both, tiny_config, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_folders_have_names_that_every_system_takes():
    family = FamilyFolder.of("t", {"CD14+ Mono/cytes": 20, "CD14 mono cytes": 20, "..": 20, "few": 3}, least=10)
    assert family.members == {
        "CD14+ Mono/cytes": "CD14_Mono_cytes",
        "CD14 mono cytes": "CD14_mono_cytes_2",
        "..": "type",
    }
    assert family.left_out == {"few": 3}
