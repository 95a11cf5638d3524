import anndata
import numpy as np
import pytest
from scipy import sparse

import scrdit_jax as scrdit
from scrdit_jax.checkpoint import load_model
from scrdit_jax.conditioning.request import Quotas
from scrdit_jax.config import DiffusionConfig, SamplingConfig
from scrdit_jax.errors import BadConfig, BadTimesteps
from scrdit_jax.generation.engine import Engine
from scrdit_jax.generation.request import SampleRequest
from scrdit_jax.generation.sample import sample
from scrdit_jax.generation.settings import coefficients_for
from scrdit_jax.provenance import Provenance


@pytest.fixture(scope="module")
def model(tiny_run):
    return load_model(tiny_run)


@pytest.mark.parametrize(
    ("options", "evaluations"),
    [
        ({"solver": "ddpm"}, 1000),
        ({"solver": "ddpm", "steps": 1000}, 1000),
        ({"solver": "ddim", "acceleration": 10.0}, 100),
        ({"solver": "ddim", "acceleration": 20.0, "schedule": "quadratic", "eta": 1.0}, 50),
        ({"solver": "ddim", "steps": 7, "schedule": "logsnr"}, 7),
        ({"solver": "dpmpp-2m"}, 25),
        ({"solver": "ddim", "schedule": "quadratic"}, 25),
    ],
)
def test_the_number_of_evaluations_is_the_one_asked_for(options, evaluations):
    table = coefficients_for(DiffusionConfig(), SamplingConfig(**options))
    assert len(table.timestep) == evaluations
    assert table.timestep[0] == 1000
    assert np.all(np.diff(table.timestep) < 0)
    assert (table.a[-1], table.b[-1], table.s[-1]) == pytest.approx((0, 1, 0), abs=1e-12)


def test_timesteps_come_from_a_file(tmp_path):
    path = tmp_path / "taus.json"
    path.write_text("[1000, 500, 1]")
    assert list(coefficients_for(DiffusionConfig(), SamplingConfig(schedule=str(path))).timestep) == [1000, 500, 1]
    with pytest.raises(BadTimesteps, match="holds 3 timesteps but 5 steps were asked for"):
        coefficients_for(DiffusionConfig(), SamplingConfig(schedule=str(path), steps=5))
    with pytest.raises(BadTimesteps, match=r"2000 steps are not within 2\.\.1000"):
        coefficients_for(DiffusionConfig(), SamplingConfig(steps=2000))


@pytest.mark.parametrize("options", [{"solver": "ddim", "eta": 1.0, "steps": 6}, {"solver": "dpmpp-2m", "steps": 6}])
def test_a_cell_does_not_depend_on_how_many_are_made_or_in_what_batches(model, options):
    def made(cells, **more):
        request = SampleRequest.of(
            model, Quotas.unlabelled(cells), SamplingConfig(**{"batch_size": 8} | options | more)
        )
        return sample(model, request).X.toarray()

    many = made(21)
    assert many.shape == (21, 24)
    for fewer in (11, 3):
        few = made(fewer)
        np.testing.assert_array_equal(few, many[:fewer])
    np.testing.assert_allclose(made(21, batch_size=16), many, rtol=1e-4, atol=1e-4)
    other_seed = made(21, seed=1)
    assert not np.allclose(other_seed, many)


def test_synthetic_cells_are_sparse_non_negative_and_carry_their_recipe(model, tiny_run):
    cells = scrdit.sample(tiny_run, 9, solver="ddim", steps=5, seed=3)
    assert sparse.issparse(cells.X)
    assert cells.X.format == "csr"
    assert cells.X.dtype == np.float32
    assert cells.X.data.min() > 0
    assert np.isfinite(cells.X.data).all()
    assert tuple(cells.var_names) == model.metadata.genes
    assert len(set(cells.obs_names)) == 9
    record = cells.uns["scrdit"]
    assert (record["solver"], record["network_evaluations"], record["seed"], record["cells"]) == ("ddim", 5, 3, 9)
    provenance = Provenance.from_uns(cells.uns)
    assert provenance.timesteps[0] == 20
    assert len(provenance.timesteps) == 5
    assert (provenance.models[0].config, provenance.metadata) == (model.config, model.metadata)


def test_no_cells_and_wrong_options_are_refused(tiny_run):
    with pytest.raises(BadConfig, match="cells is 0; it must be a whole number, 1 or more"):
        scrdit.sample(tiny_run, 0)
    with pytest.raises(BadConfig, match=r"dpmpp-2m takes no eta \(it was 0\.5\)"):
        scrdit.sample(tiny_run, 1, solver="dpmpp-2m", eta=0.5)
    with pytest.raises(BadConfig, match=r"distributional takes no eta \(it was 0\.5\); leave it out, or use ddim"):
        scrdit.sample(tiny_run, 1, eta=0.5)
    with pytest.raises(BadConfig, match="no solver 'euler'; there are ddim, ddpm, distributional"):
        scrdit.sample(tiny_run, 1, solver="euler")


@pytest.mark.slow
def test_new_cells_have_their_genes_in_the_files_order(tiny_cells, tiny_config, tmp_path, monkeypatch):
    """Whatever the order in which the network takes them: in memory, in files, and packed where they are made."""
    changes = {
        "gene_order": "coexpression",
        "gene_selection": "all",
        "fill_tokens": True,
        "condition_on": ["cell_type"],
    }
    run = scrdit.train(tiny_cells, out=tmp_path / "run", preset=tiny_config, **changes)
    model = load_model(run)
    assert model.metadata.genes != tuple(tiny_cells.var_names)
    cells = scrdit.sample(run, 300, steps=4, output="counts")
    assert tuple(cells.var_names) == tuple(tiny_cells.var_names)
    real = np.log1p(1e4 * tiny_cells.X.toarray() / tiny_cells.X.sum(axis=1)).mean(axis=0)
    # A model of marginals alone knows which genes are high; in the network's order it would not be so.
    assert np.corrcoef(np.asarray(real).ravel(), cells.X.toarray().mean(axis=0))[0, 1] > 0.9
    assert not cells.layers["counts"].toarray()[cells.X.toarray() == 0].any()
    monkeypatch.setattr(Engine, "packs", True)
    scrdit.sample(run, 300, steps=4, output="counts", out=tmp_path / "cells.h5ad")
    written = anndata.read_h5ad(tmp_path / "cells.h5ad")
    assert tuple(written.var_names) == tuple(tiny_cells.var_names)
    assert (written.X != cells.X).nnz == 0
    assert written.X.has_canonical_format
