"""Many cells of all genes: what is measured of a small network and of a run."""

import json

import pytest
from click.testing import CliRunner

from benchmarks.speed import transcriptome


@pytest.mark.slow
@pytest.mark.parametrize("counts", [(), ("--counts",)])
def test_it_is_sampled_assembled_and_opened(tiny_run, tmp_path, counts):
    out = tmp_path / "new" / "found.json"
    result = CliRunner().invoke(
        transcriptome.main, [str(tiny_run.path), "--cells", "200", *counts, "--out", str(out)]
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    found = json.loads(out.read_text())
    assert [row["cells"] for row in found["shards"]] == [20, 200]
    for row in found["shards"]:
        assert 0 < row["zeros"] < 1
        assert min(row["peak_gb"], row["bytes_per_cell"], row["cells_per_second"]) > 0
    assert (found["open"]["cells"], found["open"]["genes"]) == (200, 24)
    assert found["open"]["read_zeros"] == pytest.approx(found["shards"][1]["zeros"])
    assert found["assemble"]["gb_written"] > 0
    assert list(out.parent.iterdir()) == [out]


def test_no_run_is_one_line(tmp_path):
    result = CliRunner().invoke(transcriptome.main, [str(tmp_path), "--out", str(tmp_path / "found.json")])
    assert result.exit_code == 2
    assert len(result.output.strip().splitlines()) == 1
