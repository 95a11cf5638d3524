"""The default sampler of a model that predicts a distribution: what a request is resolved to, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import scrdit_jax as scrdit_jax
from scrdit_jax.checkpoint import Model, load_model
from scrdit_jax.conditioning.request import Quotas
from scrdit_jax.config import RunConfig, SamplingConfig
from scrdit_jax.diffusion.schedule import linear_schedule
from scrdit_jax.errors import BadConfig, BadTimesteps
from scrdit_jax.generation.composition import dense_batches
from scrdit_jax.generation.engine import make_engine
from scrdit_jax.generation.outputs import write_timesteps
from scrdit_jax.generation.program import network_of
from scrdit_jax.generation.settings import coefficients_for, resolve_sampling
from scrdit_jax.provenance import Provenance
from scrdit_jax.sampling.sampler import cell_keys, draw_keys, integrate
from scrdit_jax.sampling.solvers import noise_levels
from scrdit_jax.sampling.solvers.distributional import distributional
from scrdit_jax.training.state import initial_state


@pytest.fixture(scope="module")
def model(tiny_run):
    return load_model(tiny_run)


@pytest.fixture(scope="module")
def noise_model(tiny_cells, tiny_config, tmp_path_factory):
    """A run whose prediction is no distribution."""
    changes = {"prediction": "epsilon", "steps": 2}
    return scrdit_jax.train(tiny_cells, out=tmp_path_factory.mktemp("epsilon") / "run", preset=tiny_config, **changes)


def cells_of(model, cells=16, *, devices=None, **options):
    config = SamplingConfig(**{"batch_size": 8} | options)
    return np.concatenate(list(dense_batches(make_engine(model, config, devices=devices), cells)))


def test_a_request_is_resolved_whole_and_recorded_so(tiny_run):
    record = Provenance.from_uns(scrdit_jax.sample(tiny_run, 3, batch_size=4).uns)
    sampling = record.sampling
    assert (sampling["solver"], sampling["steps"], sampling["schedule"], sampling["dtype"]) == (
        "distributional", 4, "interior", "float32"
    )  # fmt: skip
    assert record.network_evaluations == len(record.timesteps) == 4


def test_resolving_twice_changes_nothing_and_what_was_begun_keeps_its_dtype(model):
    once = resolve_sampling(model, SamplingConfig())
    assert resolve_sampling(model, once) == once
    assert resolve_sampling(model, SamplingConfig(), dtype="bfloat16").dtype == "bfloat16"
    assert resolve_sampling(model, SamplingConfig(dtype="float32"), dtype="bfloat16").dtype == "float32"


@pytest.mark.parametrize("steps", [1, 4])
def test_a_cell_does_not_depend_on_number_batches_or_devices(model, steps):
    whole = cells_of(model, steps=steps)
    np.testing.assert_array_equal(cells_of(model, 5, steps=steps), whole[:5])
    np.testing.assert_array_equal(cells_of(model, 11, steps=steps), whole[:11])
    # A gene that falls on the other side of its threshold by rounding would be a whole value off: none does here.
    np.testing.assert_allclose(cells_of(model, steps=steps, batch_size=4), whole, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        cells_of(model, steps=steps, devices=jax.local_devices()[:1]), whole, rtol=1e-4, atol=1e-4
    )
    assert not np.allclose(cells_of(model, steps=steps, seed=1), whole)
    assert 0.05 < np.mean(whole == 0) < 0.95
    assert np.isfinite(whole).all()


@pytest.mark.parametrize("steps", [1, 4])
def test_a_network_that_tells_the_marginals_gives_cells_of_these_marginals(model, steps):
    """End to end, from noise to the log scale; levels from T on, where noise is all there is, so that it is exact."""
    random, cells = np.random.default_rng(steps), 4096
    shares, means, spreads = random.uniform(0.02, 0.98, 24), random.uniform(3, 6, 24), random.uniform(0.2, 0.5, 24)
    said = np.stack([np.log(shares / (1 - shares)), means, np.log(spreads)], axis=-1).astype(np.float32)

    def at_marginals(params, _):
        return {"params": params["params"] | {"gene_bias": jnp.asarray(said)}}

    state = initial_state(network_of(model)[0], 24, model.config.training, initial_params=at_marginals)
    stating = Model(model.config, model.metadata, jax.device_get(state.params), 0)
    levels = noise_levels(linear_schedule(model.config.diffusion), np.array([20, 15, 9, 4])[:steps])
    config = SamplingConfig(batch_size=512, steps=steps)
    engine = make_engine(stating, config, coefficients=distributional(levels))
    made = np.concatenate(list(dense_batches(engine, cells)))
    present = made > 0
    assert np.all(np.abs(present.mean(axis=0) - shares) < 4.5 * np.sqrt(shares * (1 - shares) / cells))
    # One test for all values: of 24 at 1 %, one in five would fail by chance.
    assert stats.kstest(((made - means) / spreads)[present], "norm").pvalue > 0.01
    # Genes are independent of each other.
    correlation = np.corrcoef(present.T) - np.eye(24)
    assert np.abs(correlation).max() < 4.5 / np.sqrt(cells)


@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_cells_are_drawn_from_what_the_network_tells_of_their_labels(labelled_run, guidance):
    """Oracle: the whole network once a cell with its own label, guided by the formula; 2e-4 on the log scale."""
    model = load_model(labelled_run)
    named = [{"labels": ["T cell", "d1"], "cells": 9}, {"labels": ["B cell", "d1"], "cells": 7}]
    quotas = Quotas.from_named(named, model.metadata.variables)
    (network, prediction), params = network_of(model), jax.device_put(model.params)
    config = SamplingConfig(batch_size=8, steps=4, guidance=guidance)
    table = coefficients_for(model.config.diffusion, config)
    codes = np.repeat(quotas.codes, quotas.counts, axis=0)
    own, none = jnp.asarray(codes, jnp.int32), jnp.full((16, 2), -1, jnp.int32)
    keys = cell_keys(jax.random.key(0), jnp.arange(16))

    def predict_clean(noisy, alpha_bar, row):
        timestep, noise = row
        there, plain = (network.apply(params, noisy, jnp.full(16, timestep), labels) for labels in (own, none))
        log_odds_and_mean = (1 - guidance) * plain[..., :2] + guidance * there[..., :2]
        predicted = jnp.concatenate([log_odds_and_mean, there[..., 2:]], axis=-1)
        return prediction.draw(noisy, predicted, alpha_bar, draw_keys(keys, timestep), noise=noise)

    rows = jnp.asarray(table.timestep), jnp.asarray(table.s / table.b, jnp.float32)
    slow = jax.jit(lambda: integrate(predict_clean, keys, table, rows, genes=24, noise=False))()
    expected = np.asarray(model.metadata.scaling.unscale(slow.cells))
    made = np.concatenate(list(dense_batches(make_engine(model, config, quotas), 16)))
    np.testing.assert_allclose(made, expected, atol=2e-4)


def test_guidance_is_of_the_distribution(labelled_run):
    model = load_model(labelled_run)
    quotas = Quotas.from_named([{"labels": ["T cell", "d1"], "cells": 16}], model.metadata.variables)

    def made(guidance):
        engine = make_engine(model, SamplingConfig(batch_size=8, guidance=guidance), quotas)
        return np.concatenate(list(dense_batches(engine, 16)))

    assert np.isfinite(made(3.0)).all()
    assert not np.array_equal(made(3.0), made(1.0))


def test_a_model_without_a_distribution_refuses_it_and_takes_another(noise_model, scrdit):
    record = scrdit_jax.sample(noise_model, 2, batch_size=4).uns["scrdit"]
    assert (record["solver"], record["network_evaluations"]) == ("dpmpp-2m", 20)  # 25, but T is 20
    status, text = scrdit("sample", noise_model.path, "--cells", 2, "--solver", "distributional", "--out", "x.h5ad")
    assert status == 2
    assert len(text.strip().splitlines()) == 1
    assert "this one predicts epsilon, which is none; use another, such as dpmpp-2m" in text


def test_its_loss_needs_a_distribution_too(tiny_config):
    with pytest.raises(BadConfig, match="loss is 'likelihood', which a prediction of v does not have; use --pred"):
        tiny_config.with_settings({"prediction": "v", "loss": "likelihood"})
    with pytest.raises(BadConfig, match="loss is 'guess'; it must be one of likelihood, squared-error"):
        RunConfig.from_dict({"training": {"loss": "guess"}})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"steps": 21}, r"21 steps are not within 1\.\.20; ask for fewer"),
        ({"steps": 4, "schedule": "fitted"}, "carries no timesteps fitted to 4 steps; leave --schedule out"),
        ({"solver": "unipc", "steps": 4, "schedule": "fitted"}, "no timesteps fitted to solver unipc"),
        ({"steps": 1, "schedule": "uniform"}, "schedule uniform has 2 steps or more; .* interior"),
    ],
)
def test_steps_and_schedules_that_cannot_be_are_refused(model, options, said):
    with pytest.raises(BadTimesteps, match=said):
        settle_and_tabulate(model, SamplingConfig(**options))
    with pytest.raises(BadConfig, match="steps is 0; it must be a whole number, 1 or more"):
        SamplingConfig(steps=0)


def settle_and_tabulate(model, config):
    return coefficients_for(model.config.diffusion, resolve_sampling(model, config), model)


def test_a_fitted_file_is_for_its_own_model_and_solver(model, tiny_run, tmp_path, scrdit):
    path = tmp_path / "fitted.json"
    config = SamplingConfig(schedule=str(path))
    write_timesteps([15, 8, 2], path, solver="distributional", model=model.digest)
    assert settle_and_tabulate(model, config).timestep.tolist() == [15, 8, 2]
    with pytest.raises(BadTimesteps, match="holds 3 timesteps but 5 steps were asked for; leave out --steps"):
        settle_and_tabulate(model, SamplingConfig(schedule=str(path), steps=5))
    with pytest.raises(BadTimesteps, match="fitted for solver distributional, not unipc; use --solver distributional"):
        settle_and_tabulate(model, SamplingConfig(schedule=str(path), solver="unipc"))
    write_timesteps([15, 8, 2], path, solver="distributional", model="another")
    status, text = scrdit("sample", tiny_run.path, "--cells", 2, "--schedule", path, "--out", "x.h5ad")
    assert status == 2
    assert text.strip().endswith("was fitted to another model; make one for this by 'scrdit schedule'")
    for values, said in (("8 15", "15 follows 8"), ("15 0", "timestep 0 is outside 1..20"), ("21 2", "timestep 21")):
        path.write_text(values)
        status, text = scrdit("sample", tiny_run.path, "--cells", 2, "--schedule", path, "--out", "x.h5ad")
        assert status == 2
        assert said in text
        assert len(text.strip().splitlines()) == 1
