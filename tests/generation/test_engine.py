"""The compiled sampler: what it costs, what it may be off by, and what it says when it cannot go on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scrdit_jax.checkpoint import load_model
from scrdit_jax.conditioning.prior.mixture import fit_mixture
from scrdit_jax.config import SamplingConfig
from scrdit_jax.data.scaling import Scaling
from scrdit_jax.diffusion.predictions import ZeroInflated, make_prediction
from scrdit_jax.errors import BadConfig, Diverged
from scrdit_jax.generation import program
from scrdit_jax.generation.composition import dense_batches
from scrdit_jax.generation.conditions import NewConditions, States
from scrdit_jax.generation.engine import make_engine
from scrdit_jax.generation.program import Guide, Method, Sampled, prepare, sample_batch
from scrdit_jax.generation.settings import coefficients_for
from scrdit_jax.networks import conditioning_params
from scrdit_jax.networks.dit import DiT
from scrdit_jax.sampling.sampler import cell_keys, integrate

SCALING = Scaling(-10.0, -8.0, 4.0)


@pytest.fixture(scope="module")
def model(tiny_run):
    return load_model(tiny_run)


def cells_of(model, cells: int, **options) -> np.ndarray:
    return np.concatenate(list(dense_batches(make_engine(model, SamplingConfig(**options)), cells)))


def test_batches_have_one_shape_and_the_tail_is_cut_off(model):
    engine = make_engine(model, SamplingConfig(solver="ddim", steps=4, batch_size=8))
    assert engine.batch_size == 8
    assert len(engine.devices) == 2
    assert engine.evaluations == 4
    assert [len(batch) for batch in dense_batches(engine, 21)] == [8, 8, 5]
    assert engine.dispatch(16).cells.shape == (8, 24)


def test_one_device_and_two_give_the_same_cells(model):
    options = {"solver": "ddim", "eta": 1.0, "steps": 6, "batch_size": 8}
    one = make_engine(model, SamplingConfig(**options), devices=jax.local_devices()[:1])
    assert len(one.devices) == 1
    one = np.concatenate(list(dense_batches(one, 16)))
    np.testing.assert_allclose(cells_of(model, 16, **options), one, rtol=1e-5, atol=1e-5)


def test_shared_out_batches_need_no_exchange_between_devices(model):
    text = make_engine(model, SamplingConfig(solver="ddpm", steps=5, batch_size=8)).program.compiled.as_text()
    assert not [word for word in ("all-reduce", "all-gather", "collective-permute", "all-to-all") if word in text]


def test_a_batch_takes_the_place_of_the_one_that_is_donated(model):
    engine = make_engine(model, SamplingConfig(solver="ddim", steps=4, batch_size=8))
    assert engine.program.compiled.memory_analysis().alias_size_in_bytes == 4 * 24 * 4  # a device's cells, float32
    spare = engine.empty()
    engine.dispatch(0, spare)
    assert spare.is_deleted()


def test_changing_solver_or_schedule_at_equal_length_does_not_compile_again(model):
    make_engine(model, SamplingConfig(solver="ddim", steps=9, batch_size=8))
    before = program.compiled.cache_info().misses
    for options in ({"solver": "unipc"}, {"solver": "dpmpp-2m"}, {"schedule": "quadratic"}, {"seed": 5}):
        make_engine(model, SamplingConfig(**{"solver": "ddim", "steps": 9, "batch_size": 8} | options))
    assert program.compiled.cache_info().misses == before
    # What adds noise is another program, whatever the solver.
    for options in ({"solver": "ddim", "eta": 0.7}, {"solver": "ddpm"}):
        make_engine(model, SamplingConfig(steps=9, batch_size=8, **options))
    assert program.compiled.cache_info().misses == before + 1


def test_bfloat16_stays_near_float32(model):
    """Stated: the median value within 0.05 on the log scale, the means within 0.05."""
    options = {"solver": "ddim", "steps": 10, "batch_size": 64}
    single, half = cells_of(model, 64, **options), cells_of(model, 64, dtype="bfloat16", **options)
    assert not np.array_equal(single, half)
    # A value at the threshold may fall on either side of zero, so the bulk is compared.
    assert np.median(np.abs(single - half)) < 0.05
    assert abs(single.mean() - half.mean()) < 0.05


def test_the_solver_computes_in_float32_whatever_the_network_does(model):
    engine = make_engine(model, SamplingConfig(steps=4, batch_size=8, dtype="bfloat16"))
    weights, (table, *_), rows, _ = engine.program.arguments
    assert {leaf.dtype for leaf in jax.tree.leaves(weights)} == {jnp.dtype("bfloat16")} == {table.dtype}
    assert rows.a.dtype == np.float32
    assert engine.dispatch(0).cells.dtype == np.float32


def test_the_table_of_conditioning_equals_conditioning_every_cell(model):
    """Stated: 2e-4 on the log scale, after all steps."""
    config = SamplingConfig(solver="dpmpp-2m", steps=8, batch_size=8)
    prediction = make_prediction(model.config.diffusion.prediction, model.metadata.scaling)
    network = DiT(model.config.network, 24, prediction.outputs)
    table = coefficients_for(model.config.diffusion, config)

    def predict_clean(noisy, alpha_bar, timestep):
        predicted = network.apply(model.params, noisy, jnp.full(len(noisy), timestep))
        return prediction.clean(noisy, predicted, alpha_bar)

    keys = cell_keys(jax.random.key(0), jnp.arange(8))
    slow = jax.jit(lambda: integrate(predict_clean, keys, table, jnp.asarray(table.timestep), genes=24))()
    expected = np.asarray(model.metadata.scaling.unscale(slow.cells))
    np.testing.assert_allclose(cells_of(model, 8, solver="dpmpp-2m", steps=8, batch_size=8), expected, atol=2e-4)


def test_no_conditioning_layers_travel_with_the_weights(model):
    weights, table = prepare(model.params, jnp.arange(1, 6), network=DiT(model.config.network, 24, 3), dtype="float32")
    assert not {"timestep_in", "timestep_out", "modulation"} & set(weights["params"])
    assert table.shape == (5, 1, 6 * 2 + 2, 16)


def test_no_layers_of_the_body_travel_with_the_conditioning(model):
    network, timesteps = DiT(model.config.network, 24, 3), jnp.arange(1, 6)
    kept = conditioning_params(model.params, "float32")
    assert "blocks" in model.params["params"]
    assert not {"blocks", "patchify", "summarise", "tell", "unpatchify"} & set(kept["params"])
    whole, apart = (network.apply(params, timesteps, method="modulations") for params in (model.params, kept))
    np.testing.assert_array_equal(whole, apart)


def broken(model, **biases):
    params = {"params": dict(model.params["params"]) | biases}
    return type(model)(model.config, model.metadata, params, model.step)


def test_a_model_that_is_not_finite_stops_at_its_first_step_with_the_cells_named(model):
    params = jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), model.params)
    nothing = type(model)(model.config, model.metadata, params, model.step)
    with pytest.raises(Diverged, match=r"5 of cells 0 to 4 stopped being finite at step 1 \(timestep 20\) of 3;"):
        cells_of(nothing, 5, solver="dpmpp-2m", steps=3, batch_size=8)


def test_cells_that_break_along_the_way_name_the_range_of_steps(model, monkeypatch):
    whole = ZeroInflated.clean

    def breaks(prediction, noisy, predicted, alpha_bar):
        clean = whole(prediction, noisy, predicted, alpha_bar)
        # From where the level is above a half, a cell breaks as its first gene crosses a threshold.
        return jnp.where((alpha_bar > 0.3) & (noisy[:, :1] > -0.5 - alpha_bar), jnp.nan, clean)

    monkeypatch.setattr(ZeroInflated, "clean", breaks)
    program.compiled.cache_clear()
    sample_batch.clear_cache()
    try:
        with pytest.raises(Diverged, match=r"of cells 0 to 63 stopped being finite at steps \d+ to \d+ \(timesteps"):
            cells_of(model, 64, solver="ddim", steps=10, batch_size=64)
    finally:
        program.compiled.cache_clear()
        sample_batch.clear_cache()


def test_a_batch_that_does_not_fit_names_the_largest_that_does(model, monkeypatch):
    config = SamplingConfig(steps=3, batch_size=512)
    needed = make_engine(model, config).program.bytes_needed
    monkeypatch.setattr(program, "free_memory", lambda device: needed // 2)
    with pytest.raises(BadConfig, match=r"a batch of 512 cells needs .* the largest that fits is about (\d+)") as error:
        make_engine(model, config)
    largest = int(str(error.value).split("--batch-size ")[1].split(",")[0])
    assert 100 < largest < 256
    assert largest % 2 == 0
    assert make_engine(model, SamplingConfig(steps=3, batch_size=largest)).batch_size == largest


@pytest.mark.parametrize(
    ("dtype", "draws"), [("float32", False), ("bfloat16", False), ("bfloat16", True), ("int8", False), ("fp8", True)]
)
def test_the_sampler_lowers_for_every_platform(model, dtype, draws):
    options = {"solver": "distributional"} if draws else {"solver": "ddim", "eta": 1.0}
    table = coefficients_for(model.config.diffusion, SamplingConfig(steps=5, **options))
    network = DiT(model.config.network, 24, 3, labels=(2,), states=3)
    params = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 24)), jnp.ones(1, jnp.int32))
    random = np.random.default_rng(0)
    prior = fit_mixture(random.normal(size=(80, 3)), np.arange(80) % 2, 2, seed=0, components=2)
    states = States(3, 0.1, library_size=(2, 8.0, 0.5), target_sum=1e4)
    prediction = make_prediction("zero-inflated", SCALING)

    def run(params, indices):
        weights, rows = prepare(params, jnp.asarray(table.timestep), network=network, dtype=dtype)
        # Labels and a state for each cell, guidance, and whole counts.
        guide = Guide(rows, params, jnp.full(1, 2.0), NewConditions(jnp.zeros((2, 1), jnp.int32), prior, jnp.arange(2)))
        return sample_batch(
            weights, guide, table, jnp.uint32(0), indices, jnp.arange(4) % 2, jnp.zeros((4, 24)),
            sampled=Sampled(network, prediction, SCALING, Method(draws, noise=True), states),
        )  # fmt: skip

    platforms = ["cpu", "cuda", "tpu"]
    exported = jax.export.export(jax.jit(run), platforms=platforms)(params, jnp.arange(4))
    assert set(exported.platforms) == set(platforms)
    assert len(exported.mlir_module_serialized) > 10_000
