import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse

import scrdit_jax as scrdit
from scrdit_jax.checkpoint import load_model
from scrdit_jax.config import DiffusionConfig, SamplingConfig
from scrdit_jax.data.scaling import Scaling
from scrdit_jax.diffusion.predictions import make_prediction
from scrdit_jax.errors import BadConfig, BadTimesteps, Diverged
from scrdit_jax.generation.run import coefficients_for, sample, sample_batch, sample_batches
from scrdit_jax.networks.dit import DiT

SCALING = Scaling(-10.0, -8.0, 4.0)


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
    assert table.timestep[0] == 1000 and np.all(np.diff(table.timestep) < 0)
    assert (table.a[-1], table.b[-1], table.s[-1]) == pytest.approx((0, 1, 0), abs=1e-12)


def test_timesteps_come_from_a_file(tmp_path):
    path = tmp_path / "taus.json"
    path.write_text("[1000, 500, 1]")
    assert list(coefficients_for(DiffusionConfig(), SamplingConfig(schedule=str(path))).timestep) == [1000, 500, 1]
    with pytest.raises(BadTimesteps, match="holds 3 timesteps but 5 steps were asked for"):
        coefficients_for(DiffusionConfig(), SamplingConfig(schedule=str(path), steps=5))
    with pytest.raises(BadTimesteps, match=r"2000 steps are not within 1\.\.1000"):
        coefficients_for(DiffusionConfig(), SamplingConfig(steps=2000))


@pytest.mark.parametrize("options", [{"solver": "ddim", "eta": 1.0, "steps": 6}, {"solver": "dpmpp-2m", "steps": 6}])
def test_a_cell_does_not_depend_on_how_many_are_made_or_in_what_batches(model, options):
    many = sample(model, 21, SamplingConfig(batch_size=8, **options)).X.toarray()
    assert many.shape == (21, 24)
    np.testing.assert_array_equal(sample(model, 11, SamplingConfig(batch_size=8, **options)).X.toarray(), many[:11])
    np.testing.assert_allclose(
        sample(model, 21, SamplingConfig(batch_size=16, **options)).X.toarray(), many, rtol=1e-4, atol=1e-4
    )
    other_seed = sample(model, 21, SamplingConfig(batch_size=8, seed=1, **options)).X.toarray()
    assert not np.allclose(other_seed, many)


def test_synthetic_cells_are_sparse_non_negative_and_carry_their_recipe(model, tiny_run):
    cells = scrdit.sample(tiny_run, 9, solver="ddim", steps=5, seed=3)
    assert sparse.issparse(cells.X) and cells.X.format == "csr" and cells.X.dtype == np.float32
    assert cells.X.data.min() > 0 and np.isfinite(cells.X.data).all()
    assert tuple(cells.var_names) == model.facts.genes and len(set(cells.obs_names)) == 9
    record = cells.uns["scrdit"]
    assert (record["solver"], record["network_evaluations"], record["seed"], record["cells"]) == ("ddim", 5, 3, 9)
    assert json.loads(record["timesteps"])[0] == 20 and json.loads(record["config"]) == model.config.to_dict() | {
        "data": model.config.to_dict()["data"] | {"cell_types": []}
    }


def test_bfloat16_stays_near_float32(model):
    options = {"solver": "ddim", "steps": 10, "batch_size": 64}
    single = sample(model, 64, SamplingConfig(**options)).X.toarray()
    half = sample(model, 64, SamplingConfig(dtype="bfloat16", **options)).X.toarray()
    # A value at the threshold may fall on either side of zero, so the bulk is compared.
    assert np.median(np.abs(single - half)) < 0.05 and abs(single.mean() - half.mean()) < 0.05


def test_changing_solver_or_schedule_at_equal_length_does_not_compile_again(model):
    list(sample_batches(model, 8, SamplingConfig(solver="ddim", steps=9, batch_size=8)))
    before = sample_batch._cache_size()
    for options in ({"solver": "ddim", "eta": 0.7}, {"solver": "ddpm"}, {"schedule": "quadratic"}, {"seed": 5}):
        list(sample_batches(model, 8, SamplingConfig(steps=9, batch_size=8, **options)))
    assert sample_batch._cache_size() == before


def test_values_that_are_not_finite_stop_with_the_cells_named(model):
    params = jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), model.params)
    broken = type(model)(model.config, model.facts, params, model.step)
    with pytest.raises(Diverged, match="cells 0 to 4 hold values that are not finite"):
        sample(broken, 5, SamplingConfig(steps=3))


def test_no_cells_and_wrong_options_are_refused(model, tiny_run):
    with pytest.raises(BadConfig, match="0 cells were asked for; ask for at least 1"):
        sample(model, 0, SamplingConfig())
    with pytest.raises(BadConfig, match=r"dpmpp-2m takes no eta \(it was 0\.5\)"):
        scrdit.sample(tiny_run, 1, eta=0.5)
    with pytest.raises(BadConfig, match="no solver 'euler'; there are ddpm, ddim"):
        scrdit.sample(tiny_run, 1, solver="euler")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_sampler_lowers_for_every_platform(model, dtype):
    table = coefficients_for(model.config.diffusion, SamplingConfig(solver="ddim", eta=1.0, steps=5))

    def run(params, indices):
        return sample_batch(
            params, jnp.uint32(0), indices, table, network=DiT(model.config.network, 24, 3),
            prediction=make_prediction("zero-inflated", SCALING), scaling=SCALING, dtype=dtype,
        )  # fmt: skip

    platforms = ["cpu", "cuda", "tpu"]
    exported = jax.export.export(jax.jit(run), platforms=platforms)(model.params, jnp.arange(4))
    assert set(exported.platforms) == set(platforms) and len(exported.mlir_module_serialized) > 10_000
