"""Compiled programs are read right: operations and bytes against what is known of them, and what must be found is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.speed.compile import __main__ as command
from benchmarks.speed.compile.chips import CHIPS
from benchmarks.speed.compile.compiling import Program
from benchmarks.speed.compile.costs import bytes_of, flops_of
from benchmarks.speed.compile.hlo import Module, arrays
from benchmarks.speed.compile.judging import attention, judge, product_dtypes, scaled_bias
from benchmarks.speed.compile.programs import described, sampler
from benchmarks.speed.compile.tables import faults, roofline, table

CHIP = CHIPS["v5e"]


def module(body: str, *others: str) -> Module:
    """A program of these lines, with other computations before it."""
    return Module.parse(
        "\n\n".join(["HloModule test", *others, "ENTRY %main (p: f32[]) -> f32[] {\n" + body + "\n}\n"])
    )


def test_shapes_are_read_with_their_place_in_memory():
    plain, chip = arrays("(f32[2,3]{1,0:T(8,128)}, /*index=1*/bf16[4]{0:T(128)(2,1)S(1)})")
    assert (plain.dtype, plain.sizes, plain.bytes, plain.in_main_memory) == ("f32", (2, 3), 24, True)
    assert (chip.dtype, chip.bytes, chip.in_main_memory) == ("bf16", 8, False)
    assert [one.bytes for one in arrays("(pred[3], s8[5], f8e4m3fn[7], u32[])")] == [3, 5, 7, 4]


def test_operations_of_a_compiled_program_are_counted_through_its_loops():
    def run(x, w):
        def step(x, _):
            return jnp.tanh(x @ w), None

        return jax.lax.scan(step, x, None, length=7)[0] @ w[:, :5]

    compiled = jax.jit(run).lower(jnp.zeros((4, 32)), jnp.zeros((32, 32))).compile()
    read = Module.parse(compiled.as_text())
    found = judge(read, read.entry, CHIP, 1)
    assert found["gflop_a_cell"] * 1e9 == pytest.approx(7 * 2 * 4 * 32 * 32 + 2 * 4 * 32 * 5)
    body = judge(read, read.body(7), CHIP, 4)
    assert body["gflop_a_cell"] * 1e9 == pytest.approx(2 * 32 * 32)
    assert found["collectives"] == found["host_transfers"] == 0


@pytest.mark.parametrize(
    ("line", "flops"),
    [
        # Batched products as a TPU has them: windows over the batch with holes in between. From a compiled sampler.
        ("%c = f32[16,8,200,200]{2,3,1,0} convolution(%a, %b), window={size=16x8 stride=15x7 pad=0_0x0_-128 "
         "lhs_dilate=16x8}, dim_labels=0b1f_0o1i->01bf", 2 * 16 * 8 * 200 * 200 * 96),
        ("%c = bf16[16,200,2304]{2,1,0} convolution(%d, %e), window={size=1}, dim_labels=0bf_io0->0bf",
         2 * 16 * 200 * 2304 * 768),
    ],
)  # fmt: skip
def test_products_written_as_convolutions(line, flops):
    inputs = """  %a = bf16[16,200,8,96]{3,2,1,0} parameter(0)
  %b = bf16[16,200,8,96]{3,2,1,0} parameter(1)
  %d = bf16[16,200,768]{2,1,0} parameter(2)
  %e = bf16[768,2304,1]{1,0,2} parameter(3)
"""
    read = module(inputs + "  ROOT " + line)
    assert flops_of(read, read.by_name["c"]) == flops


CALLS = """  %x = bf16[512,768]{1,0} parameter(0)
  %w = bf16[768,3072]{1,0} parameter(1)
  %b = bf16[3072]{0} parameter(2)
  %gemm = (bf16[512,3072]{1,0}, s8[33554432]{0}) custom-call(%x, %w, %b), custom_call_target="__cublas$lt$matmul", \
backend_config={"gemm_backend_config":{"alpha_real":ALPHA,"beta":0,"epilogue":"BIAS_GELU",\
"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"]}}}
  %s = bf16[512,8,200,96]{3,1,2,0} custom-call(%x, %x, %x), custom_call_target="__cudnn$fmhaSoftmax"
  %scores = f32[512,8,200,200]{3,2,1,0} add(%x, %x)
  %sum = f32[8]{0} all-reduce(%b), to_apply=%none
  ROOT %there = f32[8]{0} outfeed(%sum)"""


def test_library_calls_exchanges_and_scores_are_seen():
    read = module(CALLS.replace("ALPHA", "1"))
    gemm = read.by_name["gemm"]
    assert flops_of(read, gemm) == 2 * 512 * 768 * 3072
    assert bytes_of(read, gemm) == 2 * (512 * 768 + 768 * 3072 + 3072 + 512 * 3072)
    assert product_dtypes(read, "main") == {"bf16 x bf16 -> bf16": 1.0}
    assert attention(read, "main") == {
        "kernel": "__cudnn$fmhaSoftmax", "scores_megabytes": 4 * 512 * 8 * 200 * 200 / 1e6
    }  # fmt: skip
    found = judge(read, "main", CHIP, 512)
    assert found["collectives"] == found["host_transfers"] == 1


def test_a_factor_that_does_not_reach_the_bias_is_seen():
    assert scaled_bias(module(CALLS.replace("ALPHA", "1")), "main") == 0
    assert scaled_bias(module(CALLS.replace("ALPHA", "0.5")), "main") == 1


FUSED = """%fused (q: f32[20,768], r: s32[]) -> f32[1,768] {
  %q = f32[20,768]{1,0} parameter(0)
  %r = s32[] parameter(1)
  ROOT %slice = f32[1,768]{1,0} dynamic-slice(%q, %r), dynamic_slice_sizes={1,768}
}"""


def test_only_what_moves_is_counted():
    read = module(
        """  %table = f32[20,768]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %row = f32[1,768]{1,0} fusion(%table, %i), kind=kLoop, calls=%fused
  %near = f32[20,768]{1,0:S(1)} fusion(%table), kind=kLoop, calls=%other
  %far = (f32[20,768]{1,0:S(1)}, f32[20,768]{1,0}, u32[]) copy-start(%table)
  ROOT %same = f32[15360]{0} bitcast(%table)""",
        FUSED,
    )
    # A row read and written (and its number), a table read and kept on the chip, and the same by a copy.
    assert bytes_of(read, read.by_name["row"]) == 2 * 4 * 768 + 4
    assert bytes_of(read, read.by_name["near"]) == 4 * 20 * 768
    assert bytes_of(read, read.by_name["far"]) == 4 * 20 * 768
    assert bytes_of(read, read.by_name["same"]) == 0


def test_time_is_that_of_the_slower_of_products_and_memory():
    found = judge(module(CALLS.replace("ALPHA", "1")), "main", CHIP, 512)
    assert found["cells_a_second_by_operation"] < found["cells_a_second_by_flops"]
    seconds = 512 / found["cells_a_second_by_operation"]
    assert seconds > 4 * 512 * 8 * 200 * 200 / CHIP.bandwidth


@pytest.mark.parametrize("preset", ["paper", "demo"])
def test_the_sampler_that_is_judged_is_the_real_one(preset):
    """Lowered here for this machine's own device, its loop does what `flops_per_evaluation` says."""
    model = described(preset)
    lowered = sampler(model, jax.devices()[:1], 8, 3, dtype="float32", attention="xla")
    read = Module.parse(lowered.compile().as_text())
    found = judge(read, read.body(3), CHIP, 8)
    # What a cell's state adds to the conditioning is not in it.
    assert found["gflop_a_cell"] * 1e9 == pytest.approx(model.flops, rel=0.02 if preset == "paper" else 0.12)
    assert found["gflop_a_cell"] * 1e9 >= 0.999 * model.flops


def row(**changes):
    found = judge(module(CALLS.replace("ALPHA", "1")), "main", CHIP, 512)
    plain = {**Program("v5e", "paper", "sampler", 512)._asdict(), "temporary_megabytes": 1.0, **found}
    return plain | changes


def test_a_fault_is_told_and_a_table_and_a_picture_are_made():
    assert faults([row(collectives=0, host_transfers=0)]) == []
    told = faults(
        [row(), row(kind="step", scaled_bias=2), {**Program("v5e", "paper", "step", 8)._asdict(), "error": "no"}]
    )
    assert len(told) == 4
    assert "1 collectives in sampling" in told[0]
    assert "jax#39336" in told[2]
    assert "does not compile: no" in told[3]
    assert "| v5e | paper sampler 512 x 20 |" in table([row()])
    assert roofline([row(), row(kind="step")]).startswith(b"\x89PNG")


def test_without_a_compiler_the_command_that_installs_it_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(command, "interpreter", lambda chip: None)
    result = CliRunner().invoke(command.main, ["--out", str(tmp_path / "out"), "--chip", "v5e", "--small"])
    assert result.exit_code == 1
    assert result.output.strip() == "Error: v5e need a compiler; install it with: scripts/compilers tpu"
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_one_program_a_chip_is_compiled_where_the_compilers_are(tmp_path):
    there = [chip.name for chip in CHIPS.values() if command.interpreter(chip)]
    if not there:
        pytest.skip("no compiler is installed: scripts/compilers")
    result = CliRunner().invoke(
        command.main, ["--out", str(tmp_path), "--small", *(f"--chip={name}" for name in there)]
    )
    assert result.exit_code == 0, result.output
    assert len((tmp_path / "table.md").read_text().splitlines()) == 2 + len(there)
    assert np.all([name in result.output for name in there])
