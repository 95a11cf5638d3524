"""Sampling in 8 bits: what is multiplied, that cells stay each other's strangers, and what is refused."""

import json
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.extend
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import scrdit_jax
from scrdit_jax.checkpoint import load_model
from scrdit_jax.config import DTYPES, SAMPLING_DTYPES, RunConfig, SamplingConfig
from scrdit_jax.errors import BadConfig, MissingExtra
from scrdit_jax.generation.composition import dense_batches
from scrdit_jax.generation.engine import make_engine
from scrdit_jax.generation.quantisation import EIGHT_BITS, denoise, round_weights
from scrdit_jax.generation.settings import resolve_sampling
from scrdit_jax.networks.dit import DiT, DiTConfig
from scrdit_jax.networks.unet import UNet, UNetConfig

IN_8_BITS = sorted(EIGHT_BITS)
GENES = 24


class OneLayer(nn.Module):
    """A dense layer in a network's place."""

    genes: int = GENES

    def setup(self):
        self.layer = nn.Dense(7)

    def denoise(self, cells, modulations):
        return self.layer(cells)


@pytest.fixture(scope="module")
def model(tiny_run):
    return load_model(tiny_run)


@pytest.fixture(scope="module", params=IN_8_BITS)
def engine(request, model):
    return make_engine(model, SamplingConfig(solver="ddim", eta=1.0, steps=4, batch_size=8, dtype=request.param))


def one_layer(dtype):
    """(network, float32 kernel (gene, 7), bias, weights of 8 bits)."""
    rng = np.random.default_rng(3)
    kernel = (rng.normal(size=(GENES, 7)) * np.logspace(-2, 2, 7)).astype(np.float32)
    bias = rng.normal(size=7).astype(np.float32)
    layers = {"layer": {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)}}
    return OneLayer(), kernel, bias, {"params": round_weights(OneLayer(), layers, jnp.zeros((1, 1)), dtype)}


def rounded(values, dtype, axis):
    """`values`, float64, as they are after absmax quantisation along `axis`."""
    greatest = np.abs(values).max(axis=axis, keepdims=True)
    if dtype == "int8":
        return np.rint(values / greatest * 127) * greatest / 127
    return (values / greatest * 448).astype(ml_dtypes.float8_e4m3fn).astype(np.float64) * greatest / 448


@pytest.mark.parametrize("dtype", IN_8_BITS)
def test_a_product_is_that_of_rounded_factors(dtype):
    network, kernel, bias, weights = one_layer(dtype)
    cells = np.random.default_rng(4).normal(size=(16, GENES)).astype(ml_dtypes.bfloat16)
    cells[3] = 0
    made = np.asarray(denoise(network, weights, jnp.asarray(cells), jnp.zeros((1, 1))))
    exact, whole = cells.astype(np.float64), kernel.astype(np.float64)
    with np.errstate(invalid="ignore"):
        rows = np.nan_to_num(rounded(exact, dtype, 1))
    expected = rows @ rounded(whole, dtype, 0) + bias
    # Twice rounded to bfloat16: the product and its sum with the bias.
    size = np.abs(expected).max(axis=0)
    assert np.all(np.abs(made - expected) <= 2**-7 * size)
    # Rounding factors moves products further than that.
    assert np.max(np.abs(exact @ whole + bias - expected) / size) > 2**-7


@pytest.mark.parametrize("dtype", IN_8_BITS)
def test_a_cell_does_not_depend_on_those_beside_it(dtype):
    network, _, _, weights = one_layer(dtype)
    cells = jax.random.normal(jax.random.key(0), (4, GENES))
    beside = cells.at[0].multiply(1000.0)
    alone, together = (np.asarray(denoise(network, weights, of, jnp.zeros((1, 1)))) for of in (cells, beside))
    assert not np.array_equal(alone[0], together[0])
    np.testing.assert_array_equal(alone[1:], together[1:])


def test_cells_are_the_same_in_other_batches_and_on_other_devices(engine, model):
    dtype = next(name for name, kind in EIGHT_BITS.items() if kind.factors == kernels_of(engine)["qkv"].qvalue.dtype)
    assert len(engine.devices) == 2
    options = SamplingConfig(solver="ddim", eta=1.0, steps=4, batch_size=16, dtype=dtype)
    one = make_engine(model, options, devices=jax.local_devices()[:1])
    here, there = (np.concatenate(list(dense_batches(each, 16))) for each in (engine, one))
    np.testing.assert_allclose(here, there, rtol=1e-5, atol=1e-5)
    assert np.isfinite(here).all()


def kernels_of(engine):
    return {name: layer["kernel"] for name, layer in engine.program.arguments[0]["params"]["blocks"].items()}


def test_kernels_are_of_8_bits_with_a_scale_for_each_layer_and_channel(engine):
    kernels = kernels_of(engine)
    assert {name: kernel.scale.shape for name, kernel in kernels.items()} == {
        "qkv": (2, 1, 48), "projection": (2, 1, 16), "mlp_in": (2, 1, 64), "mlp_out": (2, 1, 16),
    }  # fmt: skip
    assert {kernel.scale.dtype for kernel in kernels.values()} == {np.dtype("float32")}
    assert sum(kernel.qvalue.nbytes for kernel in kernels.values()) == 2 * 12 * 16**2  # a quarter of float32
    scales = np.asarray(kernels["qkv"].scale)
    assert len(np.unique(scales)) > scales.size / 2
    rest = [layer["bias"].dtype for layer in engine.program.arguments[0]["params"]["blocks"].values()]
    assert {str(dtype) for dtype in rest} == {"bfloat16"}


def products_of(network, dtype):
    """(dtypes of the factors, dtype of what comes out) of every matrix product of `denoise`."""
    timestep = jnp.ones(1, jnp.int32)
    params = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, GENES)), timestep)
    table = jax.eval_shape(lambda p: network.apply(p, timestep, method="modulations"), params)

    def run(params, table, cells):
        return denoise(network, {"params": round_weights(network, params["params"], table, dtype)}, cells, table)

    program = jax.make_jaxpr(run)(params, table, jnp.zeros((4, GENES)))

    def equations(jaxpr):
        for equation in jaxpr.eqns:
            yield equation
            for inner in jax.extend.core.jaxprs_in_params(equation.params):
                yield from equations(inner)

    found = [e for e in equations(program.jaxpr) if e.primitive.name in ("dot_general", "conv_general_dilated")]
    return [(e.primitive.name, *(str(v.aval.dtype) for v in (*e.invars, *e.outvars))) for e in found]


@pytest.mark.parametrize(
    ("dtype", "words"), [("int8", ["int8"] * 2 + ["int32"]), ("fp8", ["float8_e4m3fn"] * 2 + ["bfloat16"])]
)
def test_inner_layers_multiply_8_bits_and_attention_and_output_do_not(dtype, words):
    found = products_of(DiT(DiTConfig(genes_per_token=4, width=16, depth=1, heads=2, summary_token=True), GENES), dtype)
    dense = ["dot_general", *words]
    # Of attention, the scores come in float32 for the softmax; the output is made by two layers.
    others = [["dot_general", *["bfloat16"] * 2, out] for out in ("bfloat16", "float32", "bfloat16", "bfloat16")]
    assert sorted(map(list, found)) == sorted([dense] * 6 + others)


def test_convolutions_stay_as_they_are():
    found = products_of(UNet(UNetConfig(channels=2, heads=2), GENES), "int8")
    convolutions = [words for name, *words in found if name == "conv_general_dilated"]
    assert convolutions
    assert all(words == ["bfloat16"] * 3 for words in convolutions)
    assert ("dot_general", "int8", "int8", "int32") in found


def test_cells_say_what_they_were_computed_in(tiny_run):
    cells = scrdit_jax.sample(tiny_run, 8, steps=2, batch_size=8, dtype="int8")
    assert json.loads(cells.uns["scrdit"]["provenance"])["sampling"]["dtype"] == "int8"


@pytest.mark.parametrize("dtype", IN_8_BITS)
def test_without_the_library_one_line_says_how_to_install_it(dtype, tiny_run, scrdit, monkeypatch):
    monkeypatch.setitem(sys.modules, "qwix", None)
    code, output = scrdit("sample", tiny_run.path, "--cells", 4, "--dtype", dtype, "--out", "atlas")
    assert code == 2
    assert not Path("atlas").exists()
    assert output.strip().splitlines()[-1].endswith("qwix is not installed; run: pip install 'scrdit_jax[quantised]'")
    # Before anything is made of the request.
    with pytest.raises(MissingExtra):
        resolve_sampling(load_model(tiny_run), SamplingConfig(dtype=dtype))


def test_training_takes_no_8_bits(scrdit):
    assert set(IN_8_BITS) == set(SAMPLING_DTYPES) - set(DTYPES)
    with pytest.raises(BadConfig, match="dtype is 'int8'; it must be one of float32, bfloat16"):
        RunConfig().with_settings({"dtype": "int8"})
    code, output = scrdit("train", "pbmc3k", "--dtype", "int8", "--out", "run")
    assert code == 2
    assert "'int8' is not one of 'float32', 'bfloat16'" in output
